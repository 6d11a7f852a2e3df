/** Masked text and the model's answer: `a <extra_id_0> c` and `<extra_id_0> b <extra_id_1> …` become `a b c`. */

const SENTINEL = /<extra_id_(\d+)>/;

export const hasMask = (text: string): boolean => SENTINEL.test(text);

/** What the model wrote for each mask, by its number. Text before the first mask is left out. */
export function spansOf(output: string): Map<number, string> {
  const parts = output.split(new RegExp(SENTINEL, 'g'));
  const spans = new Map<number, string>();
  for (let i = 1; i < parts.length; i += 2) {
    const number = Number(parts[i]);
    if (!spans.has(number)) spans.set(number, parts[i + 1]!.trim());
  }
  return spans;
}

/** The source with its masks replaced by the model's words, each handed to `mark`; a mask without an answer becomes …. */
export function fillMasks(source: string, output: string, mark: (words: string) => string = (words) => words): string {
  const spans = spansOf(output);
  return source.replace(new RegExp(SENTINEL, 'g'), (_, number: string) => mark(spans.get(Number(number)) || '…'));
}
