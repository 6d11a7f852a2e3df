/**
 * tokenizer.json, the file format of Hugging Face tokenizers: read with every field checked, written so that they load
 * it. schema.ts has its parts.
 */
import { FormatError } from '../util/errors.ts';
import { Mismatch, type Shaped } from '../util/json_shape.ts';
import { once } from '../util/once.ts';
import { NativeVocabulary } from './native_vocabulary.ts';
import { mergedPiece } from './pipeline/bpe.ts';
import {
  type AddedToken,
  type Decoder,
  type Normalizer,
  type Padding,
  type PostProcessor,
  type PreTokenizer,
  type Truncation,
  tokenizerJson,
} from './schema.ts';
import {
  checkAddedTokens,
  readMerges,
  readScores,
  readVocabulary,
  stringVocabulary,
  type Vocabulary,
} from './vocabulary.ts';

export interface BpeModel {
  type: 'BPE';
  unk_token: string | null;
  /** '' where there is none. */
  continuing_subword_prefix: string;
  end_of_word_suffix: string;
  fuse_unk: boolean;
  byte_fallback: boolean;
  ignore_merges: boolean;
  /** Piece -> id. */
  vocab: Map<string, number>;
  merges: (readonly [string, string])[];
}

export interface UnigramModel {
  type: 'Unigram';
  unk_id: number | null;
  byte_fallback: boolean;
  /** Piece and log probability; the id is the place. */
  vocab: [string, number][];
}

export interface WordPieceModel {
  type: 'WordPiece';
  unk_token: string;
  continuing_subword_prefix: string;
  max_input_chars_per_word: number;
  vocab: Map<string, number>;
}

export interface WordLevelModel {
  type: 'WordLevel';
  unk_token: string;
  vocab: Map<string, number>;
}

export type TokenizerModel = BpeModel | UnigramModel | WordPieceModel | WordLevelModel;

/** A tokenizer.json, checked: ids are unique, tokens that parts name exist. */
export interface TokenizerFile {
  truncation: Truncation | null;
  padding: Padding | null;
  added_tokens: AddedToken[];
  normalizer: Normalizer | null;
  pre_tokenizer: PreTokenizer | null;
  post_processor: PostProcessor | null;
  decoder: Decoder | null;
  model: TokenizerModel;
}

const vocabularies = new WeakMap<TokenizerModel, Vocabulary>();

/** A model's vocabulary, made once. Of equal Unigram pieces the last one counts, as in Hugging Face tokenizers. */
export function vocabularyOf(model: TokenizerModel): Vocabulary {
  const known = vocabularies.get(model);
  if (known) return known;
  if (model.type === 'Unigram') {
    const owners = model.vocab.map(([piece]) => piece);
    return indexed(model, stringVocabulary(new Map(owners.map((piece, id) => [piece, id])), owners));
  }
  const owners: string[] = [];
  for (const [piece, id] of model.vocab) owners[id] = piece;
  return indexed(model, stringVocabulary(model.vocab, owners));
}

/** Says what vocabularyOf need not find out. */
export function indexed(model: TokenizerModel, vocabulary: Vocabulary): Vocabulary {
  vocabularies.set(model, vocabulary);
  return vocabulary;
}

/** Log probabilities by id. */
export function scoresOf(model: UnigramModel): Float64Array {
  const vocabulary = vocabularyOf(model);
  return vocabulary instanceof NativeVocabulary
    ? vocabulary.scores
    : Float64Array.from(model.vocab, ([, score]) => score);
}

/** What a part of the file says about itself, for the error that refuses it. */
function describe(document: unknown, path: PropertyKey[]): string {
  let value = document;
  for (const key of path) value = (value as Record<PropertyKey, unknown> | null | undefined)?.[key];
  const text = JSON.stringify(value) ?? 'nothing';
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}

/** Oldest files do not say which model theirs is. */
function modelType(model: Record<string, unknown>): string {
  if ('merges' in model) return 'BPE';
  if (Array.isArray(model.vocab)) return 'Unigram';
  return 'max_input_chars_per_word' in model ? 'WordPiece' : 'WordLevel';
}

