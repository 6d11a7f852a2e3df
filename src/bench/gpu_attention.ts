/** Attention with T5's bias on a GPU, in bfloat16: forward, and backward with the gradient of the bias. */
import { attentionBackward, attentionForward } from '../ops/attention/attention.ts';
import { saturationRadius } from '../ops/relative_bias/relative_bias.ts';
import { run } from '../tensor/autograd.ts';
import { dispose, scope } from '../tensor/scope.ts';
import { Tensor } from '../tensor/tensor.ts';
import { noise } from './bench.ts';
import { type Case, measured, replayed } from './gpu_case.ts';

/** Rows, heads, queries and keys, head width; whether causal. */
const shapes = [
  [4, 32, 4096, 4096, 64, false],
  [16, 32, 1024, 1024, 64, false],
  [16, 32, 1024, 1024, 64, true],
  [32, 32, 512, 512, 64, false],
  [4, 16, 4096, 4096, 128, false],
  [16, 16, 1024, 1024, 128, false],
  [144, 12, 568, 568, 64, false],
  [144, 12, 114, 568, 64, false],
  [1, 8, 65_536, 65_536, 64, false],
] as const;
const [BUCKETS, MAX_DISTANCE] = [32, 128];

export const attentionCases: Case[] = shapes.flatMap((shape) => [attend(shape, 'forward'), attend(shape, 'backward')]);

function attend([B, H, M, N, D, causal]: (typeof shapes)[number], what: 'forward' | 'backward'): Case {
  const flops = 4 * B * H * M * N * D * (causal ? 0.5 : 1) * (what === 'forward' ? 1 : 2.5);
  const measure: Case['measure'] = async (backend, name) => {
    const P = 2 * saturationRadius(BUCKETS, { bidirectional: !causal, maxDistance: MAX_DISTANCE }) + 1;
    const filled = (type: 'f32' | 'bf16', ...dims: number[]) =>
      Tensor.from(backend, type, dims, noise(dims.reduce((a, b) => a * b, 1)));
    const [q, k, v, dout] = [M, N, N, M].map((length) => filled('bf16', B, length, H, D)) as [Tensor, ...Tensor[]];
    const inputs = { q, k: k!, v: v!, bias: filled('f32', H, P) };
    const scalars = { scale: 1, causal: causal ? 1 : 0, queryOffset: 0, dropout: 0, site: 0 };
    const { out, lse } = run(attentionForward, inputs, { scalars });
    const given = { ...inputs, dout: dout!, out, lse };
    const work =
      what === 'forward'
        ? () => scope(() => void run(attentionForward, inputs, { scalars }))
        : () => scope(() => void run(attentionBackward, given, { scalars, without: ['ddense'] }));
    const milliseconds = await replayed(backend, lse, work);
    dispose(...Object.values(given));
    return measured(backend, name, milliseconds, { rate: flops / milliseconds / 1e9, unit: 'TFLOP/s' });
  };
  const length = M === N ? `S${N}` : `M${M} N${N}`;
  return { name: `attention B${B} H${H} ${length} D${D}${causal ? ' causal' : ''} ${what}`, measure };
}
