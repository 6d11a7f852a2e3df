/** Tokenizers of a spiece.model: sentencepiece's ids, with T5's extra ids and manners around them. */
import { once } from '../util/once.ts';
import type { Engine, Piece } from './engine.ts';
import { NativeEncoder } from './native_encoder.ts';
import { NormalizedText } from './pipeline/normalized_text.ts';
import { endOfSequence } from './pipeline/post_processors.ts';
import { openSentencePiece, type SentencePieceManners } from './pipeline/sentencepiece.ts';
import { spaceMark, spNormalizer } from './pipeline/sp_normalizer.ts';
import type { AddedToken } from './schema.ts';
import { columnsOf, ModelType, type PieceColumns, PieceType, type SentencePieceModel } from './sentencepiece_model.ts';
import { type SpecialTokens, specialParts, specialTokens, type TokenizerConfig } from './tokenizer_config.ts';
import { indexed, type TokenizerFile, withGetters } from './tokenizer_json.ts';

/** T5's tokens for masked spans where no configuration says how many. */
const T5_EXTRA_IDS = 100;

export interface SpieceTokenizer {
  file: TokenizerFile;
  special: SpecialTokens;
  engine: Engine;
}

/** `path` is for messages; `config` undefined: there is none. @throws FormatError for a model that contradicts itself */
export function spieceTokenizer(
  model: SentencePieceModel,
  config: TokenizerConfig | undefined,
  path: string,
): SpieceTokenizer {
  const pieces = columnsOf(model);
  const unknown = pieces.pieceOf(pieces.types.indexOf(PieceType.UNKNOWN))!;
  const added = addedTokens(pieces, config ?? {});
  const known = (token: string) => pieces.idOf(token) !== undefined || added.some(({ content }) => content === token);
  const special = specialTokens(config ?? {}, known);
  const eos = special.eos_token;
  // A model alone is sentencepiece's, where an unknown piece has a surface of its own when decoded.
  const tokens = config ? added : added.filter(({ content }) => content !== unknown);
  const file: TokenizerFile = {
    truncation: null,
    padding: null,
    added_tokens: tokens,
    normalizer: null,
    pre_tokenizer: null,
    post_processor:
      eos === undefined ? null : endOfSequence(eos, pieces.idOf(eos) ?? added.find((t) => t.content === eos)!.id),
    decoder: null,
    model: modelOf(model, unknown, pieces),
  };
  const manners = { legacy: config?.legacy ?? true, unknown };
  return { file, special, engine: spieceEngine(model, added, manners, path) };
}

/** What the tokenizer knows of the vocabulary; the engine encodes by the model itself. */
function modelOf(model: SentencePieceModel, unknown: string, pieces: PieceColumns): TokenizerFile['model'] {
  const { byte_fallback } = model.trainer_spec;
  const scored = once(() => model.pieces.map(({ piece, score }): [string, number] => [piece, score]));
  const map = once(() => pieces.toMap());
  const found: TokenizerFile['model'] =
    model.trainer_spec.model_type !== ModelType.BPE
      ? withGetters({ type: 'Unigram' as const, unk_id: pieces.idOf(unknown)!, byte_fallback }, { vocab: scored })
      : withGetters(
          {
            type: 'BPE' as const,
            unk_token: unknown,
            continuing_subword_prefix: '',
            end_of_word_suffix: '',
            fuse_unk: true,
            byte_fallback,
            ignore_merges: false,
            merges: [],
          },
          { vocab: map },
        );
  indexed(found, pieces);
  return found;
}

/** Special tokens, T5's extra ids behind the pieces, and what the configuration adds. */
function addedTokens(pieces: PieceColumns, config: TokenizerConfig): AddedToken[] {
  const found = new Map<string, AddedToken>();
  const plain = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  const add = (content: string, id: number, flags = plain) => {
    if (!found.has(content)) found.set(content, { id, content, ...flags });
  };
  for (const [id, token] of Object.entries(config.added_tokens_decoder ?? {}))
    found.set(token.content, { ...token, id: Number(id) });
  const { types, count } = pieces;
  for (let id = 0; id < count; id++)
    if (types[id] === PieceType.CONTROL || types[id] === PieceType.UNKNOWN) add(pieces.pieceOf(id)!, id);
  const t5 = /^(UM|M)?T5/.test(config.tokenizer_class ?? 'T5');
  const extra = config.extra_ids ?? (t5 && pieces.idOf('<extra_id_0>') === undefined ? T5_EXTRA_IDS : 0);
  const stripping = { ...plain, lstrip: true, rstrip: true };
  for (let i = 0; i < extra; i++)
    add(`<extra_id_${i}>`, pieces.idOf(`<extra_id_${i}>`) ?? count + extra - 1 - i, stripping);
  let next = Math.max(count + extra, ...[...found.values()].map(({ id }) => id + 1));
  const named = [
    ...specialParts.map((part) => config[part]),
    ...(config.additional_special_tokens ?? []),
    ...(config.extra_special_tokens ?? []),
  ];
  for (const token of named)
    if (typeof token === 'string' && !found.has(token)) add(token, pieces.idOf(token) ?? next++);
  return [...found.values()].sort((a, b) => a.id - b.id);
}

