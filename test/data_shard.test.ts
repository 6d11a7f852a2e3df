/** Shards and preparation: round trips, damage, interruption. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { readManifest } from '../src/data/manifest.ts';
import { type DocumentEncoder, type EncodedBatch, type PrepareOptions, prepare } from '../src/data/prepare.ts';
import { ShardReader, ShardWriter, type TokenSpace } from '../src/data/shard.ts';
import { FormatError, UsageError } from '../src/util/errors.ts';

const folder = mkdtempSync(join(tmpdir(), 'fat5-shard-'));
after(() => rmSync(folder, { recursive: true }));
let files = 0;
const fresh = (): string => join(folder, String(files++));
const hash = createHash('sha256').update('bytes').digest('hex');

function write(space: TokenSpace, documents: number[][]): string {
  const path = fresh();
  const writer = new ShardWriter(path, space);
  for (const document of documents) writer.append(Int32Array.from(document));
  writer.finish();
  return path;
}

function read(path: string): number[][] {
  const shard = new ShardReader(path);
  try {
    return Array.from({ length: shard.documents }, (_, d) => {
      const [start, end] = [shard.startOf(d), shard.startOf(d + 1)];
      const tokens = new Int32Array(end - start);
      shard.copy(start, end, tokens, 0);
      return [...tokens];
    });
  } finally {
    shard.close();
  }
}

test('documents come back from a shard as they were written, with 16 and 32 bits', () => {
  for (const vocab_size of [2 ** 16, 2 ** 16 + 1, 250112])
    fc.assert(
      fc.property(fc.array(fc.array(fc.nat(vocab_size - 1), { maxLength: 40 }), { maxLength: 20 }), (documents) => {
        const path = write({ vocab_size, hash }, documents);
        assert.deepEqual(read(path), documents);
        rmSync(path);
      }),
      { numRuns: 30, seed: 5 },
    );
});

/** A shard of several checksum blocks. */
function largeShard(): string {
  const random = Array.from({ length: 300 }, (_, d) =>
    Array.from({ length: 1500 }, (_, i) => (d * 7919 + i * 104729) % 32768),
  );
  return write({ vocab_size: 32768, hash }, random);
}

test('one flipped byte anywhere is a FormatError that names the file, never other tokens', () => {
  const path = largeShard();
  const whole = readFileSync(path);
  const wanted = read(path);
  const damaged = fresh();
  fc.assert(
    fc.property(fc.nat(whole.length - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
      const bytes = Buffer.from(whole);
      bytes[at] = bytes[at]! ^ flip;
      writeFileSync(damaged, bytes);
      assert.throws(
        () => read(damaged),
        (error: Error) => error instanceof FormatError && error.message.startsWith(damaged),
      );
    }),
    {
      numRuns: 60,
      seed: 1,
      examples: [
        [0, 1],
        [9, 1],
        [20, 255],
        [40, 1],
        [125, 1],
        [128, 1],
        [whole.length - 1, 128],
      ],
    },
  );
  const second = Buffer.from(whole);
  second[128 + 262144 + 5]! ^= 4;
  writeFileSync(damaged, second);
  assert.throws(() => read(damaged), /block 1 \(bytes 262272 to 524416\) does not match its checksum/);
  writeFileSync(damaged, whole);
  assert.deepEqual(read(damaged), wanted);
});

test('any truncation or random content is a FormatError', () => {
  const whole = readFileSync(largeShard());
  const damaged = fresh();
  const rejected = () => assert.throws(() => read(damaged), FormatError);
  for (const length of [0, 7, 127, 128, 1000, whole.length - 1]) {
    writeFileSync(damaged, whole.subarray(0, length));
    rejected();
  }
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
      writeFileSync(damaged, bytes);
      rejected();
      writeFileSync(damaged, Buffer.concat([whole.subarray(0, 64), bytes]));
      rejected();
    }),
    { numRuns: 50, seed: 2 },
  );
});

