/**
 * Unigram: the cut of a text into pieces with the greatest sum of log probabilities (Viterbi), time n times the length
 * of the longest piece. Ties and rounding follow the two implementations, which differ:
 *   sentencepiece   sums in float32 over the whole sentence, and starts from zero again below -100000
 *   tokenizers      sums in float64 within a word
 * That is sentencepiece 0.2.2's arithmetic; up to 0.2.0 a sum was compared before it was rounded.
 * What unigram.cpp does natively. Source: google/sentencepiece, unigram_model.cc (EncodeOptimized).
 */
import type { Model, Token } from './model.ts';

/** Where a float32 sum falls below this, it starts from zero again, and so do those of the other ways. */
const LEAST_SUM = -100000;
/** How far below the worst piece an unknown character is. */
export const UNKNOWN_PENALTY = 10;

export interface UnigramOptions {
  /** By id; undefined where a piece is never made from text. Later pieces win over equal earlier ones. */
  pieces: readonly (readonly [piece: string, score: number] | undefined)[];
  /** Id of unknown characters. */
  unknown: number;
  unknownScore: number;
  /** Ids of the bytes, where unknown characters become their bytes. */
  bytes: readonly number[] | undefined;
  arithmetic: 'float32' | 'float64';
}

/** Pieces by their characters: node * 2^21 + code point -> node. */
class Trie {
  private readonly children = new Map<number, number>();
  readonly values: number[] = [-1];

  add(piece: string, value: number): void {
    let node = 0;
    for (const c of piece) {
      const key = node * 2 ** 21 + c.codePointAt(0)!;
      let child = this.children.get(key);
      if (child === undefined) {
        child = this.values.push(-1) - 1;
        this.children.set(key, child);
      }
      node = child;
    }
    this.values[node] = value;
  }

  child(node: number, codePoint: number): number | undefined {
    return this.children.get(node * 2 ** 21 + codePoint);
  }
}

export function unigramModel(options: UnigramOptions): Model {
  const { pieces, unknown, unknownScore, bytes } = options;
  const float32 = options.arithmetic === 'float32';
  const round = float32 ? Math.fround : (sum: number) => sum;
  const trie = new Trie();
  pieces.forEach((entry, id) => {
    if (entry) trie.add(entry[0], id);
  });

  /** Runs of the best cut as pairs end, id, from the end to the start. */
  function best(text: string): [start: number, end: number, id: number][] {
    const size = text.length;
    const scores = new Float64Array(size + 1);
    const starts = new Int32Array(size + 1).fill(-1);
    const ids = new Int32Array(size + 1);
    let reached = 0;
    const offer = (start: number, end: number, id: number, sum: number) => {
      reached = Math.max(reached, end);
      if (starts[end] !== -1 && sum <= scores[end]!) return;
      scores[end] = sum;
      starts[end] = start;
      ids[end] = id;
    };
    for (let start = 0; start < size; ) {
      const sum = scores[start]!;
      if (float32 && sum < LEAST_SUM) for (let i = start; i <= reached; i++) scores[i] = Math.fround(scores[i]! - sum);
      const here = scores[start]!;
      const width = text.codePointAt(start)! > 0xffff ? 2 : 1;
      let single = false;
      let node: number | undefined = 0;
      for (let at = start; at < size; ) {
        const c = text.codePointAt(at)!;
        node = trie.child(node, c);
        if (node === undefined) break;
        at += c > 0xffff ? 2 : 1;
        const id = trie.values[node]!;
        if (id < 0) continue;
        offer(start, at, id, round(pieces[id]![1] + here));
        if (at === start + width) single = true;
      }
      if (!single) offer(start, start + width, unknown, round(unknownScore + here));
      start += width;
    }
    const runs: [number, number, number][] = [];
    for (let end = size; end > 0; end = starts[end]!) runs.push([starts[end]!, end, ids[end]!]);
    return runs.reverse();
  }

  return {
    tokenize(text) {
      const tokens: Token[] = [];
      let wasUnknown = false;
      for (const [start, end, id] of best(text)) {
        const token = text.slice(start, end);
        const last = tokens.at(-1);
        if (id === unknown && wasUnknown && last) {
          last.token += token; // a run of unknown characters is one unknown token
          last.end = end;
        } else tokens.push({ id, token, start, end });
        wasUnknown = id === unknown;
      }
      if (!bytes) return tokens;
      const name = pieces[unknown]?.[0]; // spelled out in the text it is a piece like others
      return tokens.flatMap((token) =>
        token.id === unknown && token.token !== name ? byteTokens(token, bytes) : [token],
      );
    },
  };
}

export const byteName = (byte: number) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`;

export const byteTokens = ({ token, start, end }: Token, bytes: readonly number[]): Token[] =>
  Array.from(Buffer.from(token), (byte) => ({ id: bytes[byte]!, token: byteName(byte), start, end }));
