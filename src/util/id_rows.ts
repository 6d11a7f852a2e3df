/** Rows of ids: padded to one length, and worked on in groups of similar length. */

/** Rows brought to one length by a filler behind them; none may be longer. */
export const filled = (rows: readonly (readonly number[])[], length: number, filler: number): number[][] =>
  rows.map((row) => [...row, ...new Array<number>(length - row.length).fill(filler)]);

/** Length of the longest row, 0 if there is none. */
export const longest = (rows: readonly (readonly number[])[]): number => Math.max(0, ...rows.map((row) => row.length));

/** Ids padded to one length, a multiple of 8, with their mask. */
export function padded(
  ids: readonly (readonly number[])[],
  pad: number,
): { input_ids: number[][]; attention_mask: number[][] } {
  const length = Math.ceil(Math.max(longest(ids), 1) / 8) * 8;
  const ones = ids.map((row) => row.map(() => 1));
  return { input_ids: filled(ids, length, pad), attention_mask: filled(ones, length, 0) };
}

/** Runs `one` over groups of examples of similar length and puts the results back in order. */
export async function inGroups<E, P>(
  examples: readonly E[],
  rows: number,
  lengthOf: (example: E) => number,
  one: (group: readonly E[]) => Promise<P[]>,
): Promise<P[]> {
  const order = examples.map((_, i) => i).sort((a, b) => lengthOf(examples[a]!) - lengthOf(examples[b]!) || a - b);
  const results = new Array<P>(examples.length);
  for (let start = 0; start < order.length; start += rows) {
    const group = order.slice(start, start + rows);
    const found = await one(group.map((i) => examples[i]!));
    group.forEach((i, k) => {
      results[i] = found[k]!;
    });
  }
  return results;
}
