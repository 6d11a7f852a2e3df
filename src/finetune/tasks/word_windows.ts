/** Long texts of words in windows that overlap, each word judged where it has most context. */

/** Words [first, last) of a text, and which of them count here. */
export interface WordWindow {
  first: number;
  last: number;
  counted: number[];
}

/**
 * Windows over words of so many tokens each. Every word counts in one window: where the nearer end of the window, if the
 * text goes on there, is farthest.
 * @param room tokens of a window at most; no word has more @param stride tokens that windows share, as far as words allow
 */
export function wordWindows(tokens: readonly number[], room: number, stride: number): WordWindow[] {
  const starts = [0]; // tokens before each word, and all
  for (const count of tokens) starts.push(starts.at(-1)! + count);
  const windows: WordWindow[] = [];
  for (let first = 0; ; ) {
    let last = first;
    while (last < tokens.length && starts[last + 1]! - starts[first]! <= room) last++;
    windows.push({ first, last, counted: [] });
    if (last === tokens.length) break;
    let next = last;
    while (next > first + 1 && starts[last]! - starts[next - 1]! <= stride) next--;
    first = next;
  }
  const context = (word: number, { first, last }: WordWindow): number => {
    if (word < first || word >= last) return -1;
    const before = first === 0 ? Number.POSITIVE_INFINITY : starts[word]! - starts[first]!;
    const behind = last === tokens.length ? Number.POSITIVE_INFINITY : starts[last]! - starts[word + 1]!;
    return Math.min(before, behind);
  };
  for (let word = 0, w = 0; word < tokens.length; word++) {
    while (windows[w + 1] && context(word, windows[w + 1]!) > context(word, windows[w]!)) w++;
    windows[w]!.counted.push(word);
  }
  return windows;
}
