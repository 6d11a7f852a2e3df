/** One training step, forward to update, at three shapes. */
import { T5ForConditionalGeneration } from '../model/t5.ts';
import { createOptimizer } from '../optim/optimizer.ts';
import { dispose } from '../tensor/scope.ts';
import type { Batch } from '../util/batch.ts';
import { fastest, type Measurement } from './bench.ts';

const gated = { feed_forward_proj: 'gated-gelu', tie_word_embeddings: false };
const cases = [
  {
    name: 't5-small relu',
    model: {
      d_model: 512,
      d_kv: 64,
      d_ff: 2048,
      num_layers: 6,
      num_heads: 8,
      feed_forward_proj: 'relu',
      vocab_size: 32128,
    },
    shape: [4, 512, 114],
  },
  {
    name: 't5-v1.1-small',
    model: { d_model: 512, d_kv: 64, d_ff: 1024, num_layers: 8, num_heads: 6, vocab_size: 32128, ...gated },
    shape: [4, 512, 114],
  },
  {
    name: 'tiny 256x4',
    model: { d_model: 256, d_kv: 32, d_ff: 512, num_layers: 4, num_heads: 8, vocab_size: 8192, ...gated },
    shape: [8, 256, 64],
  },
] as const;
const SECONDS = 8;

/** Names of the shapes. */
export const trainingCases: readonly string[] = cases.map(({ name }) => name);

/** Measures the shapes that `only` names; memory is right for the first one of a process. */
export async function benchTraining(only: readonly string[]): Promise<Measurement[]> {
  const found: Measurement[] = [];
  for (const { name, model: config, shape } of cases) {
    if (!only.includes(name)) continue;
    const [rows, sourceLength, targetLength] = shape;
    const model = T5ForConditionalGeneration.from_config({ ...config, dropout_rate: 0 });
    const { parameters } = model;
    parameters.trainable();
    const optimizer = createOptimizer(parameters, { name: 'adamw' });
    const ids = (length: number, seed: number) =>
      Int32Array.from({ length }, (_, i) => 3 + ((i * 7919 + seed) % (config.vocab_size - 13)));
    const batch: Batch = {
      rows,
      sourceLength,
      targetLength,
      input_ids: ids(rows * sourceLength, 1),
      decoder_input_ids: ids(rows * targetLength, 2),
      labels: ids(rows * targetLength, 3),
      tokens: rows * targetLength,
    };
    const milliseconds = await fastest(SECONDS, () => {
      parameters.zeroGradients();
      dispose(model.accumulateGradients(batch, { denominator: batch.tokens }));
      parameters.finishGradients();
      optimizer.step({ learning_rate: 1e-4, max_grad_norm: 1 });
    });
    found.push({
      case: `${name} B${rows} in${sourceLength} out${targetLength}`,
      milliseconds,
      rate: (rows * (sourceLength + targetLength)) / (milliseconds / 1000),
      unit: 'tokens/s',
      peakMegabytes: process.resourceUsage().maxRSS / 1024,
    });
    optimizer.dispose();
    model.dispose();
  }
  return found;
}
