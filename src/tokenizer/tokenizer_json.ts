/**
 * tokenizer.json, the file format of Hugging Face tokenizers: read with every field checked, written so that they load
 * it. What is understood: BPE without normalizer, a Split pre-tokenizer of patterns.ts, byte fallback, a template with
 * special tokens around the text. Anything else is a FormatError that names it.
 */
import { z } from 'zod';
import { FormatError } from '../util/errors.ts';
import { patternRules } from './patterns.ts';

export interface AddedToken {
  id: number;
  content: string;
  single_word: boolean;
  lstrip: boolean;
  rstrip: boolean;
  normalized: boolean;
  special: boolean;
}

export interface BpeModel {
  type: 'BPE';
  unk_token: string | null;
  fuse_unk: boolean;
  byte_fallback: boolean;
  ignore_merges: boolean;
  /** Piece -> id. */
  vocab: Map<string, number>;
  merges: (readonly [string, string])[];
}

/** A step that turns pieces into text. */
export type DecoderStep = 'ByteFallback' | 'Fuse';

/** A tokenizer.json, checked: every id is unique, every token of the template exists. */
export interface TokenizerFile {
  added_tokens: AddedToken[];
  /** Regular expression of the pre-tokenizer; null: the text is one piece. */
  pattern: string | null;
  /** Special tokens before and behind one text. */
  template: { prefix: string[]; suffix: string[] };
  decoder: DecoderStep[] | null;
  model: BpeModel;
}

/** Ids from here on are taken for damage, not for a vocabulary. */
const ID_LIMIT = 1 << 22;

const id = z
  .int()
  .min(0)
  .max(ID_LIMIT - 1);
const addedToken = z.object({
  id,
  content: z.string().min(1),
  single_word: z.boolean(),
  lstrip: z.boolean(),
  rstrip: z.boolean(),
  normalized: z.boolean(),
  special: z.boolean(),
});
const split = z.object({
  type: z.literal('Split'),
  pattern: z.object({ Regex: z.string() }),
  behavior: z.literal('Isolated'),
  invert: z.literal(false),
});
const templatePiece = z.union([
  z.object({ SpecialToken: z.object({ id: z.string() }) }),
  z.object({ Sequence: z.object({ id: z.literal('A') }) }),
]);
const hasOneText = (pieces: object[]) => pieces.filter((piece) => 'Sequence' in piece).length === 1;
const template = z.object({
  type: z.literal('TemplateProcessing'),
  single: z.array(templatePiece).refine(hasOneText, 'expected special tokens around one Sequence A'),
});
const decoderStep = z.object({ type: z.enum(['ByteFallback', 'Fuse']) });
const file = z.object({
  added_tokens: z.array(addedToken).default([]),
  normalizer: z
    .union([z.null(), z.object({ type: z.literal('Sequence'), normalizers: z.array(z.any()).length(0) })])
    .optional(),
  pre_tokenizer: z
    .union([z.null(), split, z.object({ type: z.literal('Sequence'), pretokenizers: z.array(split).length(1) })])
    .optional(),
  post_processor: z.union([z.null(), template]).optional(),
  decoder: z
    .union([z.null(), decoderStep, z.object({ type: z.literal('Sequence'), decoders: z.array(decoderStep) })])
    .optional(),
  model: z.object({
    type: z.literal('BPE'),
    dropout: z.union([z.null(), z.literal(0)]).optional(),
    unk_token: z.string().nullish(),
    continuing_subword_prefix: z.union([z.null(), z.literal('')]).optional(),
    end_of_word_suffix: z.union([z.null(), z.literal('')]).optional(),
    fuse_unk: z.boolean().default(false),
    byte_fallback: z.boolean().default(false),
    ignore_merges: z.boolean().default(false),
    // Too many entries for a schema: checked by hand below.
    vocab: z.custom<Record<string, unknown>>(
      (v) => typeof v === 'object' && v !== null && !Array.isArray(v),
      'expected an object',
    ),
    merges: z.custom<unknown[]>(Array.isArray, 'expected an array'),
  }),
});

