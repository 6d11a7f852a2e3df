import assert from 'node:assert/strict';
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { Device } from '../src/backend/devices.ts';
import { convertModel } from '../src/model/convert.ts';
import { T5ForSequenceClassification } from '../src/model/heads.ts';
import type { LoraOptions } from '../src/model/lora.ts';
import { T5ForConditionalGeneration } from '../src/model/t5.ts';
import { readMetrics } from '../src/train/metrics.ts';
import { Trainer } from '../src/train/trainer.ts';
import { at, run } from './finetune_fixture.ts';
import { readSafetensors } from './read_safetensors.ts';

const root = mkdtempSync(join(tmpdir(), 'fat5-lora-'));
after(() => rmSync(root, { recursive: true }));

const shape = {
  vocab_size: 40,
  d_model: 16,
  d_kv: 4,
  d_ff: 24,
  num_layers: 2,
  num_heads: 3,
  feed_forward_proj: 'gated-gelu',
  dropout_rate: 0,
  tie_word_embeddings: false,
  pad_token_id: 0,
  eos_token_id: 1,
} as const;
const lora: LoraOptions = { rank: 3, alpha: 6, dropout: 0, targets: ['q', 'EncDecAttention.v', 'wi_1', 'wo', 'o'] };
const adapted = 6 + 2 + 4 + 4 + 6;
const inputs = {
  input_ids: [
    [5, 6, 7, 8, 1],
    [9, 10, 1, 0, 0],
  ],
  attention_mask: [
    [1, 1, 1, 1, 1],
    [1, 1, 1, 0, 0],
  ],
  labels: [
    [11, 12, 1],
    [13, 1, -100],
  ],
};

before(async () => {
  const model = T5ForConditionalGeneration.from_config(shape, { seed: 3 });
  await model.save_pretrained(join(root, 'base'));
  model.dispose();
});

const open = (options: object = {}, device: Device = 'reference') =>
  T5ForConditionalGeneration.from_pretrained(join(root, 'base'), { device, lora, ...options });

/** Gives every B values, so that the adapters do something. */
function fill({ adapters }: T5ForConditionalGeneration): void {
  adapters!.list.forEach(({ b }, k) => {
    b.write(Float32Array.from({ length: b.length }, (_, i) => 0.1 * Math.sin(1.7 * i + k)));
  });
}
const numbers = async (tensor: { read(): Promise<ArrayLike<number>> }) => Array.from(await tensor.read());
const worst = (a: ArrayLike<number>, b: ArrayLike<number>) => Math.max(...Array.from(a, (x, i) => Math.abs(x - b[i]!)));

