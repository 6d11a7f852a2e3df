/** The encoder-decoder: against an independent implementation, against itself in float64, and against its own slopes. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { type ResultTensor, T5ForConditionalGeneration } from '../src/index.ts';
import type { T5ConfigInput } from '../src/model/config.ts';
import { batchOf, type MatrixInput, type Seq2SeqInputs } from '../src/model/inputs.ts';
import type { Random } from '../src/model/pass.ts';
import { dispose } from '../src/tensor/scope.ts';
import type { Tensor } from '../src/tensor/tensor.ts';
import { type Batch, IGNORED, PADDING } from '../src/util/batch.ts';
import { UsageError } from '../src/util/errors.ts';
import { testedDevice } from './harness.ts';
import { positional, published } from './model_configs.ts';

interface Golden {
  loss: number;
  logits: number[];
  encoder: number[];
  gradient_norms: Record<string, number>;
}
const golden = JSON.parse(
  readFileSync(new URL('../../test/golden/t5.json', import.meta.url), 'utf8'),
) as Seq2SeqInputs & { models: Record<string, Golden> };
const { input_ids, attention_mask, labels } = golden;
const inputs = { input_ids, attention_mask, labels };

const norm = (values: ArrayLike<number>) => Math.hypot(...Array.from(values));
const worst = (got: ArrayLike<number>, want: ArrayLike<number>) =>
  Array.from(want).reduce((w, v, i) => Math.max(w, Math.abs(got[i]! - v)), 0);
/** Norm of the difference relative to the norm of what is wanted. */
const relative = (got: ArrayLike<number>, want: ArrayLike<number>) =>
  norm(Array.from(want, (v, i) => got[i]! - v)) / Math.max(1e-12, norm(want));

const create = (config: T5ConfigInput, device: typeof testedDevice | 'reference' = testedDevice, seed = 7) =>
  T5ForConditionalGeneration.from_config(config, { device, seed });

/** Sums of a batch: NLL, z-loss, right tokens, tokens. */
async function sums(stats: Tensor): Promise<number[]> {
  const values = Array.from(await stats.read());
  dispose(stats);
  return values;
}

async function gradientsOf(model: T5ForConditionalGeneration, batch: Batch, rng?: Random): Promise<Float32Array> {
  model.parameters.trainable();
  model.parameters.zeroGradients();
  dispose(model.accumulateGradients(batch, { denominator: batch.tokens, rng }));
  model.parameters.finishGradients();
  return (await model.parameters.trained()!.gradients.read()) as Float32Array;
}

for (const [name, config] of Object.entries(published))
  for (const device of [testedDevice, 'reference'] as const)
    test(`${name} on ${device}: logits, loss and gradients are those of an independent implementation`, async () => {
      const want = golden.models[name]!;
      const model = create(config, device);
      const { loss, logits, encoder_last_hidden_state } = await model.forward(inputs);
      assert.ok(Math.abs(loss! - want.loss) < 1e-5, `loss ${loss}, expected ${want.loss}`);
      assert.ok(worst(logits.data, want.logits) < 1e-5, 'logits');
      assert.ok(worst(encoder_last_hidden_state.data, want.encoder) < 1e-5, 'encoder');
      const { loss: again, gradients } = await model.lossAndGradients(inputs);
      assert.ok(Math.abs(again - want.loss) < 1e-5, 'loss in chunks');
      assert.deepEqual(Object.keys(gradients).sort(), Object.keys(want.gradient_norms).sort());
      for (const [parameter, length] of Object.entries(want.gradient_norms)) {
        const got = norm(gradients[parameter]!.data);
        assert.ok(Math.abs(got - length) <= 2e-5 * length, `${parameter}: gradient norm ${got}, expected ${length}`);
      }
      model.dispose();
    });

const variants: Record<string, T5ConfigInput> = {
  ...positional,
  'scaled scores, z-loss and smoothing': { ...positional.t5, attention_scale: 0.4, z_loss: 0.01, label_smoothing: 0.1 },
};

for (const [name, config] of Object.entries(variants))
  test(`${name}: every gradient on the CPU is that of the float64 reference`, async () => {
    const [cpu, reference] = [create(config), create(config, 'reference')];
    const [got, want] = [await cpu.lossAndGradients(inputs), await reference.lossAndGradients(inputs)];
    assert.ok(Math.abs(got.loss - want.loss) < 1e-5);
    for (const [parameter, { data }] of Object.entries(want.gradients))
      assert.ok(worst(got.gradients[parameter]!.data, data) < 1e-6 + 1e-4 * norm(data), parameter);
    for (const model of [cpu, reference]) model.dispose();
  });