/** What a part of the file says about itself, for the error that refuses it. */
function describe(document: unknown, path: PropertyKey[]): string {
  let value = document;
  for (const key of path) value = (value as Record<PropertyKey, unknown> | null | undefined)?.[key];
  const { type, pretokenizers, decoders, normalizers } = (value ?? {}) as Record<string, unknown>;
  const parts = pretokenizers ?? decoders ?? normalizers;
  if (Array.isArray(parts)) return `a sequence of ${parts.map((part) => String(part?.type)).join(', ')}`;
  if (typeof type === 'string') return `type "${type}"`;
  const text = JSON.stringify(value) ?? 'nothing';
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
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
  const parsed = file.safeParse(document);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    throw new FormatError(
      `${path}: ${issue.path.join('.') || 'file'} is ${describe(document, issue.path)}, which is not supported or not valid: ${issue.message}`,
    );
  }
  const { added_tokens, pre_tokenizer, post_processor, decoder, model } = parsed.data;
  const vocab = readVocabulary(model.vocab, added_tokens, path);
  const found: TokenizerFile = {
    added_tokens,
    pattern: pre_tokenizer
      ? ('pattern' in pre_tokenizer ? pre_tokenizer : pre_tokenizer.pretokenizers[0]!).pattern.Regex
      : null,
    template: readTemplate(post_processor?.single ?? []),
    decoder: decoder ? ('decoders' in decoder ? decoder.decoders : [decoder]).map((step) => step.type) : null,
    model: {
      type: 'BPE',
      unk_token: model.unk_token ?? null,
      fuse_unk: model.fuse_unk,
      byte_fallback: model.byte_fallback,
      ignore_merges: model.ignore_merges,
      vocab,
      merges: readMerges(model.merges, path),
    },
  };
  checkReferences(found, path);
  return found;
}

function readVocabulary(entries: Record<string, unknown>, added: AddedToken[], path: string): Map<string, number> {
  const vocab = new Map<string, number>();
  const owners: (string | undefined)[] = []; // by id
  for (const piece of Object.keys(entries)) {
    const value = entries[piece];
    if (typeof value !== 'number' || !Number.isInteger(value) || value < 0 || value >= ID_LIMIT)
      throw new FormatError(
        `${path}: model.vocab gives ${JSON.stringify(piece)} the id ${JSON.stringify(value)}, expected an integer from 0 to ${ID_LIMIT - 1}`,
      );
    if (owners[value] !== undefined)
      throw new FormatError(
        `${path}: model.vocab gives ${JSON.stringify(owners[value])} and ${JSON.stringify(piece)} the same id ${value}`,
      );
    owners[value] = piece;
    vocab.set(piece, value);
  }
  checkAddedTokens(added, vocab, owners, path);
  return vocab;
}

/** Merges are pairs, or in older files "left right". */
function readMerges(merges: unknown[], path: string): (readonly [string, string])[] {
  for (let i = 0; i < merges.length; i++) {
    const merge = merges[i];
    if (typeof merge === 'string') merges[i] = merge.split(' ');
    const parts = merges[i];
    if (!Array.isArray(parts) || parts.length !== 2 || typeof parts[0] !== 'string' || typeof parts[1] !== 'string')
      throw new FormatError(
        `${path}: model.merges[${i}] is ${JSON.stringify(merge)?.slice(0, 80)}, expected two pieces`,
      );
  }
  return merges as [string, string][];
}

function checkAddedTokens(
  tokens: AddedToken[],
  vocab: Map<string, number>,
  owners: (string | undefined)[],
  path: string,
): void {
  for (const token of tokens) {
    const owner = owners[token.id];
    const known = vocab.get(token.content);
    if ((owner !== undefined && owner !== token.content) || (known !== undefined && known !== token.id))
      throw new FormatError(
        `${path}: added token ${JSON.stringify(token.content)} has the id ${token.id}, but ${
          known !== undefined ? `model.vocab gives it ${known}` : `that is the id of ${JSON.stringify(owner)}`
        }`,
      );
    if (token.single_word)
      throw new FormatError(
        `${path}: added token ${JSON.stringify(token.content)} has single_word, which is not supported`,
      );
    owners[token.id] = token.content;
  }
}

