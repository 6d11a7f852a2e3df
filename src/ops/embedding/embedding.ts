/**
 * embedding: rows of a table by id.
 *
 *   y[n,d] = table[ids[n],d];   dtable[v,d] = beta * dtable[v,d] + sum over n with ids[n] = v of dy[n,d]
 *
 * table [V,D], ids int32 [N] in 0..V-1, y [N,D]. With beta 0 the old dtable is not read. An id outside the table makes
 * the CPU kernel refuse the launch. embedding_half reads a table in float16 for activations in float32.
 */
import { defineKernel } from '../../backend/kernel.ts';
import { gradientSlot, record, run } from '../../tensor/autograd.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { embeddingBackwardPlan, embeddingForwardPlan } from './embedding.cuda.ts';

export const embeddingForward = defineKernel({
  name: 'embedding_forward',
  inputs: { table: '[V,D]', ids: 'i32[N]' },
  outputs: { y: '[N,D]' },
  cases: [{ sizes: { V: 1, D: 1, N: 1 } }, { sizes: { V: 11, D: 77, N: 23 } }, { sizes: { V: 500, D: 512, N: 300 } }],
  fill: { ids: (random, { V }) => Math.floor(random() * V) },
  reference({ table, ids, y }, { D, N }) {
    for (let n = 0; n < N; n++) for (let d = 0; d < D; d++) y[n * D + d] = table[ids[n]! * D + d]!;
  },
  cuda: embeddingForwardPlan,
});

export const embeddingHalf = defineKernel({
  name: 'embedding_half',
  inputs: { table: 'f16[V,D]', ids: 'i32[N]' },
  outputs: { y: 'f32[N,D]' },
  cases: [{ sizes: { V: 1, D: 1, N: 1 } }, { sizes: { V: 11, D: 77, N: 23 } }],
  fill: { ids: (random, { V }) => Math.floor(random() * V) },
  reference({ table, ids, y }, { D, N }) {
    for (let n = 0; n < N; n++) for (let d = 0; d < D; d++) y[n * D + d] = table[ids[n]! * D + d]!;
  },
});

export const embeddingBackward = defineKernel({
  name: 'embedding_backward',
  inputs: { dy: '[N,D]', ids: 'i32[N]' },
  updates: { dtable: 'f32[V,D]' },
  outputs: {},
  scalars: { beta: 'f32' },
  cases: [
    { sizes: { V: 1, D: 1, N: 1 }, scalars: { beta: 0 } },
    { sizes: { V: 11, D: 77, N: 23 }, scalars: { beta: 0.5 } },
    { sizes: { V: 500, D: 512, N: 300 }, scalars: { beta: 1 } },
    { sizes: { V: 700, D: 200, N: 30 }, scalars: { beta: 0 } },
    { sizes: { V: 5, D: 24, N: 2500 }, scalars: { beta: 0.5 } }, // frequent ids
    { sizes: { V: 70_000, D: 8, N: 1500 }, scalars: { beta: 0 } },
  ],
  fill: { ids: (random, { V }) => Math.floor(random() * V) },
  reference({ dy, ids, dtable }, { N, D, V }, { beta }) {
    for (let i = 0; i < V * D; i++) dtable[i] = beta === 0 ? 0 : beta * dtable[i]!;
    for (let n = 0; n < N; n++) for (let d = 0; d < D; d++) dtable[ids[n]! * D + d]! += dy[n * D + d]!;
  },
  cuda: embeddingBackwardPlan,
});

/**
 * Rows of a parameter: table [V,D], ids int32 [...] -> [...,D]; of a float16 table on the CPU in float32.
 * @throws ShapeError
 */
export function embedding(table: Tensor, ids: Tensor): Tensor {
  const D = table.shape.at(-1)!;
  const list = ids.view(ids.length);
  if (table.dtype === 'f16' && table.backend.name === 'cpu')
    return run(embeddingHalf, { table, ids: list }).y.view(...ids.shape, D);
  const y = run(embeddingForward, { table, ids: list }).y.view(...ids.shape, D);
  record([y], [table], ([dy]) => {
    const { grad, beta } = gradientSlot(table);
    run(embeddingBackward, { dy: dy!.view(list.length, D), ids: list, dtable: grad }, { scalars: { beta } });
    return undefined;
  });
  return y;
}
