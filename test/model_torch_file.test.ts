/** pytorch_model.bin and sharded weights. The golden files are torch.save's of PyTorch 2.13: see the comments. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { T5EncoderModel, T5ForConditionalGeneration } from '../src/index.ts';
import { openSafetensors } from '../src/model/safetensors.ts';
import { writeSafetensors } from '../src/model/safetensors_write.ts';
import { openTorchFile } from '../src/model/torch_file.ts';
import { openWeights } from '../src/model/weights.ts';
import { FormatError, UsageError } from '../src/util/errors.ts';
import { published } from './model_configs.ts';

const golden = (name: string) => fileURLToPath(new URL(`../../test/golden/torch_${name}.bin`, import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'fat5-torch-'));
after(() => rmSync(folder, { recursive: true }));

// base = torch.randn(6, 4, generator=torch.Generator().manual_seed(1)); torch.save(OrderedDict(a=base.clone(),
// half=base.half(), bf=base.bfloat16(), view=base[2:4].clone(), ints=torch.arange(5), scalar=torch.tensor(2.5),
// shared=base, tail=base[3:]))
test('a file of torch.save gives the tensors it holds, views of one storage too', () => {
  const file = openTorchFile(golden('ok'));
  const first = [-1.5255959033966064, -0.7502318024635315, -0.6539809107780457, -1.6094847917556763];
  assert.deepEqual(
    [...file.entries].map(([name, { dtype, shape }]) => `${name} ${dtype} [${shape}]`),
    [
      'a F32 [6,4]',
      'half F16 [6,4]',
      'bf BF16 [6,4]',
      'view F32 [2,4]',
      'ints I64 [5]',
      'scalar F32 []',
      'shared F32 [6,4]',
      'tail F32 [3,4]',
    ],
  );
  const a = file.readFloats('a');
  assert.deepEqual([...a.subarray(0, 4)], first);
  assert.deepEqual([...file.readFloats('half', 0, 4)], [-1.525390625, -0.75, -0.65380859375, -1.609375]);
  assert.deepEqual([...file.readFloats('bf', 0, 3)], [-1.5234375, -0.75, -0.65234375]);
  assert.deepEqual(file.readFloats('view'), a.slice(8, 16));
  assert.deepEqual(file.readFloats('shared'), a);
  assert.deepEqual(file.readFloats('tail'), a.slice(12));
  assert.deepEqual([...file.readFloats('scalar')], [2.5]);
  assert.deepEqual([...new BigInt64Array(file.readBytes('ints').buffer)], [0n, 1n, 2n, 3n, 4n]);
  file.close();
});

// class Evil: __reduce__ = lambda self: (print, ('owned',)); torch.save({'x': Evil()}) and torch.save({'x': base.t()})
test('a pickle that calls anything else is refused, and so is a transposed tensor', () => {
  assert.throws(() => openTorchFile(golden('evil')), /its pickle calls "__builtin__\.print", which is not allowed/);
  assert.throws(
    () => openTorchFile(golden('strided')),
    /x is \[4,6\] with strides \[1,4\], expected rows one after the other/,
  );
});

test('a damaged file is refused in one line or read, and never ends the process', () => {
  const bytes = readFileSync(golden('ok'));
  const path = join(folder, 'damaged.bin');
  const reads = (content: Buffer) => {
    writeFileSync(path, content);
    try {
      const file = openTorchFile(path);
      for (const [name, { dtype }] of file.entries) if (dtype !== 'I64') file.readBytes(name);
      file.close();
    } catch (error) {
      assert.ok(error instanceof FormatError || error instanceof UsageError, String((error as Error).stack));
    }
  };
  for (let length = 0; length < bytes.length; length += 97) reads(bytes.subarray(0, length));
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(bytes.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }), (flips) => {
      const copy = Buffer.from(bytes);
      for (const [at, value] of flips) copy[at] = value;
      reads(copy);
    }),
    { numRuns: 500, seed: 3 },
  );
});

/** Saves a model in as many files as there are halves of its tensors. */
async function saveSharded(into: string): Promise<T5ForConditionalGeneration> {
  const model = T5ForConditionalGeneration.from_config(published.v1_1, { device: 'cpu', seed: 3 });
  await model.save_pretrained(into);
  const whole = openSafetensors(join(into, 'model.safetensors'));
  const names = [...whole.entries.keys()];
  const weight_map: Record<string, string> = {};
  for (const part of [0, 1]) {
    const file = `model-0000${part + 1}-of-00002.safetensors`;
    const chosen = names.filter((_, i) => i % 2 === part);
    for (const name of chosen) weight_map[name] = file;
    const tensors = chosen.map((name) => {
      const { dtype, shape } = whole.entry(name);
      return { name, dtype, shape, read: async (start: number, count: number) => whole.readBytes(name, start, count) };
    });
    await writeSafetensors(join(into, file), tensors);
  }
  whole.close();
  rmSync(join(into, 'model.safetensors'));
  writeFileSync(join(into, 'model.safetensors.index.json'), JSON.stringify({ metadata: {}, weight_map }));
  return model;
}

test('weights in several files are those of one', async () => {
  const into = join(folder, 'sharded');
  const model = await saveSharded(into);
  const again = await T5ForConditionalGeneration.from_pretrained(into, { device: 'cpu' });
  assert.deepEqual(await again.parameters.values.read(), await model.parameters.values.read());
  rmSync(join(into, 'model-00002-of-00002.safetensors'));
  await assert.rejects(
    T5ForConditionalGeneration.from_pretrained(into, { device: 'cpu' }),
    /model-00002-of-00002\.safetensors: not found, expected because .*index\.json names it/,
  );
});

test('an index that lies is refused', async () => {
  const into = join(folder, 'lies');
  await saveSharded(into);
  const index = join(into, 'model.safetensors.index.json');
  const { weight_map } = JSON.parse(readFileSync(index, 'utf8')) as { weight_map: Record<string, string> };
  const refuse = (content: unknown, why: RegExp) => {
    writeFileSync(index, JSON.stringify(content));
    assert.throws(() => openWeights(into), why);
  };
  refuse({ weight_map: { ...weight_map, 'made.up': 'model-00001-of-00002.safetensors' } }, /has made\.up, it has not/);
  refuse(
    { weight_map: { ...weight_map, 'shared.weight': '../model.safetensors' } },
    /expected a file beside the index/,
  );
  refuse({}, /has no weight_map/);
});

test('a folder without weights says what it could hold', async () => {
  const into = join(folder, 'none');
  mkdirSync(into);
  writeFileSync(join(into, 'config.json'), JSON.stringify(published.v1_1));
  await assert.rejects(
    T5EncoderModel.from_pretrained(into),
    /has no weights, expected one of model\.safetensors, .*pytorch_model\.bin/,
  );
});
