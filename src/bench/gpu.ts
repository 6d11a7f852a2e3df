/** On a GPU: training steps, encoders, greedy decoding, in bfloat16 with random weights, encoders in float8 too; attention by itself. */
import type { Backend } from '../backend/backend.ts';
import { t5Config } from '../model/config.ts';
import { encoder } from '../model/encoder.ts';
import { type Architecture, parameterTable } from '../model/parameter_table.ts';
import { encoderParameters } from '../model/parameter_tree.ts';
import { uploadSource } from '../model/seq2seq.ts';
import { type ModelDtype, storageOf } from '../model/storage.ts';
import { T5ForConditionalGeneration } from '../model/t5.ts';
import { quantiseFloat8 } from '../ops/linear_float8/quantise_float8.ts';
import { Parameters } from '../tensor/parameters.ts';
import { dispose, scope } from '../tensor/scope.ts';
import { Tensor } from '../tensor/tensor.ts';
import { forwardFlops, stepFlops } from '../train/flops.ts';
import { Trainer } from '../train/trainer.ts';
import type { Batch } from '../util/batch.ts';
import { attentionCases } from './gpu_attention.ts';
import { fillWithNoise, type GpuCase, measured, replayed, STEPS, WARM_UP } from './gpu_case.ts';

const v11 = { feed_forward_proj: 'gated-gelu', tie_word_embeddings: false, dropout_rate: 0, d_kv: 64 } as const;
const base = t5Config({ ...v11, d_model: 768, d_ff: 2048, num_layers: 12, num_heads: 12, vocab_size: 32128 });
const fat5Small = t5Config({ ...v11, d_model: 512, d_ff: 2048, num_layers: 12, num_heads: 8, vocab_size: 32768 });
const xl = t5Config({ ...v11, d_model: 2048, d_ff: 5120, num_layers: 24, num_heads: 32, vocab_size: 32128 });
const xxl = t5Config({ ...v11, d_model: 4096, d_ff: 10240, num_layers: 24, num_heads: 64, vocab_size: 32128 });

/** Decoding: source tokens of a row, and tokens written. */
const SOURCE = 512;
const NEW_TOKENS = 128;

export const gpuCases: GpuCase[] = [
  train('t5-base', base, [144, 568, 114]),
  train('t5-base', base, [144, 512, 114]),
  train('fat5-small', fat5Small, [64, 1024, 256]),
  train('fat5-small', fat5Small, [64, 1024, 256], 'cross_attention'),
  train('fat5-small', fat5Small, [128, 512, 512]),
  encode('t5-base', base, [32, 512]),
  encode('xxl', xxl, [1, 512]),
  encode('t5-base', base, [32, 512], 'float8'),
  encode('xxl', xxl, [1, 512], 'float8'),
  decode('t5-base', base, 1),
  decode('t5-base', base, 32),
  decode('xl', xl, 1),
  ...attentionCases,
];

/** Parameters with small random values, made on the device: billions of them take the host minutes. */
function randomParameters(
  backend: Backend,
  config: typeof base,
  architecture: Architecture,
  dtype: ModelDtype = 'bfloat16',
): Parameters {
  const { floats, compact } = storageOf(dtype, parameterTable(config, architecture), architecture, backend);
  const parameters = new Parameters(backend, 'bf16', floats, { compact });
  for (const tensor of parameters.all.values())
    if (tensor.shape.length === 1)
      tensor.write(new Float32Array(tensor.length).fill(1)); // norms
    else if (tensor.dtype !== 'f8') fillWithNoise(backend, tensor.memory, 0.1);
    else
      scope(() => {
        const values = Tensor.empty(backend, 'bf16', tensor.shape);
        fillWithNoise(backend, values.memory, 0.1);
        quantiseFloat8(values, tensor);
        return undefined;
      });
  return parameters;
}

const ids = (length: number, vocabulary: number, seed: number) =>
  Int32Array.from({ length }, (_, i) => 3 + ((i * 7919 + seed) % (vocabulary - 13)));

/** What a peer must know of a model. */
function shapeOf({ d_model, d_kv, d_ff, num_layers, num_heads, vocab_size }: typeof base): Record<string, number> {
  return { d_model, d_kv, d_ff, num_layers, num_heads, vocab_size };
}

