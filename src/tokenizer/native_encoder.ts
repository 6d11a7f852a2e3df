/** Encoding in C++: a tokenizer.json whose parts native code knows, handed over once. */
import { BackendError, FormatError, UsageError } from '../util/errors.ts';
import { BAD_STRINGS, checked, MISSING_PIECE, packStrings, tokenizerLibrary } from './native.ts';
import { type NativePlan, nativePlan } from './native_plan.ts';
import { Charsmap } from './pipeline/charsmap.ts';
import { unigramOptions } from './pipeline/pipeline.ts';
import { byteIdsOf, isText, pieceScores } from './pipeline/sentencepiece.ts';
import { spaceMark } from './pipeline/sp_normalizer.ts';
import type { AddedToken } from './schema.ts';
import { ModelType, PieceType, type SentencePieceModel } from './sentencepiece_model.ts';
import { type BpeModel, checkMerges, type TokenizerFile, type UnigramModel } from './tokenizer_json.ts';

/** Ids of text i: ids[offsets[i] … offsets[i+1]). */
export interface EncodedBatch {
  ids: Int32Array;
  offsets: Uint32Array;
}

const freed = new FinalizationRegistry((handle: number) => tokenizerLibrary().free(handle));

export class NativeEncoder {
  private handle: number;

  private constructor(handle: number) {
    this.handle = handle;
    freed.register(this, handle, this);
  }

  /**
   * An encoder that puts `prefix` and `suffix` around a text, or undefined where TypeScript must do it: for a file with
   * other parts, or without a compiled library. `path` is for messages. @throws FormatError for a merge without its piece
   */
  static open(
    file: TokenizerFile,
    prefix: readonly number[],
    suffix: readonly number[],
    path: string,
  ): NativeEncoder | undefined {
    const plan = nativePlan(file);
    return (
      plan && NativeEncoder.make((handle) => fillPlan(handle, plan, path), file.added_tokens, prefix, suffix, path)
    );
  }

  /** The same for a spiece.model. */
  static openSentencePiece(
    model: SentencePieceModel,
    added: readonly AddedToken[],
    prefix: readonly number[],
    suffix: readonly number[],
    path: string,
  ): NativeEncoder | undefined {
    const fill = sentencePieceFiller(model, path);
    return fill && NativeEncoder.make(fill, added, prefix, suffix, path);
  }

  private static make(
    fill: (handle: number) => void,
    added: readonly AddedToken[],
    prefix: readonly number[],
    suffix: readonly number[],
    path: string,
  ): NativeEncoder | undefined {
    if (!libraryIsThere()) return undefined;
    const library = tokenizerLibrary();
    const handle = library.create();
    if (handle === 0) throw new BackendError(`${path}: out of memory`);
    try {
      fill(handle);
      fillAdded(handle, added, path);
      const around = [Int32Array.from(prefix), prefix.length, Int32Array.from(suffix), suffix.length];
      checked(path, library.template(handle, ...around));
      return new NativeEncoder(handle);
    } catch (error) {
      library.free(handle);
      throw error;
    }
  }

  /**
   * Native code trusts offsets that rise and end within the bytes. `decline` encodes the texts that it leaves to
   * TypeScript, by number.
   */
  encode(
    bytes: Uint8Array,
    offsets: Uint32Array,
    options: { special: boolean; split: boolean; threads: number },
    decline: (text: number) => readonly number[],
  ): EncodedBatch {
    const count = offsets.length - 1;
    const flags = (options.special ? 1 : 0) | (options.split ? 2 : 0);
    const idOffsets = new Uint32Array(count + 1);
    const declined = new Uint8Array(count);
    if (this.handle === 0) throw new UsageError('tokenizer: used after dispose()');
    const library = tokenizerLibrary();
    const call = library.encode(this.handle, bytes, offsets, count, flags, options.threads, idOffsets, declined);
    const ids = new Int32Array(checked('encodeBatch', call));
    checked('encodeBatch', library.ids(this.handle, ids));
    return declined.includes(1)
      ? inserted({ ids, offsets: idOffsets }, declined, decline)
      : { ids, offsets: idOffsets };
  }

  dispose(): void {
    if (this.handle === 0) return;
    freed.unregister(this);
    tokenizerLibrary().free(this.handle);
    this.handle = 0;
  }
}

function libraryIsThere(): boolean {
  try {
    tokenizerLibrary();
    return true;
  } catch (error) {
    if (error instanceof BackendError) return false;
    throw error;
  }
}

/** The ids of native code with those of the texts that it has declined between them. */
function inserted(
  { ids, offsets }: EncodedBatch,
  declined: Uint8Array,
  decline: (text: number) => readonly number[],
): EncodedBatch {
  const rows = Array.from(declined, (no, i) => (no ? decline(i) : ids.subarray(offsets[i], offsets[i + 1])));
  const all = new Uint32Array(rows.length + 1);
  rows.forEach((row, i) => {
    all[i + 1] = all[i]! + row.length;
  });
  const joined = new Int32Array(all.at(-1)!);
  rows.forEach((row, i) => {
    joined.set(row, all[i]);
  });
  return { ids: joined, offsets: all };
}

/** @throws FormatError for text that is none, BackendError when out of memory */
function call(path: string, result: number): number {
  if (result === BAD_STRINGS)
    throw new FormatError(`${path}: a token contains half a surrogate pair, expected valid text`);
  return checked(path, result);
}

