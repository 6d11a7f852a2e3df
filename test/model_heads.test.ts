/** The heads on the encoder: losses by hand from the logits, gradients against slopes and against float64. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type ResultTensor,
  T5ForQuestionAnswering,
  T5ForSequenceClassification,
  T5ForTokenClassification,
} from '../src/index.ts';
import type { T5ConfigInput } from '../src/model/config.ts';
import { T5SentenceEncoder } from '../src/model/sentence_encoder.ts';
import { differentiate } from '../src/tensor/autograd.ts';
import { Parameters } from '../src/tensor/parameters.ts';
import { dispose } from '../src/tensor/scope.ts';
import type { Tensor } from '../src/tensor/tensor.ts';
import { UsageError } from '../src/util/errors.ts';
import { testedDevice } from './harness.ts';
import { published } from './model_configs.ts';

const config = (change: T5ConfigInput = {}): T5ConfigInput => ({ ...published.v1_1, num_layers: 1, ...change });
const input_ids = [
  [5, 9, 1, 2, 37, 8, 1],
  [7, 3, 22, 1, 0, 0, 0],
];
const attention_mask = input_ids.map((row) => row.map((id) => (id ? 1 : 0)));
const source = { input_ids, attention_mask };

const logSumExp = (row: number[]) => Math.log(row.reduce((s, x) => s + Math.exp(x), 0));
const nll = (row: number[], label: number) => logSumExp(row) - row[label]!;
const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;
const near = (got: number | undefined, want: number) =>
  assert.ok(Math.abs(got! - want) < 1e-5, `${got}, expected ${want}`);

type Gradients = Promise<{ loss: number; gradients: Record<string, ResultTensor> }>;
interface Differentiable<I> {
  parameters: { places: readonly { name: string; length: number }[]; get(name: string): Tensor };
  lossAndGradients(inputs: I): Gradients;
  forward(inputs: I): Promise<{ loss?: number }>;
  dispose(): void;
}

/** Gradients on the CPU against float64's, and float64's against slopes of the loss. */
async function checkGradients<I>(
  make: (device: typeof testedDevice | 'reference') => Differentiable<I>,
  inputs: I,
): Promise<void> {
  const [cpu, reference] = [make(testedDevice), make('reference')];
  const [got, want] = [await cpu.lossAndGradients(inputs), await reference.lossAndGradients(inputs)];
  near(got.loss, want.loss);
  near((await cpu.forward(inputs)).loss, want.loss);
  const h = 0.01;
  for (const { name, length } of reference.parameters.places) {
    const { data } = want.gradients[name]!;
    const size = Math.hypot(...data);
    assert.ok(
      data.every((g, i) => Math.abs(g - got.gradients[name]!.data[i]!) < 1e-6 + 1e-4 * size),
      name,
    );
    const values = (reference.parameters.get(name).memory as unknown as { values: Float64Array }).values;
    const i = Math.floor(length * 0.4);
    const v = values[i]!;
    values[i] = v + h;
    const up = (await reference.forward(inputs)).loss!;
    values[i] = v - h;
    const down = (await reference.forward(inputs)).loss!;
    values[i] = v;
    const slope = (up - down) / (2 * h); // losses come back as float32
    assert.ok(
      Math.abs(slope - data[i]!) < 1e-4 + 1e-2 * Math.abs(slope),
      `d${name}[${i}] = ${data[i]}, slope ${slope}`,
    );
  }
  for (const model of [cpu, reference]) model.dispose();
}