/** The float64 values behind a tensor of the reference backend. */
const exact = (t: Tensor) => (t.memory as unknown as { values: Float64Array }).values;

for (const [name, config] of Object.entries({ v1_0: published.v1_0, umt5: published.umt5, ...positional }))
  test(`${name}: gradients of every parameter are the slopes of the loss`, async () => {
    const model = create({ ...config, z_loss: 0.01 }, 'reference');
    const batch = batchOf(inputs, model.config);
    const gradients = await gradientsOf(model, batch);
    const loss = () => {
      const stats = model.evaluateBatch(batch);
      const [nll, z] = exact(stats) as unknown as [number, number];
      dispose(stats);
      return (nll + z) / batch.tokens;
    };
    const h = 1e-5;
    for (const { name: parameter, offset, length } of model.parameters.places) {
      const values = exact(model.parameters.get(parameter));
      for (const i of new Set([0, Math.floor(length * 0.6)])) {
        const v = values[i]!;
        values[i] = v + h;
        const up = loss();
        values[i] = v - h;
        const down = loss();
        values[i] = v;
        const slope = (up - down) / (2 * h);
        const got = gradients[offset + i]!;
        assert.ok(
          Math.abs(got - slope) < 1e-6 + 1e-5 * Math.abs(slope),
          `d${parameter}[${i}] = ${got}, slope ${slope}`,
        );
      }
    }
    model.dispose();
  });

/** Two examples, [source, target], and the batch that packs them into one row with padding behind. */
const examples: [number[], number[]][] = [
  [
    [5, 9, 13, 1],
    [11, 4, 1],
  ],
  [
    [7, 30, 22, 14, 8, 1],
    [6, 17, 25, 9, 1],
  ],
];

function packed(start: number): Batch {
  const pad = (values: number[], to: number, filler: number) =>
    Int32Array.from({ length: to }, (_, i) => values[i] ?? filler);
  const [S, T] = [12, 10];
  return {
    rows: 1,
    sourceLength: S,
    targetLength: T,
    input_ids: pad(
      examples.flatMap(([source]) => source),
      S,
      0,
    ),
    decoder_input_ids: pad(
      examples.flatMap(([, target]) => [start, ...target.slice(0, -1)]),
      T,
      0,
    ),
    labels: pad(
      examples.flatMap(([, target]) => target),
      T,
      IGNORED,
    ),
    segments: pad(
      examples.flatMap(([source], i) => source.map(() => i)),
      S,
      PADDING,
    ),
    decoder_segments: pad(
      examples.flatMap(([, target], i) => target.map(() => i)),
      T,
      PADDING,
    ),
    tokens: 8,
  };
}

