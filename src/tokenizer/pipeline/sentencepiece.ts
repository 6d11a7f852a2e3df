/**
 * A spiece.model at work in TypeScript: the ids, pieces and offsets of sentencepiece. What sentencepiece.cpp does
 * natively, ids only. Source: google/sentencepiece, normalizer.cc, unigram_model.cc, bpe_model.cc, sentencepiece_processor.cc.
 */
import { FormatError } from '../../util/errors.ts';
import type { AddedToken } from '../schema.ts';
import { columnsOf, ModelType, type PieceColumns, PieceType, type SentencePieceModel } from '../sentencepiece_model.ts';
import { tokenFinder } from './added_tokens.ts';
import { mergeTokens } from './bpe.ts';
import { append, type Encoding, emptyEncoding } from './encoding.ts';
import type { Model, Token } from './model.ts';
import { NormalizedText } from './normalized_text.ts';
import type { Pipeline } from './pipeline.ts';
import { spaceMark, spNormalizer, userSymbols } from './sp_normalizer.ts';
import { byteTokens, UNKNOWN_PENALTY, unigramModel } from './unigram.ts';

const FLT_MAX = 3.4028234663852886e38;
/** What a user-defined piece gets for every byte after its first. */
const USER_SCORE = 0.1;

/** Scores as sentencepiece 0.2.2 counts them: user-defined pieces are better than all others. */
export function pieceScores(columns: PieceColumns): { scores: Float64Array; unknownScore: number } {
  const { types } = columns;
  const scores = columns.scores.slice();
  let least = FLT_MAX;
  for (let id = 0; id < scores.length; id++)
    if (types[id] === PieceType.NORMAL && scores[id]! < least) least = scores[id]!;
  for (let id = types.indexOf(PieceType.USER_DEFINED); id >= 0; id = types.indexOf(PieceType.USER_DEFINED, id + 1))
    scores[id] = Math.fround(USER_SCORE * (Buffer.byteLength(columns.pieceOf(id)!) - 1));
  return { scores, unknownScore: Math.fround(least - UNKNOWN_PENALTY) };
}

/** Id of each byte's piece, or undefined without byte fallback. @throws FormatError if one is missing */
export function byteIdsOf(model: SentencePieceModel, path: string): number[] | undefined {
  if (!model.trainer_spec.byte_fallback) return undefined;
  const columns = columnsOf(model);
  const { types } = columns;
  const found: number[] = [];
  for (let id = types.indexOf(PieceType.BYTE); id >= 0; id = types.indexOf(PieceType.BYTE, id + 1))
    found[Number.parseInt(columns.pieceOf(id)!.slice(3, 5), 16)] = id;
  for (let byte = 0; byte < 256; byte++)
    if (found[byte] === undefined)
      throw new FormatError(`${path}: byte_fallback without a piece for byte ${byte}, expected 256 of them`);
  return found;
}

const isText = (type: PieceType) => type === PieceType.NORMAL || type === PieceType.USER_DEFINED;

/** How T5 treats text behind a special token, and what stands between the tokenizer and sentencepiece. */
export interface SentencePieceManners {
  /** Every text between added tokens gets a space in front; false: only the first does (transformers' legacy=False). */
  legacy: boolean;
  /** The unknown token as it is spelled. */
  unknown: string;
}

/** `path` is for messages. @throws FormatError for a model that is not supported or contradicts itself */
export function openSentencePiece(
  model: SentencePieceModel,
  added: readonly AddedToken[],
  manners: SentencePieceManners,
  path: string,
): Pipeline {
  const normalize = spNormalizer(model, path);
  const core = openModel(model, path);
  const find = tokenFinder(added);
  const plain = (part: NormalizedText, prefix: boolean): [NormalizedText, Token[]] => {
    const normalized = normalize(part, prefix);
    return [normalized, normalized.text === '' ? [] : core.tokenize(normalized.text)];
  };
  /** A text that starts with a space keeps it: it is encoded behind the unknown token, which is then taken away. */
  const guarded = (part: NormalizedText): [NormalizedText, Token[]] => {
    if (!/^[ \u2581]/.test(part.text)) return plain(part, false);
    const skip = plain(NormalizedText.of(manners.unknown), false)[1].length;
    const before = new NormalizedText(
      manners.unknown + part.text,
      joined(manners.unknown.length, part.from, part.starts),
      joined(manners.unknown.length, part.from, part.ends),
      part.from,
    );
    const [normalized, tokens] = plain(before, false);
    return [normalized, tokens.slice(skip)];
  };

  return {
    encode(text, skipSpecial) {
      const encoding = emptyEncoding();
      const whole = NormalizedText.of(text);
      const given = manners.legacy || text === '' ? whole : marked(whole);
      let word = -1;
      for (const { start, end, token } of find(given.text, skipSpecial)) {
        const part = given.slice(start, end);
        if (token) {
          const at = part.text.indexOf(token.content); // behind the spaces that it strips
          append(encoding, token.id, token.content, part.original(at, at + token.content.length), ++word);
          continue;
        }
        const [normalized, tokens] = manners.legacy ? plain(part, true) : guarded(part);
        for (const [i, piece] of tokens.entries()) {
          if (i === 0 || normalized.text.startsWith(spaceMark, piece.start)) word++;
          append(encoding, piece.id, piece.token, normalized.original(piece.start, piece.end), word);
        }
      }
      if (
        !manners.legacy &&
        encoding.tokens[0] === spaceMark &&
        added.some(({ content }) => content === encoding.tokens[1])
      )
        return dropFirst(encoding);
      return encoding;
    },
  };
}

