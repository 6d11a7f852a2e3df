/** Attention with T5's bias: forward, and forward with all gradients. */
import { openCpu } from '../backend/cpu/cpu.ts';
import { attention } from '../ops/attention/attention.ts';
import { relativeBias, saturationRadius } from '../ops/relative_bias/relative_bias.ts';
import { differentiate, markParameter } from '../tensor/autograd.ts';
import { dispose, scope } from '../tensor/scope.ts';
import { Tensor } from '../tensor/tensor.ts';
import { fastest, type Measurement, noise } from './bench.ts';

/** Rows, heads, length, head width; whether causal. */
const shapes = [
  [4, 8, 512, 64, false],
  [4, 8, 512, 64, true],
  [1, 8, 2048, 64, false],
  [8, 8, 256, 32, false],
] as const;
const [BUCKETS, MAX_DISTANCE] = [32, 128];
const SECONDS = 1;

export async function benchAttention(): Promise<Measurement[]> {
  const backend = openCpu();
  const found: Measurement[] = [];
  for (const [B, H, S, D, causal] of shapes) {
    const leaf = (...shape: number[]) => {
      const length = shape.reduce((a, b) => a * b, 1);
      const tensor = Tensor.from(backend, 'f32', shape, noise(length));
      markParameter(tensor, Tensor.from(backend, 'f32', shape, new Float32Array(length)));
      return tensor;
    };
    const [q, k, v, table] = [leaf(B, S, H, D), leaf(B, S, H, D), leaf(B, S, H, D), leaf(BUCKETS, H)];
    const options = { bidirectional: !causal, maxDistance: MAX_DISTANCE };
    const radius = Math.min(S, saturationRadius(BUCKETS, options));
    const forward = () =>
      attention(q, k, v, { bias: relativeBias(table, { ...options, radius }), causal, scale: D ** -0.5 });
    const flops = 4 * B * H * S * S * D * (causal ? 0.5 : 1);
    const name = `B${B} H${H} S${S} D${D}${causal ? ' causal' : ''}`;
    const add = (what: string, milliseconds: number, factor: number) =>
      found.push({
        case: `${name} ${what}`,
        milliseconds,
        rate: (factor * flops) / (milliseconds * 1e6),
        unit: 'GFLOP/s',
        peakMegabytes: 0,
      });
    add('forward', await fastest(SECONDS, () => void scope(() => void forward())), 1);
    const seed = Tensor.from(backend, 'f32', [B, S, H, D], noise(B * S * H * D));
    const step = () => void scope(() => void differentiate(() => ({ loss: forward() }), seed.view(...seed.shape)));
    add('forward and backward', await fastest(SECONDS, step), 3.5);
    dispose(q, k, v, table, seed, ...[q, k, v, table].map((t) => t.grad!));
  }
  return found;
}