test('token classification: the mean cross entropy of the labelled tokens', async () => {
  const make = (device: typeof testedDevice | 'reference') =>
    T5ForTokenClassification.from_config(config({ num_labels: 5 }), { device, seed: 3 });
  const labels = [
    [0, 4, 2, -100, 1, 3, -100],
    [2, 2, 0, -100, -100, -100, -100],
  ];
  const model = make(testedDevice);
  const { loss, logits } = await model.forward({ ...source, labels });
  assert.deepEqual(logits.dims, [2, 7, 5]);
  const rows = (logits.tolist() as number[][][]).flat();
  near(loss, mean(labels.flat().flatMap((label, i) => (label < 0 ? [] : [nll(rows[i]!, label)]))));
  assert.equal((await model.forward(source)).loss, undefined);
  await assert.rejects(model.lossAndGradients(source), /labels are missing/);
  await assert.rejects(model.forward({ ...source, labels: [[5]] }), /labels: row 0, column 0 is 5/);
  await assert.rejects(model.forward({ ...source, labels: [[4]] }), /labels: is \[1, 1\], expected \[2, 7\]/);
  model.dispose();
  await checkGradients(make, { ...source, labels });
});

test('sequence classification: one class per row, read at its last end token', async () => {
  const make = (device: typeof testedDevice | 'reference') =>
    T5ForSequenceClassification.from_config(config({ num_labels: 3 }), { device, seed: 3 });
  const model = make(testedDevice);
  const { loss, logits } = await model.forward({ ...source, labels: [2, 0] });
  assert.deepEqual(logits.dims, [2, 3]);
  const rows = logits.tolist() as number[][];
  near(loss, mean([nll(rows[0]!, 2), nll(rows[1]!, 0)]));
  // Rows may have different numbers of end tokens; what follows the last one does not reach the pooled state by padding.
  const alone = await model.forward({ input_ids: [input_ids[1]!.slice(0, 4)] });
  for (const [i, v] of alone.logits.data.entries()) near(rows[1]![i], v);
  await assert.rejects(
    model.forward({
      input_ids: [
        [5, 1],
        [5, 6],
      ],
    }),
    (e: Error) => e instanceof UsageError && /row 1 has no end token \(eos_token_id 1\)/.test(e.message),
  );
  await assert.rejects(model.forward({ ...source, labels: [0] }), /labels: 1, expected 2/);
  await assert.rejects(model.forward({ ...source, labels: [0, 3] }), /is 3, expected a whole number from 0 to 2/);
  model.dispose();
  await checkGradients(make, { ...source, labels: [2, 0] });
});

test('sequence classification: several labels at once, and numbers', async () => {
  const several = (device: typeof testedDevice | 'reference') =>
    T5ForSequenceClassification.from_config(config({ num_labels: 3 }), { device, seed: 3 });
  const labels = [
    [1, 0, 1],
    [0, 0, 1],
  ];
  const model = several(testedDevice);
  const { loss, logits } = await model.forward({ ...source, labels });
  const binary = (x: number, t: number) => Math.log1p(Math.exp(x)) - t * x;
  near(loss, mean((logits.tolist() as number[][]).flatMap((row, b) => row.map((x, i) => binary(x, labels[b]![i]!)))));
  await assert.rejects(
    model.forward({
      ...source,
      labels: [
        [1, 0, 2],
        [0, 0, 0],
      ],
    }),
    /labels: 2, expected a number in \[0, 1\]/,
  );
  await assert.rejects(model.forward({ ...source, labels: [[1, 0]] }), /labels: 2 numbers, expected 2 rows of 3/);
  model.dispose();
  await checkGradients(several, { ...source, labels });

  const one = (device: typeof testedDevice | 'reference') =>
    T5ForSequenceClassification.from_config(config({ num_labels: 1 }), { device, seed: 3 });
  const regression = one(testedDevice);
  const result = await regression.forward({ ...source, labels: [0.25, -3] });
  const [a, b] = result.logits.data as unknown as [number, number];
  near(result.loss, ((a - 0.25) ** 2 + (b + 3) ** 2) / 2);
  await assert.rejects(regression.forward({ ...source, labels: [Number.NaN, 1] }), /labels: NaN, expected a number/);
  regression.dispose();
  await checkGradients(one, { ...source, labels: [0.25, -3] });
});