/**
 * Reads the text of a tokenizer.json. `path` is for messages.
 * @throws FormatError naming the file and the field
 */
export function parseTokenizerJson(text: string, path: string): TokenizerFile {
  const document = readDocument(text, path);
  return checkedFile(document, readModel(document.model, path), path);
}

/** The same of the file's UTF-8, with the vocabulary in native memory where it can be; its strings are made when asked for. */
export function openTokenizerJson(text: Buffer, path: string): TokenizerFile {
  const read = NativeVocabulary.readJson(text);
  const document = read && withoutVocabulary(read.rest, path);
  if (!document) return parseTokenizerJson(text.toString(), path);
  return checkedFile(document, lazyModel(document.model, read.vocabulary), path);
}

/** Undefined for what is not valid: that is said with the whole file in view. */
function withoutVocabulary(rest: Buffer, path: string): Document | undefined {
  try {
    return readDocument(rest.toString(), path);
  } catch (error) {
    if (error instanceof FormatError) return undefined;
    throw error;
  }
}

type Document = Shaped<typeof tokenizerJson>;

function readDocument(text: string, path: string): Document {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (cause) {
    throw new FormatError(`${path}: not JSON, expected a tokenizer.json: ${(cause as Error).message}`, { cause });
  }
  const untyped = (document as { model?: Record<string, unknown> } | null)?.model;
  if (typeof untyped === 'object' && untyped !== null && !('type' in untyped)) untyped.type = modelType(untyped);
  try {
    return tokenizerJson(document);
  } catch (cause) {
    if (cause instanceof RangeError) throw new FormatError(`${path}: parts within parts without end`, { cause });
    if (!(cause instanceof Mismatch)) throw cause;
    throw new FormatError(
      `${path}: ${cause.path.join('.') || 'file'} is ${describe(document, cause.path)}, which is not supported or not valid: ${cause.message}`,
      { cause },
    );
  }
}

function checkedFile(document: Document, model: TokenizerModel, path: string): TokenizerFile {
  const file: TokenizerFile = {
    truncation: document.truncation ?? null,
    padding: document.padding ?? null,
    added_tokens: document.added_tokens,
    normalizer: document.normalizer ?? null,
    pre_tokenizer: document.pre_tokenizer ?? null,
    post_processor: document.post_processor ?? null,
    decoder: document.decoder ?? null,
    model,
  };
  checkReferences(file, path);
  return file;
}

/** A model whose vocabulary is native; TypeScript sees it as strings once it looks. */
function lazyModel(raw: Document['model'], vocabulary: NativeVocabulary): TokenizerModel {
  const map = once(() => vocabulary.toMap());
  const scored = once(() =>
    Array.from(vocabulary.scores, (score, id): [string, number] => [vocabulary.pieceOf(id)!, score]),
  );
  const merges = once(() => vocabulary.merges);
  const model = ((): TokenizerModel => {
    switch (raw.type) {
      case 'Unigram':
        return withGetters(unigramSettings(raw), { vocab: scored });
      case 'BPE':
        return withGetters(bpeSettings(raw), { vocab: map, merges });
      case 'WordPiece':
        return withGetters({ ...raw }, { vocab: map });
      case 'WordLevel':
        return withGetters({ ...raw }, { vocab: map });
    }
  })();
  indexed(model, vocabulary);
  return model;
}

/** An object with further fields, each made when it is first read. */
export function withGetters<T extends object, G extends Record<string, () => unknown>>(
  target: T,
  getters: G,
): Omit<T, keyof G> & { [K in keyof G]: ReturnType<G[K]> } {
  for (const [name, get] of Object.entries(getters)) Object.defineProperty(target, name, { get, enumerable: true });
  return target as never;
}

type RawModel<Type> = Extract<Document['model'], { type: Type }>;

function readModel(raw: Document['model'], path: string): TokenizerModel {
  if (raw.type === 'Unigram') return { ...unigramSettings(raw), vocab: readScores(raw.vocab, path) };
  const vocab = readVocabulary(raw.vocab, path);
  return raw.type === 'BPE' ? { ...bpeSettings(raw), vocab, merges: readMerges(raw.merges, path) } : { ...raw, vocab };
}

