/**
 * A vocabulary in native memory, read from a file's bytes in one pass. Its pieces become strings when they are asked
 * for: making all of them is most of what opening a tokenizer takes otherwise.
 */
import { BackendError, FormatError } from '../util/errors.ts';
import {
  BAD_STRINGS,
  checked,
  DECLINED,
  hasTokenizerLibrary,
  MISSING_PIECE,
  packStrings,
  tokenizerLibrary,
} from './native.ts';
import type { Vocabulary } from './vocabulary.ts';

const freed = new FinalizationRegistry((handle: number) => tokenizerLibrary().freeVocabulary(handle));
/** MOST_SPANS of vocabulary.h. */
const MOST_SPANS = 32;
const NONE = 0xffffffff;

/** A vocabulary and what its file says besides. */
export interface ReadVocabulary {
  vocabulary: NativeVocabulary;
  rest: Buffer;
}

export class NativeVocabulary implements Vocabulary {
  readonly handle: number;
  private opened: { text: Buffer; starts: Uint32Array; lengths: Uint32Array } | undefined;
  private columns: { scores: Float64Array; types: Uint8Array } | undefined;
  private known: [count: number, bytes: number, merges: number] | undefined;
  private readonly strings: string[] = [];

  private constructor() {
    this.handle = tokenizerLibrary().createVocabulary();
    if (this.handle === 0) throw new BackendError('tokenizer: out of memory');
    freed.register(this, this.handle);
  }

  /**
   * The vocabulary of a tokenizer.json's UTF-8 text, and the text with empty places instead of model.vocab and
   * model.merges; undefined without a compiled library, and for what is not sound.
   */
  static readJson(text: Buffer): ReadVocabulary | undefined {
    if (!hasTokenizerLibrary()) return undefined;
    const vocabulary = new NativeVocabulary();
    const spans = new Uint32Array(4);
    const result = tokenizerLibrary().readJson(vocabulary.handle, text, text.length, spans);
    if (result === DECLINED) return undefined;
    checked('tokenizer', result);
    const cuts = [spans.subarray(0, 2), spans.subarray(2)].filter((span) => span[1]! > 0).sort((a, b) => a[0]! - b[0]!);
    const parts: Buffer[] = [];
    let at = 0;
    for (const [start, end] of cuts as unknown as [number, number][]) {
      parts.push(text.subarray(at, start + 1), text.subarray(end - 1, end)); // the brackets stay
      at = end;
    }
    return { vocabulary, rest: Buffer.concat([...parts, text.subarray(at)]) };
  }

  /** The pieces of a spiece.model, and all its other fields; undefined as above. */
  static readSentencePiece(model: Uint8Array): ReadVocabulary | undefined {
    if (!hasTokenizerLibrary()) return undefined;
    const vocabulary = new NativeVocabulary();
    const spans = new Uint32Array(2 * MOST_SPANS);
    const count = tokenizerLibrary().readSentencePiece(vocabulary.handle, model, model.length, spans);
    if (count === DECLINED) return undefined;
    const parts = Array.from({ length: checked('tokenizer', count) }, (_, i) =>
      model.subarray(spans[2 * i], spans[2 * i + 1]),
    );
    return { vocabulary, rest: Buffer.concat(parts) };
  }

  /**
   * The same from strings. ids: undefined where a piece's id is its place; types: of a spiece.model.
   * @throws FormatError for text that is none
   */
  static of(
    pieces: readonly string[],
    columns: { ids?: Int32Array; scores?: Float64Array; types?: Uint8Array },
    path: string,
  ): NativeVocabulary {
    const vocabulary = new NativeVocabulary();
    const { text, units } = packStrings(pieces);
    const { ids = null, scores = null, types = null } = columns;
    const library = tokenizerLibrary();
    call(path, library.pieces(vocabulary.handle, text, text.length, units, ids, scores, types, pieces.length));
    return vocabulary;
  }

  /** False where a merge needs a piece that is missing. @throws FormatError for text that is none */
  addMerges(merges: readonly (readonly [string, string])[], path: string): boolean {
    const { text, units } = packStrings(merges.flat());
    const result = tokenizerLibrary().merges(this.handle, text, text.length, units, merges.length);
    if (result === MISSING_PIECE) return false;
    call(path, result);
    return true;
  }

  get count(): number {
    return this.sizes[1];
  }

  idOf(piece: string): number | undefined {
    if (/\p{Surrogate}/u.test(piece)) return undefined;
    const bytes = Buffer.from(piece);
    const id = tokenizerLibrary().pieceId(this.handle, bytes, bytes.length);
    return id < 0 ? undefined : id;
  }

  pieceOf(id: number): string | undefined {
    const known = this.strings[id];
    if (known !== undefined) return known;
    const { text, starts, lengths } = this.texts;
    const start = starts[id] ?? NONE;
    if (start === NONE) return undefined;
    const piece = text.toString('utf8', start, start + lengths[id]!);
    this.strings[id] = piece;
    return piece;
  }

  toMap(): Map<string, number> {
    const map = new Map<string, number>();
    for (let id = 0; id < this.count; id++) {
      const piece = this.pieceOf(id);
      if (piece !== undefined) map.set(piece, id);
    }
    return map;
  }

  /** By id, of Unigram and of a spiece.model. */
  get scores(): Float64Array {
    return this.read().scores;
  }

  /** By id, of a spiece.model. */
  get types(): Uint8Array {
    return this.read().types;
  }

  get merges(): [string, string][] {
    const pairs = new Int32Array(2 * this.sizes[2]);
    tokenizerLibrary().joins(this.handle, pairs);
    return Array.from({ length: this.sizes[2] }, (_, i) => [
      this.pieceOf(pairs[2 * i]!)!,
      this.pieceOf(pairs[2 * i + 1]!)!,
    ]);
  }

  private read() {
    if (!this.columns) {
      this.columns = { scores: new Float64Array(this.count), types: new Uint8Array(this.count) };
      tokenizerLibrary().scores(this.handle, this.columns.scores, this.columns.types);
    }
    return this.columns;
  }

  private get sizes(): [bytes: number, count: number, merges: number] {
    if (!this.known) {
      const sizes = new Uint32Array(3);
      tokenizerLibrary().sizes(this.handle, sizes);
      this.known = [...sizes] as [number, number, number];
    }
    return this.known;
  }

  private get texts() {
    if (!this.opened) {
      const [bytes, count] = this.sizes;
      this.opened = { text: Buffer.alloc(bytes), starts: new Uint32Array(count), lengths: new Uint32Array(count) };
      const { text, starts, lengths } = this.opened;
      tokenizerLibrary().texts(this.handle, text, starts, lengths);
    }
    return this.opened;
  }
}

/** @throws FormatError for text that is none, BackendError when out of memory */
export function call(path: string, result: number): number {
  if (result === BAD_STRINGS)
    throw new FormatError(`${path}: a token contains half a surrogate pair, expected valid text`);
  return checked(path, result);
}