for (const [name, config] of Object.entries(positional)) {
  test(`${name}: examples packed into one row have the losses and gradients they have alone`, async () => {
    const model = create(config);
    const got = await sums(model.evaluateBatch(packed(0)));
    const alone = [0, 0, 0, 0];
    const separate = new Float32Array(model.parameters.values.length);
    for (const [source, target] of examples) {
      const batch = batchOf({ input_ids: [source], labels: [target] }, model.config);
      for (const [i, v] of (await sums(model.evaluateBatch(batch))).entries()) alone[i]! += v;
      const gradients = await gradientsOf(model, { ...batch, tokens: 8 });
      for (const [i, g] of gradients.entries()) separate[i]! += g;
    }
    assert.ok(worst(got, alone) < 1e-4, `${got} packed, ${alone} alone`);
    assert.ok(relative(await gradientsOf(model, packed(0)), separate) < 1e-5);
    model.dispose();
  });

  test(`${name}: a batch padded to one length gives what its rows give alone`, async () => {
    const model = create(config);
    const rows = [
      [5, 9, 13, 2, 37, 8, 1],
      [7, 3, 1],
      [12, 1],
    ];
    const padded = rows.map((row) => [...row, ...new Array<number>(7 - row.length).fill(0)]);
    const mask = rows.map((row) => padded[0]!.map((_, i) => (i < row.length ? 1 : 0)));
    const together = await model.encode({ input_ids: padded, attention_mask: mask });
    const ids = await model.generate({ input_ids: padded, attention_mask: mask, max_new_tokens: 6 });
    for (const [b, row] of rows.entries()) {
      const { last_hidden_state: alone } = await model.encode({ input_ids: [row] });
      assert.ok(worst(together.last_hidden_state.data.subarray(b * 7 * 16), alone.data) < 1e-5, `row ${b}`);
      const [single] = await model.generate({ input_ids: [row], max_new_tokens: 6 });
      assert.deepEqual(ids[b]!.slice(0, single!.length), single);
      assert.ok(ids[b]!.slice(single!.length).every((id) => id === model.config.pad_token_id));
    }
    model.dispose();
  });

  test(`${name}: decoding with the cache writes the tokens that the whole forward pass prefers`, async () => {
    const model = create(config, testedDevice, 3);
    const max_new_tokens = 12;
    const ids = await model.generate({ input_ids, attention_mask, max_new_tokens });
    const decoder_input_ids = ids.map((row) => row.slice(0, -1));
    const { logits } = await model.forward({ input_ids, attention_mask, decoder_input_ids });
    for (const [b, row] of ids.entries()) {
      const end = row.indexOf(model.config.eos_token_id);
      const written = row.slice(1, end < 0 ? undefined : end + 1);
      const best = (logits.tolist() as number[][][])[b]!.map((step) => step.indexOf(Math.max(...step)));
      assert.deepEqual(written, best.slice(0, written.length));
    }
    assert.ok(new Set(ids.flat()).size > 4, 'the model says more than one thing');
    model.dispose();
  });

  test(`${name}: computing blocks again instead of keeping them gives the same gradients`, async () => {
    const model = create({ ...config, dropout_rate: 0.2 });
    const batch = batchOf(inputs, model.config);
    const rng = { seed: 5, step: 3 };
    const kept = await gradientsOf(model, batch, rng);
    model.activation_checkpointing = true;
    // Not the same bits: parts of the encoder states' gradient add up in another order.
    assert.ok(relative(await gradientsOf(model, batch, rng), kept) < 1e-6);
    model.dispose();
  });
}

for (const name of ['t5', 'alibi', 'rope', 'rope of a part, interleaved, with xPos', 'none'] as const)
  test(`${name}: only distances count, so padding on the left changes nothing`, async () => {
    const model = create(positional[name]);
    const { last_hidden_state: plain } = await model.encode({ input_ids: [[5, 9, 13, 1]] });
    const shifted = await model.encode({ input_ids: [[0, 0, 5, 9, 13, 1]], attention_mask: [[0, 0, 1, 1, 1, 1]] });
    assert.ok(worst(shifted.last_hidden_state.data.subarray(2 * 16), plain.data) < 1e-5);
    model.dispose();
  });

test('the order of tokens matters to every encoding but none', async () => {
  for (const [name, config] of Object.entries(positional)) {
    const model = create(config);
    const first = async (ids: number[]) =>
      (await model.encode({ input_ids: [ids] })).last_hidden_state.data.slice(0, 16);
    const difference = worst(await first([5, 9, 13, 22, 1]), await first([5, 13, 22, 9, 1]));
    assert.ok(name === 'none' ? difference < 1e-5 : difference > 1e-4, `${name}: ${difference}`);
    model.dispose();
  }
});

test('gradients of micro-batches add up to those of the batch', async () => {
  const model = create(published.v1_0); // the tied head: embedding and loss share a gradient
  const rows = [
    [
      [5, 9, 13, 1],
      [11, 4, 1],
    ],
    [
      [7, 3, 22, 1],
      [6, 1, 2],
    ],
  ] as const;
  const batch = (...some: (typeof rows)[number][]) =>
    batchOf({ input_ids: some.map(([s]) => [...s]), labels: some.map(([, t]) => [...t]) }, model.config);
  const whole = await gradientsOf(model, batch(...rows));
  model.parameters.zeroGradients();
  for (const row of rows) dispose(model.accumulateGradients(batch(row), { denominator: 6 }));
  model.parameters.finishGradients();
  assert.ok(relative((await model.parameters.trained()!.gradients.read()) as Float32Array, whole) < 1e-6);
  model.dispose();
});