const joined = (count: number, value: number, rest: Int32Array) => {
  const found = new Int32Array(count + rest.length).fill(value, 0, count);
  found.set(rest, count);
  return found;
};

/** transformers' legacy=False: spaces instead of marks, and one mark in front. */
const marked = ({ text, starts, ends, from }: NormalizedText) =>
  new NormalizedText(spaceMark + text.replaceAll(spaceMark, ' '), joined(1, from, starts), joined(1, from, ends), from);

function dropFirst(encoding: Encoding): Encoding {
  const { overflowing, ...columns } = encoding;
  for (const column of Object.values(columns)) column.shift();
  return { ...columns, overflowing };
}

function openModel(model: SentencePieceModel, path: string): Model {
  const { model_type } = model.trainer_spec;
  const unknown = model.pieces.findIndex(({ type }) => type === PieceType.UNKNOWN);
  const bytes = byteIdsOf(model, path);
  if (model_type === ModelType.UNIGRAM) {
    const { scores, unknownScore } = pieceScores(columnsOf(model));
    const pieces = model.pieces.map(({ piece, type }, id) =>
      isText(type) ? ([piece, scores[id]!] as const) : undefined,
    );
    return unigramModel({ pieces, unknown, unknownScore, bytes, arithmetic: 'float32' });
  }
  if (model_type === ModelType.BPE) return bpe(model, unknown, bytes);
  throw new FormatError(
    `${path}: model_type is ${model_type}, expected ${ModelType.UNIGRAM} (Unigram) or ${ModelType.BPE} (BPE)`,
  );
}

/** Merges the neighbours whose join is the piece of greatest score; user-defined symbols stay whole. */
function bpe({ pieces }: SentencePieceModel, unknown: number, bytes: readonly number[] | undefined): Model {
  const ids = new Map(pieces.map(({ piece }, id) => [piece, id]));
  const mergeable = new Map<string, number>();
  pieces.forEach(({ piece, type }, id) => {
    if (isText(type) || type === PieceType.UNUSED) mergeable.set(piece, id);
  });
  const matchUser = userSymbols(pieces);

  function symbols(text: string): Token[] {
    const found: Token[] = [];
    for (let start = 0; start < text.length; ) {
      const user = matchUser(text, start);
      const end = start + (user || (text.codePointAt(start)! > 0xffff ? 2 : 1));
      found.push({ id: user ? FROZEN : 0, token: '', start, end });
      start = end;
    }
    return found;
  }

  return {
    tokenize(text) {
      const halves = new Map<string, [string, string]>(); // of unused pieces, which are only steps to longer ones
      const tokens = symbols(text);
      const merged = mergeTokens(tokens, (left, right) => {
        const [a, b] = [tokens[left]!, tokens[right]!];
        if (a.id === FROZEN || b.id === FROZEN) return undefined;
        const id = mergeable.get(text.slice(a.start, b.end));
        if (id === undefined) return undefined;
        if (pieces[id]!.type === PieceType.UNUSED)
          halves.set(pieces[id]!.piece, [text.slice(a.start, a.end), text.slice(b.start, b.end)]);
        return { rank: -pieces[id]!.score, id };
      });
      const found: Token[] = [];
      const write = (token: string, start: number) => {
        const id = ids.get(token) ?? unknown;
        const parts = pieces[id]!.type === PieceType.UNUSED ? halves.get(token) : undefined;
        if (parts) {
          write(parts[0], start);
          write(parts[1], start + parts[0].length);
        } else found.push({ id, token, start, end: start + token.length });
      };
      for (const { start, end } of merged) write(text.slice(start, end), start);
      return bytes
        ? found.flatMap((token) => (token.id === unknown ? byteTokens(token, bytes) : [token]))
        : fuseUnknown(found, unknown);
    },
  };
}
/** Instead of an id: a symbol that does not merge. */
const FROZEN = -1;

function fuseUnknown(tokens: Token[], unknown: number): Token[] {
  const found: Token[] = [];
  for (const token of tokens) {
    const last = found.at(-1);
    if (token.id === unknown && last?.id === unknown) {
      last.token += token.token;
      last.end = token.end;
    } else found.push(token);
  }
  return found;
}
