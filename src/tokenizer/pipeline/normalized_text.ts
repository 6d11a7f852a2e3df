/**
 * Text that changes while every unit of it remembers where in the original it came from. Positions in the text are
 * UTF-16 units, positions in the original are characters (code points), as in the offsets of Hugging Face tokenizers.
 */

export class NormalizedText {
  readonly text: string;
  /** For every unit of `text` the characters [starts, ends) of the original that it stands for. */
  readonly starts: Int32Array;
  readonly ends: Int32Array;
  /** Start in the original, for a text that may have become empty. */
  readonly from: number;

  constructor(text: string, starts: Int32Array, ends: Int32Array, from: number) {
    this.text = text;
    this.starts = starts;
    this.ends = ends;
    this.from = from;
  }

  static of(original: string): NormalizedText {
    const starts = new Int32Array(original.length);
    const ends = new Int32Array(original.length);
    let characters = 0;
    for (let i = 0; i < original.length; i++) {
      starts[i] = characters;
      ends[i] = characters + 1;
      if (isPair(original, i)) {
        i++;
        starts[i] = characters;
        ends[i] = characters + 1;
      }
      characters++;
    }
    return new NormalizedText(original, starts, ends, 0);
  }

  slice(start: number, end: number): NormalizedText {
    const { text, starts, ends } = this;
    const from = starts[start] ?? ends[start - 1] ?? this.from;
    return new NormalizedText(text.slice(start, end), starts.subarray(start, end), ends.subarray(start, end), from);
  }

  /** Characters of the original that units [start, end) stand for. */
  original(start: number, end: number): [number, number] {
    if (start >= end) {
      const at = this.starts[start] ?? this.ends[start - 1] ?? this.from;
      return [at, at];
    }
    return [this.starts[start]!, this.ends[end - 1]!];
  }

  /** The parts between cut points: `cuts` are pairs start, end. */
  parts(cuts: readonly (readonly [number, number])[]): NormalizedText[] {
    return cuts.filter(([a, b]) => a < b).map(([a, b]) => this.slice(a, b));
  }
}

const isPair = (text: string, i: number) => (text.codePointAt(i) ?? 0) > 0xffff;

/** Builds a changed text from the text before, in order. */
export class TextBuilder {
  private readonly before: NormalizedText;
  private readonly pieces: string[] = [];
  private starts: Int32Array;
  private ends: Int32Array;
  private length = 0;

  constructor(before: NormalizedText) {
    this.before = before;
    this.starts = new Int32Array(before.text.length + 16);
    this.ends = new Int32Array(before.text.length + 16);
  }

  /** Units [start, end) as they were. */
  keep(start: number, end: number): void {
    if (start >= end) return;
    this.reserve(end - start);
    this.pieces.push(this.before.text.slice(start, end));
    this.starts.set(this.before.starts.subarray(start, end), this.length);
    this.ends.set(this.before.ends.subarray(start, end), this.length);
    this.length += end - start;
  }

  /** New text that stands for what unit `at` stands for; at < 0: for nothing, at the start. */
  put(text: string, at: number): void {
    this.reserve(text.length);
    this.pieces.push(text);
    this.starts.fill(at < 0 ? this.before.from : this.before.starts[at]!, this.length, this.length + text.length);
    this.ends.fill(at < 0 ? this.before.from : this.before.ends[at]!, this.length, this.length + text.length);
    this.length += text.length;
  }

  finish(): NormalizedText {
    const { starts, ends, length, before } = this;
    return new NormalizedText(this.pieces.join(''), starts.subarray(0, length), ends.subarray(0, length), before.from);
  }

  private reserve(more: number): void {
    if (this.length + more <= this.starts.length) return;
    const size = Math.max(this.length + more, 2 * this.starts.length);
    const grown = [new Int32Array(size), new Int32Array(size)] as const;
    grown[0].set(this.starts);
    grown[1].set(this.ends);
    [this.starts, this.ends] = grown;
  }
}

/** Replaces every character by `map`'s text: undefined leaves it, '' removes it. */
export function mapCharacters(text: NormalizedText, map: (character: string) => string | undefined): NormalizedText {
  const builder = new TextBuilder(text);
  let kept = 0;
  let changed = false;
  for (let i = 0; i < text.text.length; ) {
    const length = isPair(text.text, i) ? 2 : 1;
    const found = map(text.text.slice(i, i + length));
    if (found !== undefined) {
      changed = true;
      builder.keep(kept, i);
      builder.put(found, i);
      kept = i + length;
    }
    i += length;
  }
  if (!changed) return text;
  builder.keep(kept, text.text.length);
  return builder.finish();
}

/** Replaces every match by `content`, which stands for the match's last character. */
export function replaceMatches(text: NormalizedText, pattern: RegExp, content: string): NormalizedText {
  const builder = new TextBuilder(text);
  let kept = 0;
  let changed = false;
  for (const match of text.text.matchAll(pattern)) {
    const end = match.index + match[0].length;
    builder.keep(kept, match.index);
    builder.put(content, end - 1);
    kept = end;
    changed = true;
  }
  if (!changed) return text;
  builder.keep(kept, text.text.length);
  return builder.finish();
}

/** Puts text in front, standing for the first character; an empty text stays empty. */
export function prepend(text: NormalizedText, content: string): NormalizedText {
  if (text.text === '') return text;
  const builder = new TextBuilder(text);
  builder.put(content, 0);
  builder.keep(0, text.text.length);
  return builder.finish();
}