test('one batch can be learnt by heart', async () => {
  const model = create(published.v1_1);
  const batch = batchOf(inputs, model.config);
  const [before] = await sums(model.evaluateBatch(batch));
  for (let step = 0; step < 120; step++) {
    const gradients = await gradientsOf(model, batch);
    const values = (await model.parameters.values.read()) as Float32Array;
    for (let i = 0; i < values.length; i++) values[i]! -= 0.1 * gradients[i]!;
    model.parameters.values.write(values);
  }
  const [after, , correct, tokens] = await sums(model.evaluateBatch(batch));
  assert.ok(after! < before! / 20, `${before} before, ${after} after`);
  assert.equal(correct, tokens);
  model.dispose();
});

test('dropout is the same for the same seed and step, another for others, and off when evaluating', async () => {
  const model = create({ ...published.v1_1, dropout_rate: 0.3 });
  const batch = batchOf(inputs, model.config);
  model.parameters.trainable();
  const nll = async (rng?: Random) => (await sums(model.accumulateGradients(batch, { denominator: 1, rng })))[0];
  const first = await nll({ seed: 1, step: 1 });
  assert.equal(await nll({ seed: 1, step: 1 }), first);
  const plain = await nll();
  assert.equal(plain, (await sums(model.evaluateBatch(batch)))[0]);
  assert.equal(new Set([first, plain, await nll({ seed: 1, step: 2 }), await nll({ seed: 2, step: 1 })]).size, 4);
  model.dispose();
});

for (const position_encoding_type of ['t5', 'alibi', 'rope', 'fire'] as const)
  test(`randomised positions: ${position_encoding_type} draws new ones every step, and none when evaluating`, async () => {
    const config = { ...published.v1_1, position_encoding_type, fire_mlp_width: 4 };
    const [plain, drawn] = [create(config), create({ ...config, use_randomized_position_encoding: true })];
    const batch = batchOf(inputs, plain.config);
    drawn.parameters.trainable();
    const nll = async (step: number) =>
      (await sums(drawn.accumulateGradients(batch, { denominator: 1, rng: { seed: 1, step } })))[0];
    assert.equal((await sums(drawn.evaluateBatch(batch)))[0], (await sums(plain.evaluateBatch(batch)))[0]);
    assert.equal(new Set([await nll(1), await nll(2), (await sums(plain.evaluateBatch(batch)))[0]]).size, 3);
    assert.equal(await nll(1), await nll(1));
    for (const model of [plain, drawn]) model.dispose();
  });

test('randomised positions need room for the tokens', () => {
  const model = create({ ...published.v1_1, use_randomized_position_encoding: true, max_sequence_length: 6 });
  const batch = batchOf(inputs, model.config);
  assert.throws(
    () => model.accumulateGradients(batch, { denominator: 1, rng: { seed: 1, step: 1 } }),
    (error: Error) => error instanceof UsageError && /max_sequence_length is 6, .* 7 tokens/.test(error.message),
  );
  model.dispose();
});

test('bfloat16 is close to float32', async () => {
  const exactly = create(published.v1_1);
  const rounded = T5ForConditionalGeneration.from_config(published.v1_1, {
    device: testedDevice,
    dtype: 'bfloat16',
    seed: 7,
  });
  const [want, got] = [await exactly.lossAndGradients(inputs), await rounded.lossAndGradients(inputs)];
  assert.ok(Math.abs(got.loss - want.loss) < 0.02 * want.loss);
  const all = (gradients: Record<string, ResultTensor>) => Object.values(gradients).flatMap((g) => Array.from(g.data));
  assert.ok(relative(all(got.gradients), all(want.gradients)) < 0.05);
  for (const model of [exactly, rounded]) model.dispose();
});

test('nothing leaks', async () => {
  const first = create(published.v1_1);
  await first.lossAndGradients(inputs); // a GPU's library of products takes its workspace
  first.dispose();
  const { usage } = first.backend;
  const { bytes: before } = usage;
  const model = create(published.v1_1);
  const generate = (ids: MatrixInput) => model.generate({ input_ids: ids, max_new_tokens: 3 });
  await model.lossAndGradients(inputs); // makes the gradient buffer
  await generate(input_ids); // a GPU keeps what it recorded, for the next call of the same shape
  const { bytes } = usage;
  await model.forward(inputs);
  await model.encode(inputs);
  await generate([0, 1].map((r) => Array.from({ length: 100 }, (_, i) => 3 + ((i + r) % 30))));
  await generate(input_ids);
  await model.lossAndGradients(inputs);
  await assert.rejects(model.forward({ input_ids, labels: [[1]] }));
  model.activation_checkpointing = true;
  await model.lossAndGradients(inputs);
  assert.equal(usage.bytes, bytes);
  model.dispose();
  assert.equal(usage.bytes, before);
});