test('a shard that shrinks after it was opened is an error, not a crash', () => {
  const path = largeShard();
  const shard = new ShardReader(path);
  truncateSync(path, 200000);
  assert.throws(
    () => shard.copy(250000, 250100, new Int32Array(100), 0),
    /has nothing at byte 262272, expected 262144 bytes/,
  );
  assert.throws(() => shard.verify(), FormatError);
  shard.close();
});

test('a token outside the vocabulary is refused when written', () => {
  const writer = new ShardWriter(fresh(), { vocab_size: 100, hash });
  assert.throws(() => writer.append(Int32Array.of(3, 100)), /token 100 of document 0, expected below vocab_size 100/);
  writer.abandon();
});

/** Bytes as tokens. */
const bytesEncoder: DocumentEncoder = {
  vocab_size: 256,
  hash,
  encodeBatch(texts) {
    const parts = texts.map((text) => Buffer.from(text));
    const offsets = [0];
    for (const part of parts) offsets.push(offsets[offsets.length - 1]! + part.length);
    return { ids: Int32Array.from(Buffer.concat(parts)), offsets };
  },
};

const texts = Array.from({ length: 400 }, (_, i) => `document ${i} ${'x'.repeat((i * 37) % 190)}`);
const sources = (() => {
  const lines = texts.map((text, i) => `${JSON.stringify({ text })}\n${i % 90 === 3 ? '{"bad"\n' : ''}`);
  const paths = [join(folder, 'one.jsonl.gz'), join(folder, 'two.jsonl')];
  writeFileSync(paths[0]!, gzipSync(lines.slice(0, 250).join('')));
  writeFileSync(paths[1]!, lines.slice(250).join(''));
  return paths;
})();

const options = (output: string, more: Partial<PrepareOptions> = {}): PrepareOptions => ({
  sources,
  output,
  tokenizer: bytesEncoder,
  shard_tokens: 5000,
  validation_every: 10,
  skip_bad: true,
  ...more,
});

const contents = (output: string): Record<string, string> =>
  Object.fromEntries(readdirSync(output).map((name) => [name, readFileSync(join(output, name), 'latin1')]));

function documentsOf(output: string, split: 'train' | 'validation'): string[] {
  return readManifest(output)!.splits[split].flatMap(({ file }) =>
    read(join(output, file)).map((document) => Buffer.from(document).toString()),
  );
}

test('an empty list of held-out sources is none', async () => {
  const manifest = await prepare(options(fresh(), { validation_sources: [], validation_every: 0 }));
  assert.equal(manifest.splits.validation.length, 0);
});

test('prepare keeps every document once and in order, splits by text, counts bad lines', async () => {
  const output = fresh();
  const bad: string[] = [];
  let last = { bytes: 0, total_bytes: 0, tokens: 0, documents: 0 };
  const manifest = await prepare(options(output), { bad: (line) => bad.push(line), progress: (p) => (last = p) });
  const train = documentsOf(output, 'train');
  const validation = documentsOf(output, 'validation');
  assert.deepEqual([...train, ...validation].sort(), [...texts].sort());
  assert.deepEqual(
    train,
    texts.filter((text) => !validation.includes(text)),
  );
  assert.ok(validation.length > 15 && validation.length < 90, `${validation.length} held out of 400`);
  assert.ok(manifest.splits.train.length > 4);
  assert.equal(manifest.bad, 5);
  assert.match(bad[0]!, /one\.jsonl\.gz:5: invalid JSON/);
  assert.equal(last.bytes, last.total_bytes);
  assert.equal(last.documents, 400);
  assert.equal(last.tokens, texts.join('').length);
});

