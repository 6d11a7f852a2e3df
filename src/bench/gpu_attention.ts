/** Attention with T5's bias on a GPU, in bfloat16 and some of it in the other types: forward, and backward with the gradient of the bias. */
import type { FloatType } from '../backend/dtype.ts';
import { attentionBackward, attentionForward } from '../ops/attention/attention.ts';
import { saturationRadius } from '../ops/relative_bias/relative_bias.ts';
import { run } from '../tensor/autograd.ts';
import { dispose, scope } from '../tensor/scope.ts';
import { Tensor } from '../tensor/tensor.ts';
import { fillWithNoise, type GpuCase, measured, replayed } from './gpu_case.ts';

/** Rows, heads, queries and keys, head width; whether causal. */
type Shape = readonly [B: number, H: number, M: number, N: number, D: number, causal: boolean];

/** 16,384 tokens of 2,048 channels by length: what the plots show. */
export const plotted = {
  ...{ tokens: 16_384, channels: 2048 },
  ...{ lengths: [256, 512, 1024, 2048, 4096, 8192, 16_384], widths: [64, 128], causal: [false, true] },
};
export function plottedShape(S: number, D: number, causal: boolean): Shape {
  return [plotted.tokens / S, plotted.channels / D, S, S, D, causal];
}
const square = plotted.widths.flatMap((D) =>
  plotted.causal.flatMap((causal) => plotted.lengths.map((S) => plottedShape(S, D, causal))),
);
/** Those of a training step of T5-base, and the longest. */
const others: Shape[] = [
  [144, 12, 568, 568, 64, false],
  [144, 12, 114, 568, 64, false],
  [1, 8, 65_536, 65_536, 64, false],
];
const [BUCKETS, MAX_DISTANCE] = [32, 128];
/** Work of a recording, about: a short kernel is launched so often in it that it does not wait for the next one. */
const FLOPS_RECORDED = 1e12;

type What = 'forward' | 'backward';
const both = ['forward', 'backward'] as const;

export const attentionCases: GpuCase[] = [
  ...[...square, ...others].flatMap((shape) => both.map((what) => attend(shape, what, 'bf16'))),
  ...square.flatMap((shape) => both.map((what) => attend(shape, what, 'f16'))),
  ...both.map((what) => attend([16, 32, 1024, 1024, 64, false], what, 'f32')),
];

export function attentionName([B, H, M, N, D, causal]: Shape, what: What, type: FloatType = 'bf16'): string {
  const length = M === N ? `S${N}` : `M${M} N${N}`;
  return `attention B${B} H${H} ${length} D${D}${causal ? ' causal' : ''} ${what}${type === 'bf16' ? '' : ` ${type}`}`;
}

function attend(shape: Shape, what: What, type: FloatType): GpuCase {
  const [B, H, M, N, D, causal] = shape;
  const flops = 4 * B * H * M * N * D * (causal ? 0.5 : 1) * (what === 'forward' ? 1 : 2.5);
  const measure: GpuCase['measure'] = async (backend, name) => {
    const P = 2 * saturationRadius(BUCKETS, { bidirectional: !causal, maxDistance: MAX_DISTANCE }) + 1;
    const filled = (dtype: FloatType, ...dims: number[]) => {
      const tensor = Tensor.empty(backend, dtype, dims);
      fillWithNoise(backend, tensor.memory);
      return tensor;
    };
    const [q, k, v, dout] = [M, N, N, M].map((length) => filled(type, B, length, H, D)) as [Tensor, ...Tensor[]];
    const inputs = { q, k: k!, v: v!, bias: filled('f32', H, P) };
    const scalars = { scale: 1, causal: causal ? 1 : 0, queryOffset: 0, dropout: 0, site: 0 };
    const { out, lse } = run(attentionForward, inputs, { scalars });
    const given = { ...inputs, dout: dout!, out, lse };
    const work =
      what === 'forward'
        ? () => scope(() => void run(attentionForward, inputs, { scalars }))
        : () => scope(() => void run(attentionBackward, given, { scalars, without: ['ddense'] }));
    const launches = Math.max(1, Math.min(8, Math.round(FLOPS_RECORDED / flops)));
    const milliseconds = replayed(backend, work, launches);
    dispose(...Object.values(given));
    return measured(backend, name, milliseconds, { rate: flops / milliseconds / 1e9, unit: 'TFLOP/s' });
  };
  const name = attentionName(shape, what, type);
  if (type !== 'bf16') return { name, measure };
  return { name, measure, peer: { kind: 'attention', part: what, B, H, M, N, D, causal } };
}