const unigramSettings = (raw: RawModel<'Unigram'>) => ({
  type: raw.type,
  unk_id: raw.unk_id ?? null,
  byte_fallback: raw.byte_fallback ?? false,
});

const bpeSettings = (raw: RawModel<'BPE'>) => ({
  type: raw.type,
  unk_token: raw.unk_token ?? null,
  continuing_subword_prefix: raw.continuing_subword_prefix ?? '',
  end_of_word_suffix: raw.end_of_word_suffix ?? '',
  fuse_unk: raw.fuse_unk ?? false,
  byte_fallback: raw.byte_fallback ?? false,
  ignore_merges: raw.ignore_merges ?? false,
});

function checkReferences({ model, added_tokens, post_processor }: TokenizerFile, path: string): void {
  const vocabulary = vocabularyOf(model);
  checkAddedTokens(added_tokens, vocabulary, path);
  checkTemplates(post_processor, path);
  if (model.type === 'Unigram') {
    if (model.unk_id !== null && model.unk_id >= vocabulary.count)
      throw new FormatError(`${path}: model.unk_id is ${model.unk_id}, expected less than ${vocabulary.count}`);
  } else if (model.unk_token !== null && vocabulary.idOf(model.unk_token) === undefined)
    throw new FormatError(`${path}: model.unk_token ${JSON.stringify(model.unk_token)} is not in model.vocab`);
}

/** Every token of a template has its ids. */
function checkTemplates(part: PostProcessor | null, path: string): void {
  if (part?.type === 'Sequence') for (const step of part.processors) checkTemplates(step, path);
  if (part?.type !== 'TemplateProcessing') return;
  for (const piece of [...part.single, ...part.pair])
    if ('SpecialToken' in piece && !Object.hasOwn(part.special_tokens, piece.SpecialToken.id))
      throw new FormatError(
        `${path}: post_processor uses ${JSON.stringify(piece.SpecialToken.id)}, which is not in its special_tokens`,
      );
  if (part.single.some((piece) => 'Sequence' in piece && piece.Sequence.id === 'B'))
    throw new FormatError(`${path}: post_processor.single uses Sequence B, expected A only`);
}

/** The first merge that lacks a piece, for the error that refuses it. @throws FormatError naming it */
export function checkMerges(model: BpeModel, path: string): void {
  for (let i = 0; i < model.merges.length; i++) {
    const [left, right] = model.merges[i]!;
    for (const piece of [left, right, mergedPiece(model, left, right)])
      if (!model.vocab.has(piece))
        throw new FormatError(
          `${path}: model.merges[${i}] needs ${JSON.stringify(piece)}, which is not in model.vocab`,
        );
  }
}

const lines = (entries: string[]) => entries.map((entry) => `      ${entry}`).join(',\n');

/** The text of a tokenizer.json, one piece and one merge per line. */
export function formatTokenizerJson({ model, ...parts }: TokenizerFile): string {
  const { vocab, ...settings } = model;
  const head: Record<string, unknown> = { version: '1.0', ...parts, model: settings };
  const entries =
    model.type === 'Unigram'
      ? `[\n${lines(model.vocab.map((entry) => JSON.stringify(entry)))}\n    ]`
      : `{\n${lines([...model.vocab].sort((a, b) => a[1] - b[1]).map(([piece, id]) => `${JSON.stringify(piece)}: ${id}`))}\n    }`;
  let tail = `,\n    "vocab": ${entries}`;
  if (model.type === 'BPE') {
    const { merges, continuing_subword_prefix, end_of_word_suffix, ...rest } = model;
    head.model = {
      ...rest,
      dropout: null,
      continuing_subword_prefix: continuing_subword_prefix || null,
      end_of_word_suffix: end_of_word_suffix || null,
      vocab: undefined,
    };
    tail += `,\n    "merges": [\n${lines(merges.map((merge) => JSON.stringify(merge)))}\n    ]`;
  }
  return `${JSON.stringify(head, null, 2).slice(0, -'\n  }\n}'.length)}${tail}\n  }\n}\n`;
}
