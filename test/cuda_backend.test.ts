/** The CUDA backend's logic over a driver that only takes notes: memory, copies, launches, captured graphs. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Backend } from '../src/backend/backend.ts';
import { Arena, type CudaMemory } from '../src/backend/cuda/memory.ts';
import type { Specialisation } from '../src/backend/cuda/program.ts';
import { compileAhead } from '../src/backend/cuda/rehearsal.ts';
import { type AnyKernel, defineKernel } from '../src/backend/kernel.ts';
import { t5Config } from '../src/model/config.ts';
import { T5EncoderModel } from '../src/model/heads.ts';
import { parameterTable } from '../src/model/parameter_table.ts';
import { T5ForConditionalGeneration } from '../src/model/t5.ts';
import { Parameters } from '../src/tensor/parameters.ts';
import { Trainer } from '../src/train/trainer.ts';
import type { Batch } from '../src/util/batch.ts';
import { BackendError } from '../src/util/errors.ts';
import { FakeDriver, fakeCuda } from './fake_cuda.ts';
import { uniform } from './harness.ts';

const copy = defineKernel({
  name: 'copy',
  inputs: { x: '[N]' },
  outputs: { y: '[N]' },
  scalars: { factor: 'f32' },
  cases: [],
  reference() {},
  cuda: ({ sizes: { N } }) => ({
    workspace: { partial: 8 * N! },
    launches: [{ source: 'copy/copy.cu', entry: 'copy', grid: [N!], block: 32, arguments: ['x', 'y', 'partial'] }],
  }),
}) as unknown as AnyKernel;

test('a kernel is launched with shared memory of any size, whatever the sizes before', () => {
  const shared = defineKernel({
    ...copy,
    cuda: ({ sizes: { N } }) => ({
      launches: [{ source: 'copy/copy.cu', entry: 'copy', grid: [1], block: 32, sharedBytes: 1024 * N! }],
    }),
  }) as unknown as AnyKernel;
  const { backend, driver } = fakeCuda();
  const [x, y] = [backend.alloc('f32', 200), backend.alloc('f32', 200)];
  for (const length of [100, 60, 100, 8, 120, 100])
    backend.launch(shared, 'f32', [x.slice(0, length), y.slice(0, length)], [length], [1]);
  assert.equal(driver.log.filter((line) => line.startsWith('launch')).length, 6);
});

test('blocks never overlap, neighbours grow together again, and what is freed is used again', () => {
  const driver = new FakeDriver();
  const arena = new Arena(driver);
  const random = uniform(7);
  const held: { start: number; bytes: number }[] = [];
  for (let i = 0; i < 3000; i++) {
    if (held.length > 0 && random() < 0.5) {
      const [gone] = held.splice(Math.floor(random() * held.length), 1);
      arena.give(gone!.start);
    } else {
      const bytes = Math.floor(random() ** 4 * (4 << 20));
      const start = arena.take(bytes, 'test');
      assert.equal(start % 512, 0);
      for (const other of held)
        assert.ok(
          start + bytes <= other.start || other.start + other.bytes <= start,
          `${start} overlaps ${other.start}`,
        );
      held.push({ start, bytes });
    }
  }
  for (const { start } of held) arena.give(start);
  const { mapped } = arena;
  const whole = arena.take(mapped, 'everything in one piece');
  assert.ok(whole > 0);
  assert.equal(arena.mapped, mapped);
  arena.give(whole);
  arena.trim();
  assert.equal(driver.mappedBytes, 0);
  assert.throws(() => arena.give(whole), /freed twice/);
});

test('trimming keeps what is in use and what lies before it', () => {
  const driver = new FakeDriver();
  const arena = new Arena(driver);
  const early = arena.take(1 << 20, 'early');
  const [a, b] = [arena.take(40 << 20, 'a'), arena.take(100 << 20, 'b')];
  arena.give(a);
  arena.trim();
  assert.ok(driver.mappedBytes >= 141 << 20);
  arena.give(b);
  arena.trim();
  assert.equal(driver.mappedBytes, 32 << 20);
  assert.equal(arena.take(30 << 20, 'again'), early + (1 << 20));
});

test('out of memory names what holds the memory and is no end', () => {
  const { backend, driver } = fakeCuda();
  driver.limit = 64 << 20;
  const held = [1, 2].map(() => backend.alloc('f32', 5 << 20));
  assert.throws(
    () => backend.alloc('bf16', 16 << 20),
    (error: Error) =>
      error instanceof BackendError &&
      /0\.03 GiB: 0\.04 GiB of 1\.00 GiB.*2 x f32\[5242880\] = 0\.04 GiB/.test(error.message),
  );
  for (const memory of held) backend.free(memory);
  assert.deepEqual(backend.usage, { bytes: 0, peakBytes: 40 << 20 });
  backend.free(backend.alloc('bf16', 16 << 20));
});

test('values go to the device and come back, a slice of them too', async () => {
  const { backend } = fakeCuda();
  const memory = backend.alloc('f32', 6);
  backend.write(memory, Float32Array.of(1, 2, 3, 4, 5, 6));
  const back = new Float32Array(6);
  await backend.read(memory, back);
  assert.deepEqual([...back], [1, 2, 3, 4, 5, 6]);
  assert.throws(
    () => backend.write(memory, new Float32Array(5)),
    /^BackendError: memory: 5 host elements of 4 bytes, expected 6 of f32$/,
  );
});

test('an upload buffer is filled again only when the device has read it', () => {
  const { backend, driver } = fakeCuda();
  const memory = backend.alloc('i32', 3 << 20); // 12 MiB: more than half of the buffer
  for (let i = 0; i < 3; i++) backend.write(memory, new Int32Array(3 << 20).fill(i));
  const waits = driver.log.filter((line) => line.startsWith('wait'));
  const records = driver.log.filter((line) => line.startsWith('record'));
  assert.ok(waits.length > 0);
  for (const wait of waits) {
    const record = wait.replace('wait', 'record');
    assert.ok(records.includes(record), 'waits only for what was recorded');
    assert.ok(driver.log.indexOf(record) < driver.log.indexOf(wait));
  }
});

test('a launch gets the addresses of its arguments and of workspaces that live as long as it', () => {
  const { backend, driver } = fakeCuda();
  const [x, y] = [backend.alloc('f32', 100), backend.alloc('f32', 100)];
  const before = backend.usage.bytes;
  backend.launch(copy, 'f32', [x, y.slice(10, 5)], [5], [1]);
  assert.equal(backend.usage.bytes, before);
  const free = backend.alloc('f32', 10);
  assert.deepEqual(driver.log, [`launch 5x1x1 32 0 (${x.address} ${y.address + 40} ${free.address})`]);
});

test('a capture records without running, keeps its memory to itself and runs the same again', () => {
  const { backend, driver } = fakeCuda();
  const x = backend.alloc('f32', 4);
  let result: CudaMemory | undefined;
  const captured = backend.capture(() => {
    const [once, y] = [backend.alloc('f32', 4), backend.alloc('f32', 4)];
    backend.write(once, Float32Array.of(1, 2, 3, 4));
    backend.launch(copy, 'f32', [once, y], [4], [1]);
    backend.free(once);
    backend.launch(copy, 'f32', [x, y], [4], [2]);
    result = y;
  });
  assert.deepEqual(driver.log, []);
  const outside = [1, 2, 3].map(() => backend.alloc('f32', 4));
  for (const { address } of outside) assert.ok(Math.abs(address - result!.address) > 1 << 20);
  captured.run();
  const first = driver.log.splice(0);
  assert.equal(first.length, 3);
  assert.match(first[2]!, new RegExp(`\\(${x.address} ${result!.address} `));
  captured.run();
  assert.deepEqual(driver.log, first);
  const before = driver.mappedBytes;
  captured.dispose();
  assert.ok(driver.mappedBytes < before);
  assert.equal(backend.usage.bytes, 4 * 512);
});

test('durations are the times between events around each run, all runs one after the other', () => {
  const { backend, driver } = fakeCuda();
  let runs = 0;
  const found = backend.durations!(() => driver.log.push(`run ${++runs}`), 3);
  const events = driver.log.filter((line) => line.startsWith('record')).map((line) => Number(line.slice(7)));
  assert.deepEqual(
    driver.log.map((line) => line.split(' ')[0]),
    ['record', 'run', 'record', 'run', 'record', 'run', 'record'],
  );
  assert.deepEqual(found, [events[1]! - events[0]!, events[2]! - events[1]!, events[3]! - events[2]!]);
});

test('a capture whose work fails gives everything back, and the next one works', () => {
  const { backend, driver } = fakeCuda();
  const { mappedBytes } = driver;
  const fails = () => {
    backend.alloc('f32', 100);
    throw new Error('no');
  };
  assert.throws(() => backend.capture(fails), /^Error: no$/);
  assert.equal(driver.mappedBytes, mappedBytes);
  backend.capture(() => {}).run();
  assert.equal(driver.mappedBytes, mappedBytes);
});

test('a captured graph does not run once something that it reads was given back', () => {
  const { backend, driver } = fakeCuda();
  const [x, y] = [backend.alloc('f32', 4), backend.alloc('f32', 4)];
  const captured = backend.capture(() => {
    const own = backend.alloc('f32', 4);
    backend.launch(copy, 'f32', [x, own], [4], [1]);
    backend.launch(copy, 'f32', [own, y], [4], [1]);
    backend.free(own); // in the graph's own arena: it may run again all the same
  });
  captured.run();
  assert.equal(driver.log.length, 2);
  backend.free(x);
  assert.throws(() => captured.run(), { name: 'BackendError', message: /^recorded launches: use f32\[4\]/ });
  assert.equal(driver.log.length, 2);
});

test('reading inside a capture is refused', async () => {
  const { backend } = fakeCuda();
  const x = backend.alloc('f32', 1);
  let reading: Promise<void> | undefined;
  backend.capture(() => void (reading = backend.read(x, new Float32Array(1))));
  await assert.rejects(reading!, /inside a capture/);
});

test('an error of the device names what was launched last', async () => {
  const { backend, driver } = fakeCuda();
  const x = backend.alloc('f32', 1);
  backend.launch(copy, 'f32', [x, x], [1], [1]);
  backend.write(x, Float32Array.of(1));
  driver.isDone = () => {
    throw new BackendError('cuEventQuery: CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered');
  };
  await assert.rejects(backend.read(x, new Float32Array(1)), /ILLEGAL_ADDRESS.*launched last: copy/);
});

test('an error of a launch names the kernel and its sizes', () => {
  const { backend, driver } = fakeCuda();
  const x = backend.alloc('bf16', 8);
  driver.launch = () => {
    throw new BackendError('cuLaunchKernel: CUDA_ERROR_INVALID_VALUE: invalid argument');
  };
  assert.throws(
    () => backend.launch(copy, 'bf16', [x, x], [8], [1]),
    /copy bf16, sizes N=8: cuLaunchKernel: CUDA_ERROR_INVALID_VALUE/,
  );
});

test('a training step is recorded as it was launched: the same kernels on the same grids, no upload of a batch among them', async () => {
  const { backend, driver } = fakeCuda();
  const config = t5Config({
    ...{ vocab_size: 100, d_model: 64, d_kv: 64, d_ff: 128, num_layers: 2, num_heads: 2, dropout_rate: 0.1 },
    ...{ feed_forward_proj: 'gated-gelu', tie_word_embeddings: false },
  });
  const parameters = new Parameters(backend, 'bf16', parameterTable(config, 'conditional_generation'));
  const trainer = new Trainer(new T5ForConditionalGeneration(config, parameters), {
    optimizer: { name: 'adamw_scale' },
    max_grad_norm: 1,
  });
  const ints = (length: number) => new Int32Array(length).fill(5);
  const batch: Batch = {
    ...{ rows: 2, sourceLength: 32, targetLength: 16, tokens: 32 },
    ...{
      input_ids: ints(64),
      decoder_input_ids: ints(32),
      labels: ints(32),
      segments: ints(64),
      decoder_segments: ints(32),
    },
  };
  const steps: string[][] = [];
  for (let i = 0; i < 4; i++) {
    driver.log.length = 0;
    await trainer.stepOn([batch]);
    steps.push(driver.log.map((line) => line.replace(/ \(.*| at .*| to .*| \d+$/, '')));
  }
  const kernels = (log: string[]) => log.filter((line) => /^(launch|gemm)/.test(line));
  assert.ok(kernels(steps[0]!).length > 100);
  // One more: the sums of micro-batches are put together on the device.
  assert.equal(kernels(steps[1]!).length, kernels(steps[0]!).length + 1);
  assert.deepEqual(kernels(steps[2]!), kernels(steps[1]!));
  assert.deepEqual(steps[3], steps[2]);
  const uploads = (log: string[]) => log.filter((line) => line.startsWith('upload')).length;
  assert.equal(uploads(steps[2]!), 5 + 1 + 1 + 1 + 1); // batch, rng, factor, hyper; in the graph: the seed of the loss
});

for (const [rows, taken, steps] of [
  [65, 'recorded steps that later calls replay', /^launch 1x1x1 256 0/], // `advance`
  [9, 'recorded launches of fewer kernels', /^launch 9x1x1 256 0/],
  [1, 'launches of many steps', /^launch 64x1x1 512/],
] as const)
  test(`greedy decoding of ${rows} rows is ${taken}`, async () => {
    const { backend, driver } = fakeCuda();
    const { bytes } = backend.usage;
    const config = t5Config({ vocab_size: 100, d_model: 64, d_kv: 64, d_ff: 128, num_layers: 2, num_heads: 2 });
    const parameters = new Parameters(backend, 'bf16', parameterTable(config, 'conditional_generation'));
    const model = new T5ForConditionalGeneration(config, parameters);
    const mapped = driver.mappedBytes;
    const generate = async (columns: number, max_new_tokens = 20) => {
      driver.log.length = 0;
      const input_ids = new Array<number[]>(rows).fill(new Array<number>(columns).fill(5));
      const answers = await model.generate({ input_ids, max_new_tokens });
      const zeros = new Array<number>(max_new_tokens + 1).fill(0); // what the fake device holds
      assert.deepEqual(answers, new Array<number[]>(rows).fill(zeros));
      return driver.log.filter((line) => line.startsWith('launch'));
    };
    const first = await generate(40);
    const second = await generate(40);
    const shorter = await generate(33); // padded to the same width
    assert.ok(second.length < first.length);
    assert.deepEqual(shorter, second);
    const found = second.filter((line) => steps.test(line)).length;
    if (rows === 1)
      assert.equal(found, 3); // the prompt, 16 tokens, 3 tokens
    else assert.ok(found >= 20);
    const wider = await generate(100);
    assert.notDeepEqual(wider, second);
    model.dispose();
    assert.equal(backend.usage.bytes, bytes);
    assert.ok(driver.mappedBytes <= mapped);
  });

test('beams are searched in recorded steps, of which the host looks at every eighth', async () => {
  const { backend, driver } = fakeCuda();
  const { bytes } = backend.usage;
  const config = t5Config({ vocab_size: 100, d_model: 64, d_kv: 64, d_ff: 128, num_layers: 2, num_heads: 2 });
  const parameters = new Parameters(backend, 'bf16', parameterTable(config, 'conditional_generation'));
  const model = new T5ForConditionalGeneration(config, parameters);
  const input_ids = new Array<number[]>(5).fill(new Array<number>(40).fill(5));
  const generate = async () => {
    driver.log.length = 0;
    const found = await model.generate({ input_ids, num_beams: 3, max_new_tokens: 20 });
    assert.deepEqual(found, new Array<number[]>(5).fill([0]), 'what was written before the first step is still there');
    return driver.log.map((line) => line.replace(/ \(.*| at .*| to .*/, ''));
  };
  await generate();
  const log = await generate();
  assert.equal(log.filter((line) => line === 'launch 5x1x1 256 0').length, 20, 'a block for each source and token');
  const downloads = log.flatMap((line, i) => (line.startsWith('download') ? [i] : []));
  assert.equal(downloads.length, 3 + 4, 'after 1, 9 and 17 tokens, and what was found');
  model.dispose();
  assert.equal(backend.usage.bytes, bytes);
});