function readTemplate(pieces: z.infer<typeof templatePiece>[]): { prefix: string[]; suffix: string[] } {
  if (pieces.length === 0) return { prefix: [], suffix: [] };
  const text = pieces.findIndex((piece) => 'Sequence' in piece);
  const tokens = (part: typeof pieces) =>
    part.flatMap((piece) => ('SpecialToken' in piece ? [piece.SpecialToken.id] : []));
  return { prefix: tokens(pieces.slice(0, text)), suffix: tokens(pieces.slice(text + 1)) };
}

function checkReferences(
  { pattern, template: { prefix, suffix }, model, added_tokens }: TokenizerFile,
  path: string,
): void {
  if (pattern !== null) {
    const rules = patternRules(pattern);
    if (typeof rules === 'string')
      throw new FormatError(`${path}: pre_tokenizer splits by ${JSON.stringify(pattern)}: ${rules} is not supported`);
  }
  const known = (token: string) => model.vocab.has(token) || added_tokens.some(({ content }) => content === token);
  for (const token of [...prefix, ...suffix])
    if (!known(token))
      throw new FormatError(`${path}: post_processor uses ${JSON.stringify(token)}, which is not a token`);
  if (model.unk_token !== null && !model.vocab.has(model.unk_token))
    throw new FormatError(`${path}: model.unk_token ${JSON.stringify(model.unk_token)} is not in model.vocab`);
}

const lines = (entries: string[]) => entries.map((entry) => `      ${entry}`).join(',\n');

/** The text of a tokenizer.json, one piece and one merge per line. */
export function formatTokenizerJson(tokenizer: TokenizerFile): string {
  const { added_tokens, pattern, template: around, decoder, model } = tokenizer;
  const ids = new Map([...model.vocab, ...added_tokens.map((token) => [token.content, token.id] as const)]);
  const special = (token: string, type_id: number) => ({ SpecialToken: { id: token, type_id } });
  const wrapped = (name: 'A' | 'B', type_id: number) => [
    ...around.prefix.map((token) => special(token, type_id)),
    { Sequence: { id: name, type_id } },
    ...around.suffix.map((token) => special(token, type_id)),
  ];
  const used = [...new Set([...around.prefix, ...around.suffix])];
  const head = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens,
    normalizer: null,
    pre_tokenizer:
      pattern === null
        ? null
        : {
            type: 'Sequence',
            pretokenizers: [{ type: 'Split', pattern: { Regex: pattern }, behavior: 'Isolated', invert: false }],
          },
    post_processor:
      used.length === 0
        ? null
        : {
            type: 'TemplateProcessing',
            single: wrapped('A', 0),
            pair: [...wrapped('A', 0), ...wrapped('B', 0)],
            special_tokens: Object.fromEntries(
              used.map((token) => [token, { id: token, ids: [ids.get(token)], tokens: [token] }]),
            ),
          },
    decoder: decoder && { type: 'Sequence', decoders: decoder.map((type) => ({ type })) },
  };
  const vocab = [...model.vocab].sort((a, b) => a[1] - b[1]);
  return `${JSON.stringify(head, null, 2).slice(0, -2)},
  "model": {
    "type": "BPE",
    "dropout": null,
    "unk_token": ${JSON.stringify(model.unk_token)},
    "continuing_subword_prefix": null,
    "end_of_word_suffix": null,
    "fuse_unk": ${model.fuse_unk},
    "byte_fallback": ${model.byte_fallback},
    "ignore_merges": ${model.ignore_merges},
    "vocab": {
${lines(vocab.map(([piece, i]) => `${JSON.stringify(piece)}: ${i}`))}
    },
    "merges": [
${lines(model.merges.map((merge) => JSON.stringify(merge)))}
    ]
  }
}
`;
}