test('computing blocks again takes less memory', async () => {
  const model = create({ ...published.v1_1, num_layers: 8, num_decoder_layers: 8 });
  const row = Array.from({ length: 100 }, (_, i) => 1 + (i % 39));
  const peak = async () => {
    model.backend.resetPeak();
    const { bytes } = model.backend.usage;
    await model.lossAndGradients({ input_ids: [row, row], labels: [row, row] });
    return model.backend.usage.peakBytes - bytes;
  };
  await peak(); // makes the gradient buffer
  const kept = await peak();
  model.activation_checkpointing = true;
  const again = await peak();
  assert.ok(again < kept / 3, `${again} bytes, ${kept} when kept`);
  model.dispose();
});

test('input that does not fit names the row, the column and the value', async () => {
  const model = create(published.v1_1);
  const bad: [Seq2SeqInputs, RegExp][] = [
    [{ input_ids: [[1, 40]], labels }, /input_ids: row 0, column 1 is 40, expected a whole number from 0 to 39/],
    [{ input_ids: [[1, 2.5]], labels }, /input_ids: row 0, column 1 is 2.5/],
    [{ input_ids: [[1, 2], [3]], labels }, /input_ids: row 1 has 1 values, row 0 has 2/],
    [{ input_ids: [], labels }, /input_ids: is empty/],
    [{ input_ids: [1, 2] as never, labels }, /input_ids: row 0 is 1, expected an array/],
    [{ input_ids: undefined as never, labels }, /input_ids: is undefined/],
    [{ input_ids: { dims: [2, 2], data: [1, 2, 3] }, labels }, /dims \[2,2\] with 3 values/],
    [
      { input_ids: { dims: [-2, -1], data: [1, 2] }, labels },
      /dims \[-2,-1\] with 2 values, expected .* both positive/,
    ],
    [{ input_ids: { dims: [0.5, 4], data: [1, 2] }, labels }, /dims \[0.5,4\] with 2 values/],
    [{ input_ids, attention_mask: [[1]], labels }, /attention_mask: is \[1, 1\], expected \[2, 7\]/],
    [{ input_ids, labels: [[-1]] }, /labels: row 0, column 0 is -1, expected .* or -100/],
    [{ input_ids, labels: [[3]] }, /labels: 1 rows, input_ids has 2/],
    [{ input_ids }, /neither labels nor decoder_input_ids/],
  ];
  for (const [input, message] of bad)
    await assert.rejects(
      model.forward(input),
      (error: Error) => error instanceof UsageError && message.test(error.message),
      String(message),
    );
  await assert.rejects(model.generate({ input_ids, num_beans: 4 } as never), /unknown option num_beans/);
  await assert.rejects(model.generate({ input_ids, max_new_tokens: 0 }), /max_new_tokens is 0/);
  model.dispose();
});

test('tensors are taken as well as arrays, and labels may all be ignored', async () => {
  const model = create(published.v1_1);
  const flat = (input_ids as number[][]).flat();
  const asTensor = { dims: [2, 7], data: BigInt64Array.from(flat, BigInt) };
  const [a, b] = [await model.encode({ input_ids }), await model.encode({ input_ids: asTensor })];
  assert.deepEqual(a.last_hidden_state.data, b.last_hidden_state.data);
  const ignored = { input_ids, labels: [[IGNORED], [IGNORED]] };
  assert.equal((await model.forward(ignored)).loss, 0);
  assert.equal((await model.lossAndGradients(ignored)).loss, 0);
  model.dispose();
});

test('a streamer gets every token when it is known', async () => {
  const model = create(published.v1_1);
  const seen: number[][] = [];
  let ended = 0;
  const streamer = { put: (ids: number[][]) => void seen.push(ids.flat()), end: () => void ended++ };
  const ids = await model.generate({ input_ids, attention_mask, max_new_tokens: 5, streamer });
  assert.deepEqual(
    seen,
    ids[0]!.map((_, t) => ids.map((row) => row[t])),
  );
  assert.equal(ended, 1);
  model.dispose();
});
