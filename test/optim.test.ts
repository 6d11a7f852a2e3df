/**
 * Optimizers against goldens: five updates in float64 by torch.optim.AdamW, transformers.Adafactor and, for AdamWScale and
 * Muon, their formulas in PyTorch (torch 2.13, transformers 5.18), with clipping to 1, decay 0.1 and a falling rate.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Backend } from '../src/backend/backend.ts';
import type { FloatType } from '../src/backend/dtype.ts';
import { openReference } from '../src/backend/reference.ts';
import { createAverage } from '../src/optim/ema.ts';
import { createOptimizer } from '../src/optim/optimizer.ts';
import { type OptimizerOptions, optimizerDefaults } from '../src/optim/options.ts';
import { Parameters } from '../src/tensor/parameters.ts';
import { elements } from '../src/tensor/tensor.ts';
import { fromBfloat16 } from '../src/util/bfloat16.ts';
import { testedBackend } from './harness.ts';

const wide = [[5, 7], [3, 70], [9]];
const square = [
  [5, 7],
  [70, 3],
  [8, 8],
];
const noDecayNames = { weight_decay: 0.1, no_decay: [] };

interface Golden {
  options: OptimizerOptions;
  shapes: number[][];
  rate: number;
  clip: number | null;
  norm: number;
  /** Per parameter. */
  sum: number[];
  squares: number[];
  second: number[];
  last: number[];
}

const goldens: Golden[] = [
  {
    options: { name: 'adamw', eps: 1e-3, ...noDecayNames },
    shapes: wide,
    rate: 3e-2,
    clip: 1,
    norm: 5.6472146,
    sum: [-0.098470515, 1.4417186, 0.036947065],
    squares: [0.076047417, 26.186532, 1.143172],
    second: [-0.010774665, 0.5460324, 0.2624299],
    last: [-0.050848277, 0.22732128, 0.42439525],
  },
  {
    options: { name: 'adafactor', clip_threshold: 0.5, ...noDecayNames },
    shapes: wide,
    rate: 1e-1,
    clip: 1,
    norm: 5.6472146,
    sum: [0.00014479841, 1.2655185, 0.0087166123],
    squares: [7.2318921e-7, 25.636379, 1.0785436],
    second: [0.00015168413, 0.49359332, 0.19673204],
    last: [-0.00016366962, 0.16860263, 0.48643291],
  },
  {
    options: { name: 'adamw_scale', betas: [0.9, 0.99], eps: 1e-2, ...noDecayNames },
    shapes: wide,
    rate: 1e-1,
    clip: null,
    norm: 5.6472146,
    sum: [-2.6651625e-5, 1.24401, 0.030297125],
    squares: [9.2989171e-7, 24.482503, 1.0830423],
    second: [5.010657e-5, 0.50602288, 0.23590822],
    last: [-0.00027239451, 0.19793402, 0.43355837],
  },
  {
    options: { name: 'muon', ...noDecayNames },
    shapes: square,
    rate: 1e-1,
    clip: 1,
    norm: 6.2212258,
    sum: [0.00010198862, 1.2613747, 0.49446195],
    squares: [6.5570818e-7, 24.314146, 7.4581416],
    second: [0.00013062661, 0.48025473, 0.20790551],
    last: [-0.00019924691, 0.17153532, 0.41247103],
  },
];

/** Parameters j = 0, 1, 2 with values sin(0.7 i + j), the first one so small that its RMS is below the smallest scale. */
function makeParameters(backend: Backend, shapes: number[][], dtype: FloatType = 'f32'): Parameters {
  const parameters = new Parameters(
    backend,
    dtype,
    shapes.map((shape, j) => ({ name: `encoder.block.${j}.weight`, shape })),
  );
  parameters.places.forEach(({ name, length }, j) => {
    const size = j === 0 ? 2e-4 : 0.5;
    parameters.get(name).write(Float32Array.from({ length }, (_, i) => Math.sin(0.7 * i + j) * size));
  });
  parameters.trainable();
  return parameters;
}

/** Gradients of update t, cos(1.3 i + j + t^2): three times as large in update 2. */
function writeGradients(parameters: Parameters, t: number): void {
  parameters.places.forEach(({ name, length }, j) => {
    const size = t === 2 ? 1.5 : 0.5;
    const { grad } = parameters.get(name);
    grad!.write(Float32Array.from({ length }, (_, i) => Math.cos(1.3 * i + j + t * t) * size));
  });
}

async function valuesOf(parameters: Parameters): Promise<Float32Array> {
  const values = await parameters.values.read();
  return values instanceof Uint16Array ? fromBfloat16(values) : (values as Float32Array);
}

const close = (got: number, want: number, what: string, tolerance = 2e-5) =>
  assert.ok(Math.abs(got - want) <= tolerance * Math.max(Math.abs(want), 1e-3), `${what} is ${got}, expected ${want}`);

