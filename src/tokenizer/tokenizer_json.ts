/**
 * tokenizer.json, the file format of Hugging Face tokenizers: read with every field checked, written so that they load
 * it. schema.ts has its parts.
 */
import { FormatError } from '../util/errors.ts';
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
import { checkAddedTokens, readMerges, readScores, readVocabulary } from './vocabulary.ts';

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

const vocabularies = new WeakMap<UnigramModel, ReadonlyMap<string, number>>();

/** Piece -> id of a model, made once. Of equal Unigram pieces the last one counts, as in Hugging Face tokenizers. */
export function vocabularyOf(model: TokenizerModel): ReadonlyMap<string, number> {
  if (model.type !== 'Unigram') return model.vocab;
  const known = vocabularies.get(model);
  if (known) return known;
  const ids = new Map<string, number>();
  for (let id = 0; id < model.vocab.length; id++) ids.set(model.vocab[id]![0], id);
  return indexed(model, ids);
}

/** Says what vocabularyOf need not find out. */
export function indexed(model: UnigramModel, ids: ReadonlyMap<string, number>): ReadonlyMap<string, number> {
  vocabularies.set(model, ids);
  return ids;
}

/** A model's vocabulary from the ids' side; count is one more than the highest id. */
export function piecesById(model: TokenizerModel): { pieceOf: (id: number) => string | undefined; count: number } {
  if (model.type === 'Unigram') return { pieceOf: (id) => model.vocab[id]?.[0], count: model.vocab.length };
  const pieces: string[] = [];
  for (const [piece, id] of model.vocab) pieces[id] = piece;
  return { pieceOf: (id) => pieces[id], count: pieces.length };
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
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (cause) {
    throw new FormatError(`${path}: not JSON, expected a tokenizer.json: ${(cause as Error).message}`, { cause });
  }
  const untyped = (document as { model?: Record<string, unknown> } | null)?.model;
  if (typeof untyped === 'object' && untyped !== null && !('type' in untyped)) untyped.type = modelType(untyped);
  const parsed = tokenizerJson.safeParse(document, { jitless: true }); // compiling the schema takes longer
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    throw new FormatError(
      `${path}: ${issue.path.join('.') || 'file'} is ${describe(document, issue.path)}, which is not supported or not valid: ${issue.message}`,
    );
  }
  const { data } = parsed;
  const file: TokenizerFile = {
    truncation: data.truncation ?? null,
    padding: data.padding ?? null,
    added_tokens: data.added_tokens,
    normalizer: data.normalizer ?? null,
    pre_tokenizer: data.pre_tokenizer ?? null,
    post_processor: data.post_processor ?? null,
    decoder: data.decoder ?? null,
    model: readModel(data.model, path),
  };
  checkReferences(file, path);
  return file;
}

type RawModel = ReturnType<typeof tokenizerJson.parse>['model'];

function readModel(raw: RawModel, path: string): TokenizerModel {
  if (raw.type === 'Unigram')
    return {
      type: 'Unigram',
      unk_id: raw.unk_id ?? null,
      byte_fallback: raw.byte_fallback ?? false,
      vocab: readScores(raw.vocab, path),
    };
  const vocab = readVocabulary(raw.vocab, path);
  if (raw.type !== 'BPE') return { ...raw, vocab };
  return {
    type: 'BPE',
    unk_token: raw.unk_token ?? null,
    continuing_subword_prefix: raw.continuing_subword_prefix ?? '',
    end_of_word_suffix: raw.end_of_word_suffix ?? '',
    fuse_unk: raw.fuse_unk ?? false,
    byte_fallback: raw.byte_fallback ?? false,
    ignore_merges: raw.ignore_merges ?? false,
    vocab,
    merges: readMerges(raw.merges, path),
  };
}

function checkReferences({ model, added_tokens, post_processor }: TokenizerFile, path: string): void {
  const vocab = vocabularyOf(model);
  checkAddedTokens(added_tokens, vocab, piecesById(model).pieceOf, path);
  checkTemplates(post_processor, path);
  if (model.type === 'Unigram') {
    if (model.unk_id !== null && model.unk_id >= model.vocab.length)
      throw new FormatError(`${path}: model.unk_id is ${model.unk_id}, expected less than ${model.vocab.length}`);
  } else if (model.unk_token !== null && !vocab.has(model.unk_token))
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
