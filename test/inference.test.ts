/** Inference in 16 bits: the residual stream in float32, norms folded into projections. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { Backend } from '../src/backend/backend.ts';
import { openCpu } from '../src/backend/cpu/cpu.ts';
import { T5ForConditionalGeneration } from '../src/index.ts';
import { t5Config } from '../src/model/config.ts';
import { normsOf } from '../src/model/fold_norms.ts';
import { parameterTable } from '../src/model/parameter_table.ts';
import { Parameters } from '../src/tensor/parameters.ts';
import { roundToBfloat16 } from '../src/util/bfloat16.ts';
import { testedDevice as device, uniform } from './harness.ts';
import { published } from './model_configs.ts';

const root = mkdtempSync(join(tmpdir(), 'fat5-inference-'));
after(() => rmSync(root, { recursive: true }));

const input_ids = [[5, 9, 13, 30, 22, 14, 8, 1]];
const decoder_input_ids = [[0, 11, 4, 17]];

/** Writes a model with random weights that bfloat16 holds, changed by name; returns its folder. */
async function checkpoint(name: string, change: (parameter: string, value: number, random: () => number) => number) {
  const model = T5ForConditionalGeneration.from_config(published.v1_1, { device: 'cpu', seed: 3 });
  const random = uniform(4);
  for (const { name: parameter } of model.parameters.places) {
    const tensor = model.parameters.get(parameter);
    const values = Array.from((await tensor.read()) as Float32Array);
    tensor.write(values.map((value) => roundToBfloat16(change(parameter, value, random))));
  }
  await model.save_pretrained(join(root, name));
  model.dispose();
  return join(root, name);
}

const rootMeanSquare = (values: ArrayLike<number>) =>
  Math.sqrt(Array.from(values).reduce((sum, x) => sum + x * x, 0) / values.length);

test('layers in bfloat16 add to a stream in float32: the stream is not rounded each time', async () => {
  const folder = await checkpoint('large', (name, value) => (name === 'shared.weight' ? 64 * value : value));
  const states = async (dtype: 'float32' | 'bfloat16') => {
    const model = await T5ForConditionalGeneration.from_pretrained(folder, { device, dtype });
    const { data } = (await model.encode({ input_ids })).last_hidden_state;
    model.dispose();
    return data;
  };
  const [exact, got] = [await states('float32'), await states('bfloat16')];
  const error = rootMeanSquare(got.map((x, i) => x - exact[i]!)) / rootMeanSquare(exact);
  assert.ok(error > 0 && error < 2 ** -12, `relative error ${error}: one rounding alone is about ${2 ** -10}`);
});

test('folded norms leave a model as it is, and their scales are 1', async () => {
  const folder = await checkpoint('norms', (name, value, random) =>
    name.includes('layer_norm') ? 0.2 + 2 * random() : value,
  );
  const open = (options: object) => T5ForConditionalGeneration.from_pretrained(folder, { device, ...options });
  const [plain, folded] = [await open({}), await open({ fold_norms: true })];
  const inputs = { input_ids, decoder_input_ids };
  const [want, got] = [(await plain.forward(inputs)).logits.data, (await folded.forward(inputs)).logits.data];
  const scale = rootMeanSquare(want);
  got.forEach((x, i) => void assert.ok(Math.abs(x - want[i]!) < 1e-5 * scale, `${x}, expected ${want[i]}`));
  assert.notDeepEqual(got, want, 'another order of roundings');
  const ones = folded.parameters.places.filter(({ name }) => /\.layer_norm\.weight$/.test(name));
  assert.equal(ones.length, 2 * published.v1_1.num_layers + 3 * published.v1_1.num_decoder_layers);
  for (const { name, length } of ones)
    assert.deepEqual(await folded.parameters.get(name).read(), new Float32Array(length).fill(1), name);
  await folded.save_pretrained(join(root, 'folded'));
  const again = await T5ForConditionalGeneration.from_pretrained(join(root, 'folded'), { device });
  assert.deepEqual((await again.forward(inputs)).logits.data, got);
  for (const model of [plain, folded, again]) model.dispose();
});