for (const golden of goldens)
  for (const backend of [testedBackend(), openReference()])
    test(`${golden.options.name} agrees with PyTorch after five updates (${backend.name})`, async () => {
      const parameters = makeParameters(backend, golden.shapes);
      const optimizer = createOptimizer(parameters, golden.options);
      for (let t = 0; t < 5; t++) {
        writeGradients(parameters, t);
        optimizer.step({ learning_rate: golden.rate * (1 - 0.1 * t), max_grad_norm: golden.clip });
      }
      close((await optimizer.gradientNorm.read())[0]!, golden.norm, 'gradient norm', 1e-6);
      const flat = await valuesOf(parameters);
      parameters.places.forEach(({ offset, length }, j) => {
        const p = flat.subarray(offset, offset + length);
        const sum = p.reduce((a, b) => a + b, 0);
        const squares = p.reduce((a, b) => a + b * b, 0);
        close(sum, golden.sum[j]!, `sum of parameter ${j}`, j === 0 ? 1e-4 : 2e-5);
        close(squares * 1e3, golden.squares[j]! * 1e3, `sum of squares of parameter ${j}`, 1e-4);
        close(p[1]!, golden.second[j]!, `parameter ${j}[1]`);
        close(p.at(-1)!, golden.last[j]!, `the last of parameter ${j}`);
      });
      const gaps = parameters.places.flatMap(({ offset, length }) => [...flat.subarray(offset + length, offset + 64)]);
      assert.ok(gaps.length > 0 && gaps.every((v) => v === 0), 'the gaps between parameters stay zero');
      optimizer.dispose();
      parameters.dispose();
    });

const cpu = testedBackend();
const allNames = Object.keys(optimizerDefaults) as (keyof typeof optimizerDefaults)[];

async function train(
  options: OptimizerOptions,
  { steps, dtype = 'f32', shapes = square }: { steps: number; dtype?: FloatType; shapes?: number[][] },
  restart = -1,
): Promise<Float32Array> {
  const parameters = makeParameters(cpu, shapes, dtype);
  let optimizer = createOptimizer(parameters, options);
  for (let t = 0; t < steps; t++) {
    if (t === restart) {
      const saved: [string, number[]][] = [];
      for (const [name, tensor] of Object.entries(optimizer.state())) {
        const host = await tensor.read();
        saved.push([name, Array.from(host instanceof Uint16Array ? fromBfloat16(host) : host)]);
      }
      const done = optimizer.steps;
      optimizer.dispose();
      optimizer = createOptimizer(parameters, options);
      optimizer.steps = done;
      for (const [name, values] of saved) optimizer.state()[name]!.write(values);
    }
    writeGradients(parameters, t);
    optimizer.step({ learning_rate: 1e-2, max_grad_norm: 1 });
  }
  const values = await valuesOf(parameters);
  optimizer.dispose();
  parameters.dispose();
  return values;
}

for (const name of allNames)
  for (const rounding of ['nearest', 'kahan', 'stochastic', 'master'] as const)
    test(`${name}, bf16, ${rounding}: a resumed run is bit for bit the run that was not interrupted`, async () => {
      const options = { name, rounding, seed: 5 } as OptimizerOptions;
      const whole = await train(options, { steps: 6, dtype: 'bf16' });
      assert.deepEqual(await train(options, { steps: 6, dtype: 'bf16' }, 3), whole);
      assert.notDeepEqual(await train(options, { steps: 5, dtype: 'bf16' }), whole);
    });

test('the moments in bfloat16 give nearly the same values with half the memory', async () => {
  const before = cpu.usage.bytes;
  const wanted = await train({ name: 'adamw_scale' }, { steps: 5, dtype: 'bf16', shapes: wide });
  const got = await train({ name: 'adamw_scale', state_dtype: 'bfloat16' }, { steps: 5, dtype: 'bf16', shapes: wide });
  assert.notDeepEqual(got, wanted);
  got.forEach((v, i) => void close(v, wanted[i]!, `value ${i}`, 0.02));
  const parameters = makeParameters(cpu, wide, 'bf16');
  const optimizer = createOptimizer(parameters, { name: 'adamw_scale', state_dtype: 'bfloat16' });
  assert.deepEqual(
    Object.entries(optimizer.state()).map(([name, t]) => [name, t.dtype, t.length]),
    [
      ['first_moment', 'bf16', 384],
      ['second_moment', 'bf16', 384],
      ['compensation', 'bf16', 384],
    ],
  );
  optimizer.dispose();
  parameters.dispose();
  assert.equal(cpu.usage.bytes, before, 'nothing leaks');
});

