/**
 * The chunk table: how flat launches over many parameters are cut. Each row [start, count, parameter, state] is a run of
 * at most CHUNK elements of one parameter: it starts at element start * ALIGNMENT of the values and gradients, and at
 * element state * ALIGNMENT of the optimizer state, which holds the parameters of the table alone, one behind the
 * other. Units of ALIGNMENT keep the table int32 for any model. The rows of one parameter are consecutive. Sums
 * are formed per chunk, then in the table's order, so that they do not depend on the number of threads.
 */
import { ALIGNMENT, type ParameterPlace } from './parameters.ts';

/** Elements of a chunk: 128 KiB of float32, long against a task's overhead, short against the whole. */
export const CHUNK = 32768;

const units = (length: number) => Math.ceil(length / ALIGNMENT);

/** The table over some places of a model: `chunks` i32[C,4], `lengths` i32[P] the true sizes, `state` elements of state. */
export function chunkTable(places: readonly Pick<ParameterPlace, 'offset' | 'length'>[]): {
  chunks: Int32Array;
  lengths: Int32Array;
  state: number;
} {
  const rows: number[] = [];
  let state = 0;
  places.forEach(({ offset, length }, parameter) => {
    for (let i = 0; i < length; i += CHUNK)
      rows.push((offset + i) / ALIGNMENT, Math.min(CHUNK, length - i), parameter, state + i / ALIGNMENT);
    state += units(length);
  });
  return {
    chunks: Int32Array.from(rows),
    lengths: Int32Array.from(places, (p) => p.length),
    state: state * ALIGNMENT,
  };
}

/**
 * A table for tests of kernels, from sizes alone: C chunks over N values and S elements of state in P parameters, each
 * chunk with a ragged end that no one may touch.
 */
export function testChunks({ N, S = N, C, P }: { N: number; S?: number; C: number; P: number }): number[] {
  const at = (total: number, c: number) => Math.floor((c * (total / ALIGNMENT)) / C);
  return Array.from({ length: C }, (_, c) => {
    const start = at(N, c);
    const state = at(S, c);
    const room = Math.min(at(N, c + 1) - start, at(S, c + 1) - state) * ALIGNMENT;
    return [start, room - (c % 5), Math.floor((c * P) / C), state];
  }).flat();
}