test('question answering: the mean of the losses of start and end, positions beyond the row ignored', async () => {
  const make = (device: typeof testedDevice | 'reference') =>
    T5ForQuestionAnswering.from_config(config(), { device, seed: 3 });
  const positions = { start_positions: [1, 9], end_positions: [4, 2] };
  const model = make(testedDevice);
  const { loss, start_logits, end_logits } = await model.forward({ ...source, ...positions });
  assert.deepEqual(
    [start_logits.dims, end_logits.dims],
    [
      [2, 7],
      [2, 7],
    ],
  );
  const [starts, ends] = [start_logits.tolist() as number[][], end_logits.tolist() as number[][]];
  near(loss, (nll(starts[0]!, 1) + mean([nll(ends[0]!, 4), nll(ends[1]!, 2)])) / 2);
  await assert.rejects(model.forward({ ...source, ...positions, end_positions: [-1, 0] }), /end_positions: .* is -1/);
  await assert.rejects(
    model.forward({ ...source, ...positions, start_positions: [2 ** 32 + 2, 0] }), // 2 in 32 bits
    /start_positions: .* is 4294967298, expected a whole number from 0 to 2147483647/,
  );
  await assert.rejects(
    model.forward({ ...source, ...positions, end_positions: [1] }),
    /end_positions: 1 positions, expected 2/,
  );
  model.dispose();
  await checkGradients(make, { ...source, ...positions });
});

test("the losses of sentence pairs are those of their vectors' cosines", async () => {
  const model = T5SentenceEncoder.from_config(
    { ...published.v1_1, dropout_rate: 0 },
    { device: testedDevice, seed: 4 },
  );
  const ids = [
    [5, 6, 7, 1],
    [8, 9, 1, 0],
    [6, 5, 1, 0],
    [30, 31, 32, 1],
  ];
  const inputs = { input_ids: ids, attention_mask: ids.map((row) => row.map((id) => (id === 0 ? 0 : 1))) };
  const vectors = (await model.embed(inputs)).tolist() as number[][];
  const cosine = (i: number, j: number) => vectors[i]!.reduce((sum, x, d) => sum + x * vectors[2 + j]![d]!, 0);
  for (const i of [0, 1, 2, 3]) assert.ok(Math.abs(Math.hypot(...vectors[i]!) - 1) < 1e-5);
  model.parameters.trainable();
  const lossOf = async (scores?: number[]) => {
    const batch = { inputs: { ...inputs, scores, temperature: 0.1 }, tokens: 2 };
    const sum = model.accumulateGradients(batch, { denominator: 2 });
    const [value] = (await sum.read()) as Float32Array;
    dispose(sum);
    return value! / 2;
  };
  const squares = (cosine(0, 0) - 0.3) ** 2 + (cosine(1, 1) - 0.9) ** 2;
  assert.ok(Math.abs((await lossOf([0.3, 0.9])) - squares / 2) < 1e-5);
  const own = (i: number) =>
    Math.exp(cosine(i, i) / 0.1) / (Math.exp(cosine(i, 0) / 0.1) + Math.exp(cosine(i, 1) / 0.1));
  assert.ok(Math.abs((await lossOf()) + (Math.log(own(0)) + Math.log(own(1))) / 2) < 1e-4);
  model.dispose();
});

