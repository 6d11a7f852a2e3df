import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import fc from 'fast-check';
import { openSafetensors } from '../src/model/safetensors.ts';
import { type TensorToWrite, writeSafetensors } from '../src/model/safetensors_write.ts';
import { toBfloat16 } from '../src/util/bfloat16.ts';
import { FormatError, UsageError } from '../src/util/errors.ts';

const folder = mkdtempSync(join(tmpdir(), 'fat5-safetensors-'));
after(() => rmSync(folder, { recursive: true }));
const path = join(folder, 'a.safetensors');

function tensor(name: string, dtype: TensorToWrite['dtype'], shape: number[], bytes: ArrayBufferView): TensorToWrite {
  const all = new Uint8Array(bytes.buffer as ArrayBuffer);
  const size = all.byteLength / shape.reduce((a, b) => a * b, 1);
  return { name, dtype, shape, read: async (start, count) => all.subarray(start * size, (start + count) * size) };
}

/** A file made by hand from a header and data. */
function file(header: unknown, data: Uint8Array | number = 0): void {
  const text = typeof header === 'string' ? header : JSON.stringify(header);
  const start = Buffer.alloc(8);
  start.writeBigUInt64LE(BigInt(Buffer.byteLength(text)));
  writeFileSync(path, Buffer.concat([start, Buffer.from(text), typeof data === 'number' ? Buffer.alloc(data) : data]));
}

const rejects = (why: RegExp) =>
  assert.throws(
    () => openSafetensors(path),
    (error: Error) => error instanceof FormatError && error.message.startsWith(path) && why.test(error.message),
  );

test('values of every float type come back, whole or in part', async () => {
  const f32 = Float32Array.of(1.5, -2.25, 1e-30, 3);
  const f16 = Uint16Array.of(0x3c00, 0xc000, 0x0001, 0x7bff, 0x7c00, 0x8000); // 1, -2, 2^-24, 65504, infinity, -0
  await writeSafetensors(path, [
    tensor('f32', 'F32', [2, 2], f32),
    tensor('bf16', 'BF16', [3], toBfloat16([1, -0.5, 256])),
    tensor('f16', 'F16', [6], f16),
    tensor('f64', 'F64', [1], Float64Array.of(0.1)),
    tensor('ids', 'I32', [2], Int32Array.of(-7, 9)),
  ]);
  const opened = openSafetensors(path);
  assert.deepEqual([...opened.readFloats('f32')], [...f32]);
  assert.deepEqual([...opened.readFloats('f32', 1, 2)], [...f32.subarray(1, 3)]);
  assert.deepEqual([...opened.readFloats('bf16')], [1, -0.5, 256]);
  assert.deepEqual([...opened.readFloats('f16')], [1, -2, 2 ** -24, 65504, Number.POSITIVE_INFINITY, -0]);
  assert.deepEqual([...opened.readFloats('f64')], [Math.fround(0.1)]);
  assert.deepEqual([...new Int32Array(opened.readBytes('ids').buffer)], [-7, 9]);
  assert.deepEqual(opened.entry('f32').shape, [2, 2]);
  assert.match(readFileSync(path, 'latin1'), /"__metadata__":\{"format":"pt"\}/);
  assert.throws(() => opened.readFloats('ids'), FormatError);
  assert.throws(() => opened.entry('g32'), /no tensor "g32"/);
  opened.close();
});

test('the data begins on a cache line, whatever the length of the header', async () => {
  for (const name of ['x', 'xyz', 'a longer name'.repeat(9)]) {
    await writeSafetensors(path, [tensor(name, 'F32', [1], Float32Array.of(1))]);
    assert.equal((8 + Number(readFileSync(path).readBigUInt64LE(0))) % 64, 0);
  }
});