describe('adapters', () => {
  test('change nothing at first: B is zero, and A normal with standard deviation 1 / rank', async () => {
    const [plain, model] = [await open({ lora: undefined }, 'cpu'), await open({ lora: { ...lora, rank: 16 } }, 'cpu')];
    assert.equal(model.adapters!.list.length, adapted);
    assert.deepEqual((await model.forward(inputs)).logits.data, (await plain.forward(inputs)).logits.data);
    const a = (await Promise.all(model.adapters!.list.map((one) => numbers(one.a)))).flat();
    const deviation = Math.sqrt(a.reduce((sum, x) => sum + x * x, 0) / a.length);
    assert.ok(Math.abs(deviation * 16 - 1) < 0.05, `standard deviation ${deviation}`);
    for (const { b } of model.adapters!.list) assert.ok((await numbers(b)).every((x) => x === 0));
    plain.dispose();
    model.dispose();
  });

  test('have the gradients s B^T dW and s dW A^T, dW being that of the matrix with the product added', async () => {
    const model = await open();
    fill(model);
    const beside = await model.lossAndGradients(inputs);
    await model.adapters!.whileMerged(async () => {
      const merged = await model.lossAndGradients(inputs);
      assert.ok(Math.abs(merged.loss - beside.loss) < 1e-6, `${merged.loss} ${beside.loss}`);
      for (const { path, a, b } of model.adapters!.list) {
        const dW = merged.gradients[`${path}.weight`]!.data as Float32Array;
        const [A, B] = [await numbers(a), await numbers(b)];
        const [rank, I] = a.shape as [number, number];
        const O = b.shape[0]!;
        const product = (n: number, m: number, f: (i: number, j: number) => number) =>
          Array.from({ length: n * m }, (_, e) => f(Math.floor(e / m), e % m));
        const sum = (n: number, f: (i: number) => number) =>
          2 * Array.from({ length: n }, (_, i) => f(i)).reduce((x, y) => x + y, 0);
        const dA = product(rank, I, (r, i) => sum(O, (o) => B[o * rank + r]! * dW[o * I + i]!));
        const dB = product(O, rank, (o, r) => sum(I, (i) => dW[o * I + i]! * A[r * I + i]!));
        const size = Math.max(...dB.map(Math.abs));
        assert.ok(size > 1e-4, `${path} ${size}`);
        assert.ok(worst(beside.gradients[`${path}.lora_A.weight`]!.data, dA) < 1e-5 * size, `${path} A`);
        assert.ok(worst(beside.gradients[`${path}.lora_B.weight`]!.data, dB) < 1e-5 * size, `${path} B`);
      }
    });
    model.dispose();
  });

  test('have the gradients of finite differences, computed again in checkpointed blocks too', async () => {
    const model = await open();
    fill(model);
    const { gradients } = await model.lossAndGradients(inputs);
    model.activation_checkpointing = true;
    const again = await model.lossAndGradients(inputs);
    for (const [name, { data }] of Object.entries(gradients))
      assert.ok(worst(data, again.gradients[name]!.data) < 1e-7, name);
    const h = 2e-2; // the loss is read as float32
    for (const { path, a, b } of model.adapters!.list.filter((_, i) => i % 5 === 0))
      for (const [name, tensor] of [['A', a] as const, ['B', b] as const]) {
        const values = await numbers(tensor);
        const loss = async (change: number) => {
          tensor.write(values.map((x, i) => (i === 2 ? x + change : x)));
          return (await model.forward(inputs)).loss!;
        };
        const slope = ((await loss(h)) - (await loss(-h))) / (2 * h);
        tensor.write(values);
        const got = gradients[`${path}.lora_${name}.weight`]!.data[2]!;
        assert.ok(Math.abs(got - slope) < 1e-2 * Math.abs(slope) + 3e-5, `${path} ${name}: ${got}, expected ${slope}`);
      }
    model.dispose();
  });

  for (const device of ['cpu', 'reference'] as const)
    test(`added into the matrices they say the same, and the matrices get their bits back (${device})`, async () => {
      const model = await open({}, device);
      fill(model);
      const before = await numbers(model.parameters.values);
      const { logits } = await model.forward(inputs);
      const merged = await model.whileMerged(() => model.forward(inputs));
      assert.ok(worst(merged.logits.data, logits.data) < 1e-5);
      assert.ok(worst(merged.logits.data, (await plainLogits(device)).data) > 1e-2);
      await assert.rejects(
        model.whileMerged(() => Promise.reject(new Error('no'))),
        /no/,
      );
      assert.deepEqual(await numbers(model.parameters.values), before);
      const alone = await model.generate({ input_ids: [[5, 6, 7, 8, 1]], max_new_tokens: 6 });
      await model.save_pretrained(join(root, 'told'));
      const told = await T5ForConditionalGeneration.from_pretrained(join(root, 'told'), { device });
      assert.deepEqual(await told.generate({ input_ids: [[5, 6, 7, 8, 1]], max_new_tokens: 6 }), alone);
      model.dispose();
      told.dispose();
    });

  const plainLogits = async (device: Device) => {
    const model = await open({ lora: undefined }, device);
    const { logits } = await model.forward(inputs);
    model.dispose();
    return logits;
  };

  test('write into no file: a model that was only just opened', async () => {
    const [plain, model] = [await open({ lora: undefined }, 'cpu'), await open({}, 'cpu')];
    const file = readFileSync(join(root, 'base', 'model.safetensors'));
    const ids = { input_ids: [[5, 6, 7, 8, 1]], max_new_tokens: 6 };
    assert.deepEqual(await model.generate(ids), await plain.generate(ids));
    assert.ok(readFileSync(join(root, 'base', 'model.safetensors')).equals(file));
    plain.dispose();
    model.dispose();
  });

  test('are dropped by dropout in training alone, each matrix its own elements', async () => {
    const model = await open({ lora: { ...lora, dropout: 0.5 } }, 'cpu');
    const plain = await open({}, 'cpu');
    fill(model);
    fill(plain);
    assert.deepEqual((await model.forward(inputs)).logits.data, (await plain.forward(inputs)).logits.data);
    const sumOf = async (one: T5ForConditionalGeneration, step: number) => {
      one.parameters.trainable((name) => name.includes('lora'));
      const { batchOf } = await import('../src/model/inputs.ts');
      const stats = one.accumulateGradients(batchOf(inputs, one.config), { denominator: 1, rng: { seed: 1, step } });
      return (await stats.read())[0]!;
    };
    assert.equal(await sumOf(plain, 0), await sumOf(plain, 1));
    assert.equal(await sumOf(model, 0), await sumOf(model, 0));
    assert.notEqual(await sumOf(model, 0), await sumOf(model, 1));
    model.dispose();
    plain.dispose();
  });

  test('learn as in PyTorch: losses and gradient norms of torch 2.13 with AdamW and clipping', async () => {
    const targets = ['q', 'v', 'wi_1', 'wo', 'o'];
    const model = await open({ lora: { ...lora, targets } }, 'cpu');
    const trainer = new Trainer(model, {
      optimizer: { name: 'adamw', learning_rate: 1e-2, weight_decay: 0 },
      max_grad_norm: 1,
      trainable: (name) => name.includes('lora'),
    });
    const golden = [
      [4.192768, 4.504457],
      [3.322476, 3.73763],
      [2.789149, 2.704461],
      [2.475285, 2.101292],
      [2.24947, 1.56129],
      [2.085043, 1.528117],
    ] as const;
    for (const [i, [loss, norm]] of golden.entries()) {
      const got = await trainer.step(inputs);
      assert.ok(Math.abs(got.loss - loss) < 1e-5 && Math.abs(got.grad_norm - norm) < 1e-5, `step ${i}: ${got.loss}`);
    }
    trainer.dispose();
    model.dispose();
  });

  test('lie in files of their own, in PEFT’s form, and `convert` writes the model with them added', async () => {
    const model = await open({}, 'cpu');
    fill(model);
    const folder = join(root, 'adapters');
    await model.save_pretrained(folder);
    assert.ok(!existsSync(join(folder, 'model.safetensors')));
    const stored = readSafetensors(join(folder, 'adapter_model.safetensors'));
    assert.equal(stored.size, 2 * adapted);
    assert.ok(stored.has('base_model.model.encoder.block.0.layer.0.SelfAttention.q.lora_A.weight'));
    const config = JSON.parse(readFileSync(join(folder, 'adapter_config.json'), 'utf8')) as Record<string, unknown>;
    assert.deepEqual([config.peft_type, config.r, config.lora_alpha], ['LORA', 3, 6]);
    await convertModel(folder, join(root, 'merged'), { format: 'huggingface', dtype: 'keep' });
    const [base, merged] = ['base', 'merged'].map((name) => readSafetensors(join(root, name, 'model.safetensors')));
    const targets = new Set(model.adapters!.list.map(({ path }) => `${path}.weight`));
    for (const [name, bytes] of merged!) assert.equal(bytes.equals(base!.get(name)!), !targets.has(name), name);
    const wanted = await model.forward(inputs);
    for (const name of ['adapters', 'merged']) {
      const opened = await T5ForConditionalGeneration.from_pretrained(join(root, name), { device: 'cpu' });
      assert.equal(opened.adapters, undefined);
      assert.ok(worst((await opened.forward(inputs)).logits.data, wanted.logits.data) < 1e-5, name);
      opened.dispose();
    }
    model.dispose();
  });

  test('from Python open the same, also without a config.json and scaled by the root of the rank', async () => {
    const model = await open({}, 'cpu');
    fill(model);
    const folder = join(root, 'python');
    await model.save_pretrained(folder);
    rmSync(join(folder, 'config.json'));
    const path = join(folder, 'adapter_config.json');
    const config = JSON.parse(readFileSync(path, 'utf8')) as object;
    const python = {
      ...config,
      use_rslora: true,
      rank_pattern: {},
      task_type: 'SEQ_2_SEQ_LM',
      base_model_name_or_path: `../../${basename(root)}/base`, // no folder of the working directory's neighbours
    };
    writeFileSync(path, JSON.stringify(python));
    const opened = await T5ForConditionalGeneration.from_pretrained(folder, { device: 'cpu' });
    const { path: name, weight, a, b } = model.adapters!.list[3]!;
    const [W, A, B] = [await numbers(weight), await numbers(a), await numbers(b)];
    const got = await numbers(opened.parameters.get(`${name}.weight`));
    const I = weight.shape[1]!;
    const wanted = W.map((w, e) => {
      const [o, i] = [Math.floor(e / I), e % I];
      return w + (6 / Math.sqrt(3)) * [0, 1, 2].reduce((sum, r) => sum + B[o * 3 + r]! * A[r * I + i]!, 0);
    });
    assert.ok(worst(got, wanted) < 1e-7 && worst(got, W) > 1e-2);
    model.dispose();
    opened.dispose();
  });

  test('that do not fit are refused in one line', async () => {
    await assert.rejects(
      open({ lora: { ...lora, targets: ['q', 'query'] } }, 'cpu'),
      /lora: target "query" names no matrix of the model, expected ends of names: q, k, v, o, wi_0, wi_1, wo/,
    );
    await assert.rejects(open({ dtype: 'int8' }, 'cpu'), /lora: the model is to be in int8, expected float32/);
    const folder = join(root, 'other');
    cpSync(join(root, 'adapters'), folder, { recursive: true });
    const reopen = () => T5ForConditionalGeneration.from_pretrained(folder, { device: 'cpu' });
    const config = JSON.parse(readFileSync(join(folder, 'adapter_config.json'), 'utf8')) as object;
    const write = (changes: object) =>
      writeFileSync(join(folder, 'adapter_config.json'), JSON.stringify({ ...config, ...changes }));
    write({ use_dora: true });
    await assert.rejects(reopen(), /adapter_config\.json: use_dora is true, expected false/);
    write({ base_model_name_or_path: join(root, 'gone') });
    await assert.rejects(reopen(), /gone: not found, expected a folder or a name|base_model_name_or_path is/);
    const wide = T5ForConditionalGeneration.from_config({ ...shape, d_model: 20 }, { device: 'cpu' });
    await wide.save_pretrained(join(root, 'wide'));
    wide.dispose();
    write({ base_model_name_or_path: join(root, 'wide') });
    await assert.rejects(reopen(), /lora_A\.weight is \[3,16\], expected \[3,20\] for .*SelfAttention\.q\.weight/);
  });
});