test('the second pass of an encoder over a shape is recorded and replayed from then on', async (t) => {
  const { backend, driver } = fakeCuda();
  const runGraph = t.mock.method(driver, 'runGraph');
  const { bytes } = backend.usage;
  const config = t5Config({ vocab_size: 100, d_model: 64, d_kv: 64, d_ff: 128, num_layers: 2, num_heads: 2 });
  const model = new T5EncoderModel(config, new Parameters(backend, 'bf16', parameterTable(config, 'encoder')));
  const encode = async (columns: number, rows = 1) => {
    const replayed = runGraph.mock.callCount();
    const row = new Array<number>(columns).fill(5);
    const { last_hidden_state } = await model.encode({ input_ids: new Array<number[]>(rows).fill(row) });
    assert.deepEqual(last_hidden_state.dims, [rows, columns, 64]);
    return runGraph.mock.callCount() > replayed;
  };
  assert.deepEqual(
    [await encode(40), await encode(33), await encode(50)],
    [false, true, true],
    'of the same padded width',
  );
  assert.equal(await encode(64), false, 'nothing to mask: another shape');
  assert.deepEqual([await encode(512, 16), await encode(512, 16)], [false, false], 'enough to keep a device busy');
  for (let columns = 128; columns < 64 * 20; columns += 64) for (let i = 0; i < 2; i++) await encode(columns);
  assert.equal(await encode(40), false, 'forgotten after so many others');
  await encode(40);
  model.parameters.trainable();
  assert.equal(await encode(50), false, 'parameters that learn may have moved');
  model.dispose();
  assert.equal(backend.usage.bytes, bytes);
});

test('a rehearsal finds what a run compiles, without a device, and compiles it at once', async () => {
  const work = async (on: Backend) => {
    const [x, y] = [on.alloc('f32', 100), on.alloc('f32', 100)];
    on.write(x, new Float32Array(100));
    on.launch(copy, 'f32', [x, y], [100], [1]);
    const captured = on.capture!(() => on.launch(copy, 'bf16', [x, y], [100], [1]));
    captured.run();
    const values = new Float32Array(100).fill(1);
    await on.read(y, values);
    assert.deepEqual(values, new Float32Array(100));
    throw new Error('what goes wrong is left to the real run');
  };
  const asked: string[] = [];
  const { driver } = fakeCuda();
  const compileAll = async (list: readonly Specialisation[]) => {
    asked.push(...list.map(({ source, type }) => `${source} ${type}`));
  };
  await compileAhead({ driver, compiler: { compile: () => new Uint8Array(8), compileAll } }, [work]);
  assert.deepEqual(asked, ['copy/copy.cu f32', 'copy/copy.cu bf16']);
  assert.deepEqual(driver.log, []);
});