function spieceEngine(
  model: SentencePieceModel,
  added: readonly AddedToken[],
  manners: SentencePieceManners,
  path: string,
): Engine {
  const types = once(() => new Map(model.pieces.map(({ piece, type }) => [piece, type])));
  const { denormalizer_spec } = model;
  const rules = denormalizer_spec.precompiled_charsmap.length > 0;
  const denormalizer = rules && spNormalizer({ ...model, normalizer_spec: denormalizer_spec, pieces: [] }, path);
  const denormalize = (text: string) => (denormalizer ? denormalizer(NormalizedText.of(text), true).text : text);
  return {
    pipeline: once(() => openSentencePiece(model, added, manners, path)),
    native: (prefix, suffix) =>
      manners.legacy ? NativeEncoder.openSentencePiece(model, added, prefix, suffix, path) : undefined,
    decode(pieces, { spaces_between_special_tokens: spaced }) {
      const plain = (run: readonly Piece[]) => decode(model, types(), run);
      return denormalize(spaced ? decodeSpaced(pieces, plain, (piece) => types().has(piece)) : plain(pieces));
    },
  };
}

/** sentencepiece's Decode, with special tokens as they are spelled. */
function decode(
  { normalizer_spec, trainer_spec }: SentencePieceModel,
  types: ReadonlyMap<string, PieceType>,
  pieces: readonly Piece[],
): string {
  const { add_dummy_prefix, remove_extra_whitespaces } = normalizer_spec;
  const strips = add_dummy_prefix || remove_extra_whitespaces;
  let text = '';
  let atStart = true; // a mark here is the space in front of the text
  let taken = false;
  let bytes: number[] = [];
  const flush = () => {
    if (bytes.length > 0) text += utf8Text(bytes);
    bytes = [];
  };
  for (const { piece, special } of pieces) {
    const type = types.get(piece);
    if (!special && type === PieceType.BYTE) {
      bytes.push(Number.parseInt(piece.slice(3, 5), 16));
      continue;
    }
    flush();
    if (taken || text !== '') atStart = false;
    taken = false;
    if (special) text += piece;
    else if (type === PieceType.UNKNOWN) text += trainer_spec.unk_surface;
    else if (type !== PieceType.CONTROL) {
      let rest = piece;
      if (atStart && strips && piece.startsWith(spaceMark)) {
        rest = piece.slice(1);
        taken = !remove_extra_whitespaces;
      }
      text += rest.replaceAll(spaceMark, ' ');
    }
  }
  flush();
  return text;
}

/**
 * transformers' slow tokenizer for T5: spaces around tokens that are no pieces, such as sentinels, and one in front of
 * text that a special piece ends.
 */
function decodeSpaced(
  pieces: readonly Piece[],
  plain: (pieces: readonly Piece[]) => string,
  isPiece: (piece: string) => boolean,
): string {
  const parts: string[] = [];
  let part = '';
  let run: Piece[] = [];
  let afterSpecial = false;
  const end = () => {
    parts.push((part + plain(run)).trim());
    part = '';
    run = [];
    afterSpecial = false;
  };
  for (const token of pieces) {
    if (!isPiece(token.piece)) {
      end();
      parts.push(token.piece);
    } else if (token.special) {
      part += (afterSpecial ? '' : ' ') + plain(run) + token.piece;
      run = [];
      afterSpecial = true;
    } else {
      run.push(token);
      afterSpecial = false;
    }
  }
  end();
  return parts.filter((text) => text !== '').join(' ');
}

const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Characters of bytes; a byte that starts none is U+FFFD. */
function utf8Text(bytes: readonly number[]): string {
  let text = '';
  for (let at = 0; at < bytes.length; ) {
    const first = bytes[at]!;
    const length = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    try {
      text += strict.decode(Uint8Array.from(bytes.slice(at, at + length)));
      at += length;
    } catch {
      text += '\ufffd';
      at++;
    }
  }
  return text;
}