test('a norm is folded into what reads it: not into keys and values of the encoder, nor into what follows a stack', () => {
  const norms = normsOf(parameterTable(t5Config(published.v1_1), 'conditional_generation'));
  const layer = (stack: string, i: number) => `${stack}.block.0.layer.${i}`;
  const readers = (norm: string) => [...norms].filter(([, n]) => n === norm).map(([name]) => name);
  const names = (path: string, kind: string, leaves: string[]) =>
    leaves.map((leaf) => `${path}.${kind}.${leaf}.weight`);
  const self = layer('decoder', 0);
  assert.deepEqual(readers(`${self}.layer_norm.weight`), names(self, 'SelfAttention', ['q', 'k', 'v']));
  const cross = layer('decoder', 1);
  assert.deepEqual(readers(`${cross}.layer_norm.weight`), names(cross, 'EncDecAttention', ['q']));
  const forward = layer('encoder', 1);
  assert.deepEqual(readers(`${forward}.layer_norm.weight`), names(forward, 'DenseReluDense', ['wi_0', 'wi_1']));
  assert.ok([...norms.values()].every((norm) => !norm.includes('final')));
});

test('tokens drawn on the device are those drawn from scores on the host', async () => {
  const config = { ...published.v1_1, vocab_size: 500, eos_token_id: 7 };
  const model = T5ForConditionalGeneration.from_config(config, { device, seed: 3 });
  const settings = [
    {},
    { temperature: 0.7, top_k: 20 },
    { top_p: 0.8, top_k: 0 },
    { min_p: 0.1, temperature: 1.5 },
    { top_k: 40, top_p: 0.9, min_p: 0.02, num_return_sequences: 3 },
    { decoder_input_ids: [[0, 9, 4]] },
  ];
  const drawn: number[][][] = [];
  for (const [seed, options] of settings.entries()) {
    const call = { input_ids, do_sample: true, max_new_tokens: 25, eos_token_id: null, seed, ...options };
    const onHost = await model.generate({ ...call, output_scores: true, return_dict_in_generate: true });
    drawn.push(await model.generate(call));
    assert.deepEqual(drawn.at(-1), onHost.sequences, JSON.stringify(options));
  }
  assert.equal(new Set(drawn.map(String)).size, settings.length);
  model.dispose();
});

test('steps that are replayed, of one shape after another, write what launched ones write', async () => {
  const config = t5Config({ ...published.v1_1, vocab_size: 500, eos_token_id: 7 });
  let captures = 0;
  let runs = 0;
  /** The CPU with recordings that do their work anew. */
  const replaying: Backend = Object.assign(Object.create(openCpu()) as Backend, {
    capture: (work: () => void) => {
      captures++;
      const run = () => {
        runs++;
        work();
      };
      return { run, dispose() {} };
    },
  });
  const plain = T5ForConditionalGeneration.from_config(config, { device: 'cpu', seed: 3 });
  const parameters = new Parameters(replaying, 'f32', parameterTable(config, 'conditional_generation'));
  parameters.values.write((await plain.parameters.values.read()) as Float32Array);
  const replayed = new T5ForConditionalGeneration(config, parameters);
  const rows = [...input_ids, [4, 6, 22, 9, 17, 3, 2, 1]];
  const common = { max_new_tokens: 40, eos_token_id: null };
  for (const call of [
    {},
    { do_sample: true, seed: 3, top_k: 30, top_p: 0.9 },
    { do_sample: true, seed: 4, temperature: 0.5 },
    { do_sample: true, seed: 5, num_return_sequences: 3 },
    { num_beams: 3 },
    { repetition_penalty: 1.4, decoder_input_ids: rows.map(() => [0, 5, 6]) },
  ]) {
    const before = runs;
    const options = { input_ids: rows, ...common, ...call };
    assert.deepEqual(await replayed.generate(options), await plain.generate(options), JSON.stringify(call));
    assert.ok(runs - before > 20, `${runs - before} replays`);
  }
  assert.equal(captures, 2 + 2 + 0 + 2 + 2 + 1, 'two recordings of a session that is new, a step for the others');
  for (const model of [plain, replayed]) model.dispose();
});
