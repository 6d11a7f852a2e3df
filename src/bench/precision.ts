/**
 * What a dtype costs in precision: quantiles of the absolute difference of the encoder's states to float32's, over all elements
 * of many prompts of up to 512 tokens (nai-t5's form, which takes one prompt).
 */
import type { ModelDtype } from '../model/storage.ts';
import { T5ForConditionalGeneration } from '../model/t5.ts';
import { smallShape, withModels } from './cpu.ts';

export interface Precision {
  dtype: string;
  /** Elements compared. */
  elements: number;
  /** Root mean square of float32's own states, to which the differences are to be held. */
  size: number;
  /** By name: p50, p75, p90, p95, p99, p99.9, p99.99, max. */
  quantiles: Record<string, number>;
}

const shares = { p50: 0.5, p75: 0.75, p90: 0.9, p95: 0.95, p99: 0.99, 'p99.9': 0.999, 'p99.99': 0.9999, max: 1 };
/** What is compared with float32 on a device. */
const compared = { cpu: ['bfloat16', 'float16', 'int8', 'float8'], cuda: ['bfloat16', 'float16', 'float8'] } as const;
export type PrecisionDevice = keyof typeof compared;
/** Lengths of the prompts. */
const lengths = [3, 8, 17, 33, 64, 100, 128, 200, 256, 384, 511, 512];

/** Compares a device's dtypes with float32 on it: a checkpoint's, or random weights of T5-v1.1-small's shape. */
export async function benchPrecision({
  folder,
  device = 'cpu',
}: {
  folder?: string | undefined;
  device?: PrecisionDevice;
}): Promise<Precision[]> {
  const dtypes = compared[device];
  const measure = async (load: (dtype: ModelDtype) => Promise<T5ForConditionalGeneration>) => {
    const exact = await statesOf(await load('float32'));
    const size = Math.sqrt(exact.reduce((sum, x) => sum + x * x, 0) / exact.length);
    const found: Precision[] = [];
    for (const dtype of dtypes) {
      const states = await statesOf(await load(dtype));
      const differences = states.map((x, i) => Math.abs(x - exact[i]!)).sort();
      const quantiles = Object.fromEntries(
        Object.entries(shares).map(([name, share]) => [name, quantile(differences, share)]),
      );
      found.push({ dtype, elements: exact.length, size, quantiles });
    }
    return found;
  };
  if (folder !== undefined)
    return measure((dtype) => T5ForConditionalGeneration.from_pretrained(folder, { device, dtype }));
  return withModels({ config: smallShape, dtypes: ['float32', ...dtypes], device }, (models) =>
    measure(async (dtype) => models.get(dtype)!),
  );
}

/** Of sorted values, linear between neighbours. */
export function quantile(sorted: Float32Array, share: number): number {
  const at = share * (sorted.length - 1);
  const low = Math.floor(at);
  const [a, b] = [sorted[low]!, sorted[Math.min(low + 1, sorted.length - 1)]!];
  return a + (at - low) * (b - a);
}

/** The encoder's states of all prompts, one behind the other. */
async function statesOf(model: T5ForConditionalGeneration): Promise<Float32Array> {
  const parts: ArrayLike<number>[] = [];
  for (const length of lengths) {
    const ids = Array.from({ length }, (_, i) =>
      i === length - 1 ? 1 : 5 + ((i * 7919 + length * 31) % (model.config.vocab_size - 200)),
    );
    parts.push((await model.encode({ input_ids: [ids] })).last_hidden_state.data);
  }
  const all = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