function train(
  model: string,
  config: typeof base,
  shape: readonly [number, number, number],
  again?: 'cross_attention',
): GpuCase {
  const [rows, sourceLength, targetLength] = shape;
  const measure: GpuCase['measure'] = async (backend, name) => {
    const parameters = randomParameters(backend, config, 'conditional_generation');
    const t5 = new T5ForConditionalGeneration(config, parameters);
    t5.activation_checkpointing = again ?? false;
    const trainer = new Trainer(t5, { optimizer: { name: 'adamw_scale', learning_rate: 1e-4 }, max_grad_norm: 1 });
    const batch: Batch = {
      ...{ rows, sourceLength, targetLength, tokens: rows * targetLength },
      input_ids: ids(rows * sourceLength, config.vocab_size, 1),
      decoder_input_ids: ids(rows * targetLength, config.vocab_size, 2),
      labels: ids(rows * targetLength, config.vocab_size, 3),
    };
    for (let i = 0; i < WARM_UP; i++) await trainer.stepOn([batch]);
    const started = performance.now();
    const waiting: (() => Promise<unknown>)[] = [];
    for (let i = 0; i < STEPS; i++) waiting.push(await trainer.launchOn([batch]));
    const results = await Promise.all(waiting.map((result) => result()));
    const milliseconds = (performance.now() - started) / STEPS;
    const { loss, grad_norm: norm } = results.at(-1) as { loss: number; grad_norm: number };
    if (!Number.isFinite(loss + norm)) throw new Error(`${name}: loss ${loss}, gradient norm ${norm}`);
    trainer.dispose();
    t5.dispose();
    return measured(backend, name, milliseconds, {
      rate: stepFlops(config, rows, sourceLength, targetLength) / milliseconds / 1e9,
      unit: 'TFLOP/s',
    });
  };
  return {
    name: `train ${model}${again ? ', keys again,' : ''} ${rows} x ${sourceLength}/${targetLength}`,
    measure,
    ...(!again && {
      peer: { kind: 'train', model: shapeOf(config), rows, source: sourceLength, target: targetLength } as const,
    }),
  };
}

function encode(
  model: string,
  config: typeof base,
  [rows, columns]: readonly [number, number],
  dtype: ModelDtype = 'bfloat16',
): GpuCase {
  const measure: GpuCase['measure'] = async (backend, name) => {
    const parameters = randomParameters(backend, config, 'encoder', dtype);
    const tree = encoderParameters(parameters, config, '');
    const values = ids(rows * columns, config.vocab_size, 1);
    const input = uploadSource(backend, { rows, columns, values, segments: undefined });
    const pass = { config, checkpointing: false, packs: true };
    const work = () => scope(() => void encoder(tree, input, pass));
    const milliseconds = replayed(backend, work);
    dispose(input.ids);
    parameters.dispose();
    return measured(backend, name, milliseconds, {
      rate: (rows * forwardFlops({ ...config, num_decoder_layers: 0 }, columns, 0)) / milliseconds / 1e9,
      unit: 'TFLOP/s',
    });
  };
  return {
    name: `encode ${model} ${rows} x ${columns}${dtype === 'bfloat16' ? '' : ` ${dtype}`}`,
    measure,
    ...(dtype === 'bfloat16' && { peer: { kind: 'encode', model: shapeOf(config), rows, source: columns } as const }),
  };
}

function decode(model: string, config: typeof base, rows: number): GpuCase {
  const measure: GpuCase['measure'] = async (backend, name) => {
    const parameters = randomParameters(backend, config, 'conditional_generation');
    const t5 = new T5ForConditionalGeneration(config, parameters);
    const flat = ids(rows * SOURCE, config.vocab_size, 1);
    const input_ids = Array.from({ length: rows }, (_, r) => Array.from(flat.subarray(r * SOURCE, (r + 1) * SOURCE)));
    const generate = () => t5.generate({ input_ids, max_new_tokens: NEW_TOKENS, eos_token_id: null });
    await generate();
    let milliseconds = Number.POSITIVE_INFINITY;
    for (let i = 0; i < WARM_UP; i++) {
      const started = performance.now();
      const rowsOut = await generate();
      milliseconds = Math.min(milliseconds, performance.now() - started);
      if (rowsOut.some((row) => row.length !== NEW_TOKENS + 1)) throw new Error(`${name}: rows ended early`);
    }
    t5.dispose();
    return measured(backend, name, milliseconds, { rate: (1e3 * rows * NEW_TOKENS) / milliseconds, unit: 'tokens/s' });
  };
  return {
    name: `decode ${model} ${rows} x ${SOURCE} to ${NEW_TOKENS}`,
    measure,
    peer: { kind: 'decode', model: shapeOf(config), rows, source: SOURCE, target: NEW_TOKENS },
  };
}
