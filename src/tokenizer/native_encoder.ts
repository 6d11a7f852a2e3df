/** Encoding in C++: a tokenizer.json whose parts native code knows, handed over once. */
import { BackendError, UsageError } from '../util/errors.ts';
import { checked, hasTokenizerLibrary, packStrings, tokenizerLibrary } from './native.ts';
import { type NativePlan, nativePlan } from './native_plan.ts';
import { call, NativeVocabulary } from './native_vocabulary.ts';
import { Charsmap } from './pipeline/charsmap.ts';
import { unigramOptions } from './pipeline/pipeline.ts';
import { byteIdsOf, pieceScores } from './pipeline/sentencepiece.ts';
import type { AddedToken } from './schema.ts';
import { columnsOf, ModelType, PieceType, type SentencePieceModel } from './sentencepiece_model.ts';
import {
  type BpeModel,
  checkMerges,
  scoresOf,
  type TokenizerFile,
  type UnigramModel,
  vocabularyOf,
} from './tokenizer_json.ts';

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
    if (!hasTokenizerLibrary()) return undefined;
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

function fillPlan(handle: number, plan: NativePlan, path: string): void {
  const library = tokenizerLibrary();
  const { model } = plan;
  const vocabulary = inNativeMemory(model, path);
  if (model.type === 'BPE') {
    const unknown = model.unk_token === null ? -1 : vocabulary.idOf(model.unk_token)!;
    const flags = [model.byte_fallback, model.fuse_unk, model.ignore_merges, plan.kind === 'rules' && plan.byteLevel];
    call(path, library.bpe(handle, vocabulary.handle, Int32Array.of(unknown, ...flags.map(Number))));
  } else {
    const { unknown, unknownScore, bytes } = unigramOptions(model, path);
    const scores = scoresOf(model);
    fillUnigram(
      handle,
      vocabulary,
      { scores, unknown, unknownScore, bytes, name: vocabularyOf(model).pieceOf(unknown)! },
      path,
    );
  }
  if (plan.kind === 'rules') {
    call(path, library.rules(handle, plan.rules, plan.rules.length / 2, +plan.prefixSpace));
    return;
  }
  const charsmap = Buffer.from(plan.charsmap, 'base64');
  if (charsmap.length > 0) new Charsmap(charsmap, `${path}: normalizer`); // is it sound?
  call(path, library.hfNormalizer(handle, vocabulary.handle, charsmap, charsmap.length, plan.options));
}

/** A model's vocabulary and merges for native code. @throws FormatError for a merge without its piece */
function inNativeMemory(model: BpeModel | UnigramModel, path: string): NativeVocabulary {
  const known = vocabularyOf(model);
  if (known instanceof NativeVocabulary) return known;
  if (model.type === 'Unigram') {
    const pieces = model.vocab.map(([piece]) => piece);
    return NativeVocabulary.of(pieces, { scores: scoresOf(model) }, path);
  }
  const ids = Int32Array.from(model.vocab.values());
  const vocabulary = NativeVocabulary.of([...model.vocab.keys()], { ids }, path);
  if (!vocabulary.addMerges(model.merges, path)) {
    checkMerges(model, path);
    throw new BackendError(`${path}: native code lacks a piece of a merge`);
  }
  return vocabulary;
}

interface UnigramFilling {
  scores: Float64Array;
  unknown: number;
  unknownScore: number;
  bytes: readonly number[] | undefined;
  /** A text that is not cut into bytes. */
  name: string;
}

function fillUnigram(handle: number, vocabulary: NativeVocabulary, filling: UnigramFilling, path: string): void {
  const { scores, unknown, unknownScore, bytes } = filling;
  const name = Buffer.from(filling.name);
  const byteIds = bytes ? Int32Array.from(bytes) : null;
  const parts = [handle, vocabulary.handle, scores, unknown, unknownScore, name, name.length, byteIds];
  call(path, tokenizerLibrary().unigram(...parts));
}

/** Hands a spiece.model over, or undefined where only TypeScript can: unused pieces of BPE come apart again. */
function sentencePieceFiller(model: SentencePieceModel, path: string): ((handle: number) => void) | undefined {
  const { trainer_spec, normalizer_spec } = model;
  const bpe = trainer_spec.model_type === ModelType.BPE;
  const columns = columnsOf(model);
  if (!bpe && trainer_spec.model_type !== ModelType.UNIGRAM) return undefined;
  if (bpe && columns.types.includes(PieceType.UNUSED)) return undefined;
  const bytes = byteIdsOf(model, path);
  const charsmap = normalizer_spec.precompiled_charsmap;
  if (charsmap.length > 0) new Charsmap(charsmap, path); // is it sound?
  return (handle) => {
    const library = tokenizerLibrary();
    const vocabulary =
      columns instanceof NativeVocabulary
        ? columns
        : NativeVocabulary.of(
            model.pieces.map(({ piece }) => piece),
            { scores: columns.scores, types: columns.types },
            path,
          );
    const unknown = columns.types.indexOf(PieceType.UNKNOWN);
    if (bpe) {
      const byteIds = bytes ? Int32Array.from(bytes) : null;
      call(path, library.spBpe(handle, vocabulary.handle, unknown, byteIds));
    } else fillUnigram(handle, vocabulary, { ...pieceScores(columns), unknown, bytes, name: '' }, path);
    const options = Int32Array.of(
      +normalizer_spec.add_dummy_prefix,
      +normalizer_spec.remove_extra_whitespaces,
      +normalizer_spec.escape_whitespaces,
      +trainer_spec.treat_whitespace_as_suffix,
    );
    call(path, library.spNormalizer(handle, vocabulary.handle, charsmap, charsmap.length, options));
  };
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