test('damaged files are refused with the reason', () => {
  const x = { dtype: 'F32', shape: [2], data_offsets: [0, 8] };
  writeFileSync(path, 'abc');
  rejects(/3 bytes/);
  writeFileSync(path, Buffer.from('ffffffffffffff7f', 'hex'));
  rejects(/header claims/);
  writeFileSync(path, Buffer.concat([Buffer.from('ff00000000000000', 'hex'), Buffer.alloc(20)]));
  rejects(/header claims 255 bytes, the file has 20/);
  file('{"x":');
  rejects(/not JSON/);
  file('[1]');
  rejects(/not a JSON object/);
  file({ x }, 7);
  rejects(/the tensors take 8 bytes, the file has 7/);
  file({ x }, 9);
  rejects(/the file has 9/);
  file({ x: { ...x, shape: [3] } }, 8);
  rejects(/x is F32 \[3\] but has 8 bytes/);
  file({ x: { ...x, dtype: 'F31' } }, 8);
  rejects(/dtype "F31"/);
  file({ x: { ...x, dtype: 'constructor' } }, 8);
  rejects(/dtype "constructor"/);
  file({ x: { ...x, shape: [-2, -1] } }, 8);
  rejects(/shape \[-2,-1\]/);
  file({ x: { ...x, shape: [2 ** 40, 2 ** 40] } }, 8);
  rejects(/but has 8 bytes/);
  file({ x: { ...x, data_offsets: [8, 0] } }, 8);
  rejects(/data_offsets \[8,0\]/);
  file({ x, y: { ...x, data_offsets: [4, 12] } }, 12);
  rejects(/y starts at byte 4 of the data, expected 8/);
  file({ x, y: { ...x, data_offsets: [12, 20] } }, 20);
  rejects(/y starts at byte 12 of the data, expected 8/);
  file({ x, __metadata__: { format: 1 } }, 8);
  rejects(/__metadata__/);
  assert.throws(() => openSafetensors(join(folder, 'none')), UsageError);
});

test('no bytes whatever crash the reader', () => {
  const anything = fc.oneof(
    fc.uint8Array({ maxLength: 200 }),
    fc.jsonValue().map((value) => Buffer.from(JSON.stringify(value) ?? '')),
    fc
      .record({
        dtype: fc.constantFrom('F32', 'I64', 'U8', '__proto__', 'F'),
        shape: fc.array(fc.oneof(fc.nat(4), fc.integer(), fc.double()), { maxLength: 3 }),
        data_offsets: fc.array(fc.oneof(fc.nat(40), fc.integer(), fc.double()), { maxLength: 3 }),
      })
      .map((entry) => Buffer.from(JSON.stringify({ x: entry, ['__proto__']: entry }))),
  );
  fc.assert(
    fc.property(anything, fc.boolean(), fc.nat(64), (header, framed, dataBytes) => {
      if (framed) file(Buffer.from(header).toString('utf8'), dataBytes);
      else writeFileSync(path, header);
      try {
        const opened = openSafetensors(path);
        for (const name of opened.entries.keys()) opened.readBytes(name);
        opened.close();
      } catch (error) {
        assert.ok(error instanceof FormatError, String(error));
      }
    }),
    { numRuns: 500, seed: 1 },
  );
});

test('a flipped byte in the header is either refused or changes nothing but names and metadata', async () => {
  await writeSafetensors(path, [tensor('weight', 'F32', [2, 3], new Float32Array(6))]);
  const good = readFileSync(path);
  for (let at = 0; at < good.length - 24; at++) {
    const bad = Buffer.from(good);
    bad[at]! ^= 1 << (at % 8);
    writeFileSync(path, bad);
    try {
      const opened = openSafetensors(path);
      for (const { length } of opened.entries.values()) assert.ok(length === 6);
      opened.close();
    } catch (error) {
      assert.ok(error instanceof FormatError, String(error));
    }
  }
});

test('a failed write leaves the old file and no temporary one', async () => {
  await writeSafetensors(path, [tensor('x', 'F32', [1], Float32Array.of(5))]);
  const broken = {
    ...tensor('x', 'F32', [1], Float32Array.of(6)),
    read: () => Promise.reject(new Error('read failed')),
  };
  await assert.rejects(writeSafetensors(path, [broken]), /read failed/);
  const opened = openSafetensors(path);
  assert.deepEqual([...opened.readFloats('x')], [5]);
  opened.close();
  assert.deepEqual(readdirSync(folder), ['a.safetensors']);
  await assert.rejects(writeSafetensors(join(folder, 'none', 'b'), []), UsageError);
});

test('a full disk is one clear line', { skip: !existsSync('/dev/full') }, async () => {
  const { symlinkSync } = await import('node:fs');
  const target = join(folder, 'full.safetensors');
  symlinkSync('/dev/full', `${target}.tmp`);
  await assert.rejects(
    writeSafetensors(target, [tensor('x', 'F32', [1 << 16], new Float32Array(1 << 16))]),
    (error: Error) =>
      error instanceof UsageError && /full.safetensors: no space left in .*free some space/.test(error.message),
  );
  assert.ok(!existsSync(target));
});