test('an interrupted prepare goes on and writes the same bytes as an uninterrupted one', async () => {
  const whole = fresh();
  await prepare(options(whole));
  const resumed = fresh();
  // The encoder fails at one document after another: what is in finished shards by then must not be made again.
  for (const failAt of [0, 33, 34, 150, 151, 399]) {
    const failing: DocumentEncoder = {
      ...bytesEncoder,
      encodeBatch(batch) {
        const encoded = bytesEncoder.encodeBatch(batch) as EncodedBatch;
        const at = batch.indexOf(texts[failAt]!);
        if (at >= 0) encoded.ids[encoded.offsets[at]!] = 256;
        return encoded;
      },
    };
    const before = readManifest(resumed)?.documents ?? 0;
    await assert.rejects(prepare(options(resumed, { tokenizer: failing })), /token 256 of document/);
    const after = readManifest(resumed)?.documents ?? 0;
    assert.ok(after >= before && after > failAt - 60 && after <= failAt, `${after} documents kept before ${failAt}`);
    assert.deepEqual(existsSync(resumed) ? readdirSync(resumed).filter((name) => name.endsWith('.tmp')) : [], []);
  }
  const manifest = await prepare(options(resumed));
  assert.ok(manifest.complete);
  assert.deepEqual(contents(resumed), contents(whole));
  assert.deepEqual(await prepare(options(resumed)), manifest); // nothing left to do
  await assert.rejects(prepare(options(resumed, { validation_every: 11 })), /prepared with other validation_every/);
});

test('prepare that is asked to stop keeps its finished shards, leaves no others, and goes on behind them', async () => {
  const [output, whole] = [fresh(), fresh()];
  const stopped = await prepare(options(output), { signal: AbortSignal.abort() });
  assert.equal(stopped.complete, false);
  assert.ok(stopped.documents > 0 && stopped.documents < 400, `${stopped.documents} documents`);
  assert.deepEqual(
    readdirSync(output).filter((name) => /\.tmp$|^\.lock$/.test(name)),
    [],
  );
  assert.deepEqual(readManifest(output), stopped);
  assert.ok((await prepare(options(output))).complete);
  await prepare(options(whole));
  assert.deepEqual(contents(output), contents(whole));
});

test('a full disk is one clear error, keeps the finished shards, and the run goes on once there is space', {
  skip: existsSync('/dev/full') ? false : 'this system has no /dev/full',
}, async () => {
  const output = fresh();
  const full: DocumentEncoder = {
    ...bytesEncoder,
    encodeBatch(batch) {
      symlinkSync('/dev/full', join(output, 'train-00002.tokens.tmp'));
      return bytesEncoder.encodeBatch(batch);
    },
  };
  await assert.rejects(prepare(options(output, { tokenizer: full })), (error: Error) => {
    assert.ok(error instanceof UsageError);
    assert.match(error.message, /train-00002\.tokens: no space left in .*run the same command again/);
    return true;
  });
  assert.equal(readManifest(output)!.splits.train.length, 2);
  assert.ok((await prepare(options(output))).complete);
  const whole = fresh();
  await prepare(options(whole));
  assert.deepEqual(contents(output), contents(whole));
});

test('missing, empty and doubly named sources are usage errors', async () => {
  const empty = join(folder, 'empty.txt');
  writeFileSync(empty, ' \n\n');
  await assert.rejects(
    prepare(options(fresh(), { sources: [join(folder, 'nothing.txt')] })),
    /nothing\.txt: not found/,
  );
  await assert.rejects(prepare(options(fresh(), { sources: [empty] })), /empty\.txt: no document has any text/);
  await assert.rejects(
    prepare(options(fresh(), { validation_sources: sources })),
    /named by sources and by validation/,
  );
  await assert.rejects(prepare(options(fresh(), { validation_every: 1 })), UsageError);
  const unknown = join(folder, 'late.dat');
  writeFileSync(unknown, 'x');
  const untouched = fresh();
  await assert.rejects(
    prepare(options(untouched, { sources: [...sources, unknown] })),
    /late\.dat: unknown kind of file/,
  );
  assert.ok(!existsSync(untouched));
});

test('a damaged manifest or a missing shard is a FormatError', async () => {
  const output = fresh();
  await prepare(options(output));
  const index = join(output, 'index.json');
  const good = readFileSync(index, 'utf8');
  for (const bad of [
    '{',
    '{}',
    good.replace('"train-00000.tokens"', '"../x"'),
    good.replace('"complete": true', '"complete": 1'),
  ]) {
    writeFileSync(index, bad);
    assert.throws(() => readManifest(output), FormatError);
  }
  writeFileSync(index, good);
  rmSync(join(output, 'train-00001.tokens'));
  await assert.rejects(prepare(options(output)), /train-00001\.tokens: is missing/);
});
