import assert from 'node:assert/strict';
import { test } from 'node:test';
import { relativeBucket, saturationRadius } from '../src/ops/relative_bias/relative_bias.ts';

/** The smallest distance of each bucket that holds more than one. */
function edges(options: { bidirectional: boolean; maxDistance: number }, numBuckets: number): [number, number][] {
  const found: [number, number][] = [];
  for (let distance = 1; distance < 400; distance++) {
    const bucket = relativeBucket(-distance, numBuckets, options);
    if (bucket !== relativeBucket(1 - distance, numBuckets, options) && bucket !== distance)
      found.push([distance, bucket]);
  }
  return found;
}

// From Hugging Face's T5Attention._relative_position_bucket, which takes the logarithm in float32.
test('buckets begin where Hugging Face has them', () => {
  assert.deepEqual(edges({ bidirectional: true, maxDistance: 128 }, 32), [
    [12, 9],
    [16, 10],
    [23, 11],
    [32, 12],
    [46, 13],
    [64, 14],
    [91, 15],
  ]);
  const decoder = [19, 21, 24, 27, 31, 35, 40, 46, 52, 59, 67, 77, 87, 99, 113];
  assert.deepEqual(
    edges({ bidirectional: false, maxDistance: 128 }, 32),
    decoder.map((distance, i) => [distance, 17 + i]),
  );
});

test('keys after the query have the upper half of the buckets, or share the lowest', () => {
  for (const distance of [1, 7, 8, 50, 1000]) {
    const before = relativeBucket(-distance, 32, { bidirectional: true, maxDistance: 128 });
    assert.equal(relativeBucket(distance, 32, { bidirectional: true, maxDistance: 128 }), 16 + before);
    assert.equal(relativeBucket(distance, 32, { bidirectional: false, maxDistance: 128 }), 0);
  }
});

test('beyond the saturation radius no bucket changes, at it one does', () => {
  for (const bidirectional of [true, false])
    for (const [numBuckets, maxDistance] of [
      [32, 128],
      [16, 24],
      [64, 256],
      [16, 4],
    ] as const) {
      const options = { bidirectional, maxDistance };
      const radius = saturationRadius(numBuckets, options);
      const bucket = (relative: number) => relativeBucket(relative, numBuckets, options);
      assert.notEqual(bucket(-radius), bucket(1 - radius));
      for (let distance = radius; distance < 1000; distance++) {
        assert.equal(bucket(-distance), bucket(-radius));
        assert.equal(bucket(distance), bucket(radius));
      }
    }
});