for (const name of allNames)
  test(`${name}: bf16 values with compensation, with float32 copies or by chance follow float32 ones through updates too small for bf16`, async () => {
    const end = async (dtype: FloatType, rounding: NonNullable<OptimizerOptions['rounding']>) => {
      const parameters = new Parameters(cpu, dtype, [{ name: 'encoder.block.0.weight', shape: [64, 64] }]);
      parameters.trainable();
      parameters.values.write(new Float32Array(4096).fill(1));
      const optimizer = createOptimizer(parameters, { name, rounding, weight_decay: 0 } as OptimizerOptions);
      const { grad } = parameters.get('encoder.block.0.weight');
      grad!.write(new Float32Array(4096).fill(0.5));
      // Muon shares what this matrix of rank one could move among all 64 ranks.
      const learning_rate = name === 'muon' ? 1e-2 : 3e-4;
      for (let t = 0; t < 100; t++) optimizer.step({ learning_rate, max_grad_norm: null });
      const values = await valuesOf(parameters);
      optimizer.dispose();
      parameters.dispose();
      return values.reduce((a, b) => a + b, 0) / values.length;
    };
    const wanted = await end('f32', 'nearest');
    assert.ok(wanted < 0.99, `float32 moves to ${wanted}`);
    const moved = 1 - wanted;
    assert.equal(await end('bf16', 'nearest'), 1, 'rounding to the nearest loses every update');
    close(1 - (await end('bf16', 'kahan')), moved, 'the mean change with compensation', 0.15);
    close(1 - (await end('bf16', 'stochastic')), moved, 'the mean change by chance', 0.05);
    close(1 - (await end('bf16', 'master')), moved, 'the change of the float32 values, rounded once', 0.005 / moved);
  });

test('frozen parameters keep their values and have no state', async () => {
  const parameters = makeParameters(cpu, wide);
  const frozen = new Parameters(
    cpu,
    'f32',
    parameters.places.map(({ name, shape }) => ({ name, shape })),
  );
  frozen.values.write((await parameters.values.read()) as Float32Array);
  frozen.trainable((name) => name.includes('.1.'));
  const optimizer = createOptimizer(frozen, { name: 'adamw' });
  assert.equal(optimizer.state().first_moment!.length, 256); // 3 x 70 in units of 64
  const before = await valuesOf(frozen);
  frozen.get('encoder.block.1.weight').grad!.write(new Float32Array(210).fill(1));
  optimizer.step({ learning_rate: 0.1, max_grad_norm: null });
  const after = await valuesOf(frozen);
  for (const { name, offset, length } of frozen.places)
    for (let i = offset; i < offset + length; i++)
      assert.equal(after[i] !== before[i], name.includes('.1.'), `${name}`);
  for (const p of [optimizer, parameters, frozen]) p.dispose();
});

test('names decide about weight decay', async () => {
  const names = ['shared.weight', 'encoder.block.0.layer.0.layer_norm.weight', 'x.relative_attention_bias.weight'];
  const parameters = new Parameters(
    cpu,
    'f32',
    names.map((name) => ({ name, shape: [2] })),
  );
  parameters.trainable();
  for (const name of names) parameters.get(name).write([1, 1]);
  const optimizer = createOptimizer(parameters, { name: 'adamw_scale', weight_decay: 0.5 });
  optimizer.step({ learning_rate: 0.1, max_grad_norm: null });
  const after = await valuesOf(parameters);
  assert.deepEqual(
    parameters.places.map(({ offset }) => Math.round(after[offset]! * 1e6) / 1e6),
    [0.95, 1, 1],
  );
  for (const p of [optimizer, parameters]) p.dispose();
});

for (const name of allNames)
  test(`${name}: gradients with a NaN change neither values nor state, and the norm says so`, async () => {
    const parameters = makeParameters(cpu, square);
    const optimizer = createOptimizer(parameters, { name });
    writeGradients(parameters, 0);
    optimizer.step({ learning_rate: 1e-2, max_grad_norm: 1 });
    const all = async () =>
      Promise.all([parameters.values, ...Object.values(optimizer.state())].map((tensor) => tensor.read()));
    const before = await all();
    const { grad } = parameters.get('encoder.block.2.weight');
    grad!.write(new Float32Array(elements(square[2]!)).fill(Number.NaN));
    optimizer.step({ learning_rate: 1e-2, max_grad_norm: 1 });
    assert.ok(Number.isNaN((await optimizer.gradientNorm.read())[0]));
    assert.deepEqual(await all(), before);
    for (const p of [optimizer, parameters]) p.dispose();
  });

