/**
 * Byte-pair encoding as Hugging Face tokenizers do it: characters, then the pair of lowest rank first, the leftmost of
 * equals; time n log n. What bpe.cpp does for the common settings. One thing differs: characters that are left out, for want of
 * an unknown token, are counted in offsets, which Hugging Face then shifts.
 */
import type { BpeModel } from '../tokenizer_json.ts';
import { Heap } from './heap.ts';
import type { Model, Token } from './model.ts';

interface Merge {
  rank: number;
  id: number;
}

/** Ids fit 22 bits (ID_LIMIT), a pair of them a number. */
const pairOf = (left: number, right: number) => left * 2 ** 22 + right;

/** The piece that two pieces make. */
export const mergedPiece = ({ continuing_subword_prefix: prefix }: BpeModel, left: string, right: string) =>
  left + (prefix !== '' && right.startsWith(prefix) ? right.slice(prefix.length) : right);

export function bpeModel(model: BpeModel): Model {
  const { vocab, continuing_subword_prefix: prefix, end_of_word_suffix: suffix } = model;
  const merges = new Map<number, Merge>();
  model.merges.forEach(([left, right], rank) => {
    merges.set(pairOf(vocab.get(left)!, vocab.get(right)!), { rank, id: vocab.get(mergedPiece(model, left, right))! });
  });
  const pieces: string[] = [];
  for (const [piece, id] of vocab) pieces[id] = piece;
  const unknown = model.unk_token === null ? undefined : vocab.get(model.unk_token);

  /** One token per character; characters without one become bytes or unknowns. */
  function symbols(text: string): Token[] {
    const found: Token[] = [];
    const add = (id: number, start: number, end: number) => found.push({ id, token: '', start, end });
    let pending: [number, number] | undefined; // Hugging Face writes an unknown when the next known character comes
    let start = 0;
    for (const c of text) {
      const end = start + c.length;
      const piece = (start === 0 ? c : prefix + c) + (end === text.length ? suffix : '');
      const id = vocab.get(piece);
      if (id !== undefined) {
        if (pending) add(unknown!, ...pending);
        pending = undefined;
        add(id, start, end);
      } else {
        const bytes = model.byte_fallback ? byteIds(piece) : undefined;
        if (bytes) for (const byte of bytes) add(byte, start, end);
        else if (unknown !== undefined) {
          if (pending && !model.fuse_unk) add(unknown, ...pending);
          pending = pending && model.fuse_unk ? [pending[0], end] : [start, end];
        }
      }
      start = end;
    }
    if (pending) add(unknown!, ...pending);
    return found;
  }

  function byteIds(piece: string): number[] | undefined {
    const ids: number[] = [];
    for (const byte of Buffer.from(piece)) {
      const id = vocab.get(`<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`);
      if (id === undefined) return undefined;
      ids.push(id);
    }
    return ids;
  }

  function merge(tokens: Token[]): Token[] {
    const find = (left: number, right: number) => {
      const [a, b] = [tokens[left], tokens[right]];
      return a && b ? merges.get(pairOf(a.id, b.id)) : undefined;
    };
    return mergeTokens(tokens, find);
  }

  return {
    tokenize(text) {
      if (text === '') return [];
      const whole = model.ignore_merges ? vocab.get(text) : undefined;
      const tokens =
        whole === undefined ? merge(symbols(text)) : [{ id: whole, token: '', start: 0, end: text.length }];
      for (const token of tokens) token.token = pieces[token.id]!;
      return tokens;
    },
  };
}

/** Merges neighbours until `find` knows no more pair. Lower ranks first, then positions further left. */
export function mergeTokens(tokens: Token[], find: (left: number, right: number) => Merge | undefined): Token[] {
  const count = tokens.length;
  const next = Int32Array.from(tokens, (_, i) => i + 1);
  const previous = Int32Array.from(tokens, (_, i) => i - 1);
  const gone = new Uint8Array(count);
  const queue = new Heap<Merge & { at: number }>((a, b) => a.rank - b.rank || a.at - b.at);
  const offer = (left: number, right: number) => {
    const found = left >= 0 && right < count ? find(left, right) : undefined;
    if (found) queue.push({ ...found, at: left });
  };
  for (let i = 0; i + 1 < count; i++) offer(i, i + 1);
  for (let best = queue.pop(); best; best = queue.pop()) {
    const { at, id } = best;
    const right = next[at]!;
    if (gone[at] || right >= count || find(at, right)?.id !== id) continue; // one of the two has merged since
    tokens[at]!.id = id;
    tokens[at]!.end = tokens[right]!.end;
    gone[right] = 1;
    next[at] = next[right]!;
    if (next[at]! < count) previous[next[at]!] = at;
    offer(previous[at]!, at);
    offer(at, next[at]!);
  }
  return tokens.filter((_, i) => !gone[i]);
}
