/**
 * How a weight [O,I] in int8 lies in memory: PANEL outputs side by side, GROUP terms of each at a time, as vector registers
 * and matrix units take them: [O / PANEL][I / GROUP][PANEL][GROUP]. The last panel has the outputs that are left, the last
 * group the terms.
 */

/** Rows of a weight that lie together: parts of a weight begin at a multiple of it. */
export const PANEL = 16;
const GROUP = 4;

/** Where output o's term i lies. */
export function packedPlace(o: number, i: number, O: number, I: number): number {
  const [row, term] = [o % PANEL, i % GROUP];
  const [panel, group] = [o - row, i - term];
  const [height, width] = [Math.min(PANEL, O - panel), Math.min(GROUP, I - group)];
  return panel * I + group * height + row * width + term;
}

/** The product of a row x [I] and output o of a packed weight [O,I]. */
export function packedDot(x: Float64Array, weight: Float64Array, o: number, O: number): number {
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += x[i]! * weight[packedPlace(o, i, O, x.length)]!;
  return sum;
}