test('unknown optimizers, unknown options and impossible values are named', () => {
  const parameters = makeParameters(cpu, wide);
  const make = (options: object) => () => createOptimizer(parameters, options as OptimizerOptions);
  assert.throws(make({ name: 'sgd' }), /"sgd" is unknown, expected one of adamw, adamw_scale, adafactor, muon/);
  assert.throws(make({ name: 'adamw', momentum: 0.9 }), /optimizer adamw: has no option "momentum", expected one of/);
  assert.throws(make({ name: 'adamw', betas: [0.9, 1] }), /betas is 1, expected 0 to below 1/);
  assert.throws(make({ name: 'adamw', state_dtype: 'bfloat16' }), /expected float32 since the parameters are float32/);
  const untrainable = new Parameters(cpu, 'f32', [{ name: 'w', shape: [2] }]);
  assert.throws(() => createOptimizer(untrainable, { name: 'adamw' }), /no parameter is trainable/);
  for (const p of [parameters, untrainable]) p.dispose();
});

for (const dtype of ['f32', 'bf16'] as const)
  test(`${dtype}: the average follows the parameters and stands in for them only during an evaluation`, async () => {
    const parameters = new Parameters(cpu, dtype, [{ name: 'w', shape: [64] }]);
    const average = createAverage(parameters, 0.75);
    const ones = new Float32Array(64).fill(1);
    parameters.values.write(ones);
    average.update(8); // (1 + 8) / (10 + 8) = 0.5 of the old average, which is 0
    average.update(80);
    assert.equal((await average.state().average!.read())[7], 0.5 * 0.75 + 0.25);
    const seen = await average.evaluate(() => valuesOf(parameters));
    assert.equal(seen[7], 0.625);
    assert.deepEqual(await valuesOf(parameters), ones);
    await assert.rejects(
      average.evaluate(() => {
        throw new Error('failed');
      }),
      /failed/,
    );
    assert.deepEqual(await valuesOf(parameters), ones);
    assert.throws(() => createAverage(parameters, 1), /average: decay is 1, expected 0 to below 1/);
    for (const p of [average, parameters]) p.dispose();
  });

/** The flat values of each parameter after two updates at a rate, with rates scaled by parameter. */
async function updated(name: OptimizerOptions['name'], rate: number, scale?: (parameter: string) => number) {
  const parameters = makeParameters(cpu, square);
  const optimizer = createOptimizer(parameters, { name, no_decay: [], weight_decay: 0.1 } as OptimizerOptions, scale);
  for (const t of [0, 1]) {
    writeGradients(parameters, t);
    optimizer.step({ learning_rate: rate, max_grad_norm: 1 });
  }
  const flat = await valuesOf(parameters);
  const names = Object.keys(optimizer.state());
  optimizer.dispose();
  parameters.dispose();
  return { names, values: parameters.places.map(({ offset, length }) => flat.subarray(offset, offset + length)) };
}

for (const name of allNames)
  test(`${name}: a parameter whose rate is scaled moves as at that rate, the others as before`, async () => {
    const [whole, half] = [await updated(name, 1e-2), await updated(name, 5e-3)];
    const scaled = await updated(name, 1e-2, (parameter) => (parameter.includes('.1.') ? 0.5 : 1));
    assert.deepEqual(scaled.values, [whole.values[0], half.values[1], whole.values[2]]);
    assert.notDeepEqual(half.values[1], whole.values[1]);
    assert.equal(scaled.names.length, 2 * whole.names.length);
  });

test('gradients and state cover what is trained alone, and more gradients do not disturb an optimizer', async () => {
  const after = async (trainable: (name: string) => boolean) => {
    const parameters = fresh();
    parameters.trainable(trainable);
    const optimizer = createOptimizer(parameters, { name: 'adamw' });
    const part = parameters.trained()!;
    parameters.trainable(); // as lossAndGradients does
    writeGradients(parameters, 0);
    optimizer.step({ learning_rate: 1e-2, max_grad_norm: null });
    const values = await valuesOf(parameters);
    const state = optimizer.state().first_moment!.length;
    optimizer.dispose();
    parameters.dispose();
    return { values, state, gradients: part.gradients.length };
  };
  const fresh = () => {
    const parameters = new Parameters(
      cpu,
      'f32',
      wide.map((shape, j) => ({ name: `p${j}`, shape })),
    );
    parameters.values.write(Float32Array.from({ length: parameters.values.length }, (_, i) => Math.sin(i)));
    return parameters;
  };
  const all = await after(() => true);
  const one = await after((name) => name === 'p1');
  assert.deepEqual([all.gradients, all.state], [384, 384]);
  assert.deepEqual([one.gradients, one.state], [256, 256]);
  const start = await valuesOf(fresh());
  assert.deepEqual(one.values.subarray(64, 64 + 210), all.values.subarray(64, 64 + 210));
  assert.deepEqual(one.values.subarray(0, 64), start.subarray(0, 64));
  assert.deepEqual(one.values.subarray(320), start.subarray(320));
  assert.notDeepEqual(one.values, start);
});