describe('a run with adapters', () => {
  const task = { name: 'classification', input: 'text', target: 'label' };
  const adapters = { rank: 4, alpha: 8, dropout: 0.1, targets: ['q', 'v', 'wo'] };
  const train = { epochs: 8, rows: 8, accumulation: 2, max_length: 32, lora: adapters };

  test('learns a task by adapters and head alone; its best step opens as a model', async () => {
    const result = (await run('lora', task, { train }))!;
    assert.ok(result.test!.accuracy! > 95, JSON.stringify(result.test));
    assert.equal(result.test!.accuracy, result.validation!.accuracy); // the same rows, by adapters added in two ways
    const best = at('runs/lora/best');
    assert.ok(
      statSync(join(best, 'adapter_model.safetensors')).size < statSync(at('model/model.safetensors')).size / 4,
    );
    const head = [...readSafetensors(join(best, 'adapter_model.safetensors')).keys()].filter(
      (n) => !n.includes('lora'),
    );
    assert.deepEqual(head.map((name) => name.replace('base_model.model.', '')).sort(), [
      'classification_head.dense.bias',
      'classification_head.dense.weight',
      'classification_head.out_proj.bias',
      'classification_head.out_proj.weight',
    ]);
    const state = readSafetensors(at(`runs/lora/checkpoints/step-00000${result.steps}/optimizer.safetensors`));
    const trained = [...readSafetensors(join(best, 'adapter_model.safetensors')).values()];
    const bytes = trained.reduce((sum, tensor) => sum + Math.ceil(tensor.length / 256) * 256, 0);
    assert.equal(state.get('first_moment')!.length, bytes);
    // complete: as pipelines open it, with a head on the encoder alone
    const opened = await T5ForSequenceClassification.from_pretrained(best, { device: 'cpu', complete: true });
    const plain = readSafetensors(at('model/model.safetensors')).get('encoder.block.0.layer.0.SelfAttention.k.weight')!;
    const same = opened.parameters.get('transformer.encoder.block.0.layer.0.SelfAttention.k.weight');
    assert.deepEqual(await numbers(same), [...new Float32Array(Uint8Array.from(plain).buffer)]);
    opened.dispose();
  });

  test('that writes texts predicts with adapters added, while it trains as at the end', async () => {
    const texts = { name: 'text_to_text', input: 'text', target: 'label', metrics: ['squad', 'chrf'] };
    const few = { ...train, epochs: 4, max_target_length: 6, lora: { ...adapters, targets: ['q', 'v', 'wo', 'wi'] } };
    const result = (await run('lora-texts', texts, { train: few, evaluate: { metric: 'chrf' } }))!;
    assert.deepEqual(result.test, result.validation);
    assert.ok(result.test!.chrf! > 5, JSON.stringify(result.test));
  });

  test('goes on with the same bits where it was stopped', async () => {
    const settings = { train: { ...train, epochs: 2 } };
    const losses = (name: string) =>
      readMetrics(at(`runs/${name}/metrics.jsonl`)).map((r) =>
        r.kind === 'step' ? [r.step, r.loss, r.grad_norm] : [],
      );
    await run('lora-whole', task, settings);
    for (let stops = 0; ; stops++) {
      const stop = new AbortController();
      setTimeout(() => stop.abort(), 0);
      if (!(await run('lora-stopped', task, settings, stop.signal))) continue;
      assert.ok(stops > 1, `stopped ${stops} times`);
      break;
    }
    assert.deepEqual(losses('lora-stopped'), losses('lora-whole'));
    const [a, b] = ['whole', 'stopped'].map((name) =>
      readFileSync(at(`runs/lora-${name}/best/adapter_model.safetensors`)),
    );
    assert.deepEqual(a, b);
  });

  test('needs the matrices of a checkpoint', async () => {
    await assert.rejects(
      async () => run('lora-random', task, { train, weights: 'random' }),
      /lora-random\.yaml: train\.lora learns beside the matrices of a checkpoint, expected weights: checkpoint/,
    );
  });
});
