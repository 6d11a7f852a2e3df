/** Rows of ids: padded to one length, and worked on in groups of similar length. */

/** Ids padded to one length, a multiple of 8, with their mask. */
export function padded(
  ids: readonly (readonly number[])[],
  pad: number,
): { input_ids: number[][]; attention_mask: number[][] } {
  const length = Math.ceil(Math.max(...ids.map((row) => row.length), 1) / 8) * 8;
  const fill = (row: readonly number[], value: number) => [
    ...row,
    ...new Array<number>(length - row.length).fill(value),
  ];
  return {
    input_ids: ids.map((row) => fill(row, pad)),
    attention_mask: ids.map((row) =>
      fill(
        row.map(() => 1),
        0,
      ),
    ),
  };
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