test('class weights and label smoothing give the losses and gradients of torch 2.13 cross_entropy', async () => {
  const model = T5ForTokenClassification.from_config(config({ num_labels: 4, label_smoothing: 0.1 }), {
    device: 'reference',
  });
  const labels = [[0, 3, 1, -100, 2, 3]];
  const weights = [0.5, 2, 1, 3];
  // The loss of given logits, as the head computes it, and the gradient of the second row.
  const lossOf = async (smoothing: number, class_weights?: number[]) => {
    type LossFor = (inputs: object, source: object) => (logits: Tensor) => Tensor;
    const { lossFor } = model as unknown as { lossFor: LossFor };
    const own = { config: { ...model.config, label_smoothing: smoothing } };
    const loss = lossFor.call(own, { labels, class_weights }, { rows: 1, columns: 6 });
    const values = Array.from({ length: 24 }, (_, i) => 2 * Math.sin(1.3 * Math.floor(i / 4) + 2.1 * (i % 4)));
    const parameters = new Parameters(model.backend, 'f32', [{ name: 'logits', shape: [6, 4] }]);
    parameters.trainable();
    const logits = parameters.get('logits');
    logits.write(values);
    const { sum } = differentiate(() => {
      const result = loss(logits);
      return { loss: result, sum: result };
    });
    const gradient = Array.from(await logits.grad!.read()).slice(4, 8);
    return { loss: (await sum.read())[0]!, gradient };
  };
  const weighted = await lossOf(0, weights);
  near(weighted.loss, 1.9050733661888368);
  [0.148148072, 0.012935994, 0.005259391, -0.166343457].forEach((g, i) => void near(weighted.gradient[i], g));
  const smoothed = await lossOf(0.1);
  near(smoothed.loss, 2.075431302014644);
  [0.088827112, 0.003192796, -0.001669052, -0.090350856].forEach((g, i) => void near(smoothed.gradient[i], g));
  await assert.rejects(
    model.forward({ input_ids: [[5, 1]], labels: [[0, 1]], class_weights: [1, 2, 3] }),
    /class_weights: 3 numbers, expected 4 positive numbers/,
  );
  await assert.rejects(
    model.forward({ input_ids: [[5, 1]], labels: [[0, 1]], class_weights: [1, 2, 0, 3] }),
    /class_weights: has 0, expected 4 positive numbers/,
  );
  model.dispose();
});

test('where several classes hold, class weights are torch 2.13 pos_weight', async () => {
  const model = T5ForSequenceClassification.from_config(
    config({ num_labels: 3, problem_type: 'multi_label_classification' }),
    { device: 'reference' },
  );
  type LossFor = (inputs: object, source: object) => (logits: Tensor) => Tensor;
  const labels = [
    [1, 0, 1],
    [0, 0, 1],
  ];
  const loss = (model as unknown as { lossFor: LossFor }).lossFor(
    { labels, class_weights: [0.5, 2, 4] },
    { rows: 2, columns: 1 },
  );
  const parameters = new Parameters(model.backend, 'f32', [{ name: 'logits', shape: [2, 3] }]);
  parameters.trainable();
  const logits = parameters.get('logits');
  logits.write(Array.from({ length: 6 }, (_, i) => 2 * Math.sin(1.3 * Math.floor(i / 3) + 2.1 * (i % 3))));
  const { sum } = differentiate(() => {
    const result = loss(logits);
    return { loss: result, sum: result };
  });
  near((await sum.read())[0]!, 3.1507500497138596);
  const gradient = Array.from(await logits.grad!.read());
  const golden = [-0.0416666667, 0.1414922939, -0.5673912853, 0.145488317, 0.0624899777, -0.5359575565];
  golden.forEach((g, i) => void near(gradient[i], g));
  model.dispose();
});

test('two micro-batches with class weights have the gradients of the one that holds both', async () => {
  const model = T5ForSequenceClassification.from_config(config({ num_labels: 3, dropout_rate: 0 }), {
    device: testedDevice,
    seed: 3,
  });
  model.parameters.trainable();
  const class_weights = [0.2, 1, 5];
  const batch = (rows: number[], labels: number[]) => ({
    inputs: {
      input_ids: rows.map((i) => input_ids[i]!),
      attention_mask: rows.map((i) => attention_mask[i]!),
      labels,
      class_weights,
    },
    tokens: labels.reduce((sum, label) => sum + class_weights[label]!, 0),
  });
  const gradientOf = async (batches: ReturnType<typeof batch>[]) => {
    model.parameters.zeroGradients();
    const denominator = batches.reduce((sum, { tokens }) => sum + tokens, 0);
    for (const one of batches) dispose(model.accumulateGradients(one, { denominator }));
    model.parameters.finishGradients();
    return Array.from(await model.parameters.get('classification_head.dense.weight').grad!.read());
  };
  const whole = await gradientOf([batch([0, 1], [2, 0])]);
  const parts = await gradientOf([batch([0], [2]), batch([1], [0])]);
  const size = Math.hypot(...whole);
  assert.ok(size > 1e-3);
  for (const [i, g] of parts.entries()) assert.ok(Math.abs(g - whole[i]!) < 1e-5 * size);
  model.dispose();
});