function fillPlan(handle: number, plan: NativePlan, path: string): void {
  const library = tokenizerLibrary();
  const { model } = plan;
  if (model.type === 'BPE') fillBpe(handle, model, plan.kind === 'rules' && plan.byteLevel, path);
  else fillUnigram(handle, model, path);
  if (plan.kind === 'rules') {
    call(path, library.rules(handle, plan.rules, plan.rules.length / 2, +plan.prefixSpace));
    return;
  }
  const charsmap = Buffer.from(plan.charsmap, 'base64');
  if (charsmap.length > 0) new Charsmap(charsmap, `${path}: normalizer`); // is it sound?
  call(path, library.hfNormalizer(handle, charsmap, charsmap.length, plan.options));
}

function fillBpe(handle: number, model: BpeModel, byteLevel: boolean, path: string): void {
  const library = tokenizerLibrary();
  const pieces = packStrings([...model.vocab.keys()]);
  const unknown = model.unk_token === null ? -1 : model.vocab.get(model.unk_token)!;
  const flags = [model.byte_fallback, model.fuse_unk, model.ignore_merges, byteLevel].map(Number);
  const options = Int32Array.of(unknown, ...flags);
  const pieceIds = Int32Array.from(model.vocab.values());
  call(path, library.bpe(handle, pieces.text, pieces.text.length, pieces.units, pieceIds, pieceIds.length, options));
  const parts: string[] = [];
  for (const [left, right] of model.merges) parts.push(left, right);
  const merges = packStrings(parts);
  const wrong = new Uint32Array(1);
  const merged = library.merges(handle, merges.text, merges.text.length, merges.units, model.merges.length, wrong);
  if (merged === MISSING_PIECE) checkMerges(model, path);
  call(path, merged);
}

function fillUnigram(handle: number, model: UnigramModel, path: string): void {
  const { unknown, unknownScore, bytes } = unigramOptions(model, path);
  const { vocab } = model;
  const pieces: string[] = [];
  const scores = new Float64Array(vocab.length);
  const kinds = new Uint8Array(vocab.length);
  for (let id = 0; id < vocab.length; id++) {
    const entry = vocab[id]!;
    pieces.push(entry[0]);
    scores[id] = entry[1];
    kinds[id] = entry[0] === '' ? 0 : 1;
  }
  const packed = packStrings(pieces);
  const byteIds = bytes ? Int32Array.from(bytes) : null;
  const { text, units } = packed;
  call(
    path,
    tokenizerLibrary().unigram(
      handle,
      text,
      text.length,
      units,
      scores,
      kinds,
      kinds.length,
      unknown,
      unknownScore,
      byteIds,
      0,
    ),
  );
}

/** Hands a spiece.model over, or undefined where only TypeScript can: unused pieces of BPE come apart again. */
function sentencePieceFiller(model: SentencePieceModel, path: string): ((handle: number) => void) | undefined {
  const { pieces, trainer_spec, normalizer_spec } = model;
  const bpe = trainer_spec.model_type === ModelType.BPE;
  if (!bpe && trainer_spec.model_type !== ModelType.UNIGRAM) return undefined;
  if (bpe && pieces.some(({ type }) => type === PieceType.UNUSED)) return undefined;
  const { scores, unknownScore } = pieceScores(model);
  const byteIds = byteIdsOf(model, path);
  const charsmap = normalizer_spec.precompiled_charsmap;
  if (charsmap.length > 0) new Charsmap(charsmap, path); // is it sound?
  return (handle) => {
    const library = tokenizerLibrary();
    const { text, units } = packStrings(pieces.map(({ piece }) => piece));
    const kinds = new Uint8Array(pieces.length);
    pieces.forEach(({ type }, id) => {
      kinds[id] = type === PieceType.USER_DEFINED ? 2 : isText(type) ? 1 : 0;
    });
    const unknown = pieces.findIndex(({ type }) => type === PieceType.UNKNOWN);
    const bytes = byteIds ? Int32Array.from(byteIds) : null;
    const vocabulary = [handle, text, text.length, units] as const;
    if (bpe) {
      const ranks = Float64Array.from(pieces, ({ score }) => Math.fround(score));
      call(path, library.spBpe(...vocabulary, ranks, kinds, kinds.length, unknown, bytes));
    } else call(path, library.unigram(...vocabulary, scores, kinds, kinds.length, unknown, unknownScore, bytes, 1));
    const options = Int32Array.of(
      +normalizer_spec.add_dummy_prefix,
      +normalizer_spec.remove_extra_whitespaces,
      +normalizer_spec.escape_whitespaces,
      +trainer_spec.treat_whitespace_as_suffix,
      +!staysInWords(model),
    );
    call(path, library.spNormalizer(handle, charsmap, charsmap.length, options));
  };
}

/** Marks are at one end of pieces only: then no piece is part of two words. */
function staysInWords({ pieces, trainer_spec, normalizer_spec }: SentencePieceModel): boolean {
  if (!normalizer_spec.escape_whitespaces) return false;
  const suffix = trainer_spec.treat_whitespace_as_suffix;
  return pieces.every(({ piece, type }) => {
    if (!isText(type)) return true;
    const place = suffix ? piece.indexOf(spaceMark) : piece.lastIndexOf(spaceMark);
    return place < 0 || place === (suffix ? piece.length - 1 : 0);
  });
}

function fillAdded(handle: number, added: readonly AddedToken[], path: string): void {
  const tokens = packStrings(added.map(({ content }) => content));
  const column = (value: (token: AddedToken) => number) => Int32Array.from(added, value);
  const ids = column(({ id }) => id);
  const flags = column(({ lstrip, rstrip, special }) => (lstrip ? 1 : 0) | (rstrip ? 2 : 0) | (special ? 4 : 0));
  const normalized = column(({ normalized }) => +normalized);
  const { text, units } = tokens;
  call(path, tokenizerLibrary().added(handle, text, text.length, units, ids, flags, normalized, added.length));
}
