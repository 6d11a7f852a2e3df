/**
 * A tokenizer.json at work in TypeScript: added tokens, normalizer, pre-tokenizer, model, with offsets. It does all that
 * the format can say; native code writes the same ids, faster, for what is common (native_plan.ts).
 */
import { FormatError } from '../../util/errors.ts';
import {
  checkMerges,
  scoresOf,
  type TokenizerFile,
  type TokenizerModel,
  type UnigramModel,
  vocabularyOf,
} from '../tokenizer_json.ts';
import { tokenFinder } from './added_tokens.ts';
import { bpeModel } from './bpe.ts';
import { append, type Encoding, emptyEncoding } from './encoding.ts';
import { cached, type Model } from './model.ts';
import { NormalizedText } from './normalized_text.ts';
import { compileNormalizer } from './normalizers.ts';
import { compilePreTokenizer } from './pre_tokenizers.ts';
import { byteName, UNKNOWN_PENALTY, type UnigramOptions, unigramModel } from './unigram.ts';
import { wordLevelModel, wordPieceModel } from './words.ts';

/** Turns one text into tokens. */
export interface Pipeline {
  /** skipSpecial: special tokens spelled out in the text are ordinary text. */
  encode(text: string, skipSpecial: boolean): Encoding;
}

/** `path` is for messages. @throws FormatError for what the file's parts cannot mean */
export function openPipeline(file: TokenizerFile, path: string): Pipeline {
  const normalize = compileNormalizer(file.normalizer, `${path}: normalizer`);
  const preTokenize = compilePreTokenizer(file.pre_tokenizer, `${path}: pre_tokenizer`);
  const model = cached(openModel(file.model, path));
  const [before, after] = [false, true].map((normalized) =>
    tokenFinder(
      file.added_tokens.filter((token) => token.normalized === normalized),
      ({ content }) => (normalized ? normalize(NormalizedText.of(content)).text : content),
    ),
  ) as [ReturnType<typeof tokenFinder>, ReturnType<typeof tokenFinder>];

  return {
    encode(text, skipSpecial) {
      const encoding = emptyEncoding();
      let word = 0;
      const cut = (part: NormalizedText, find: typeof before, plain: (part: NormalizedText) => void) => {
        for (const { start, end, token } of find(part.text, skipSpecial)) {
          if (token) {
            append(encoding, token.id, part.text.slice(start, end), part.original(start, end), word);
            word++;
          } else plain(part.slice(start, end));
        }
      };
      const tokenize = (part: NormalizedText) => {
        for (const piece of preTokenize(part)) {
          if (piece.text === '') continue;
          for (const { id, token, start, end } of model.tokenize(piece.text))
            append(encoding, id, token, piece.original(start, end), word);
          word++;
        }
      };
      cut(NormalizedText.of(text), before, (part) => cut(normalize(part), after, tokenize));
      return encoding;
    },
  };
}

function openModel(model: TokenizerModel, path: string): Model {
  switch (model.type) {
    case 'BPE':
      checkMerges(model, path);
      return bpeModel(model);
    case 'WordPiece':
      return wordPieceModel(model, path);
    case 'WordLevel':
      return wordLevelModel(model, path);
    case 'Unigram':
      return unigramModel({
        ...unigramOptions(model, path),
        pieces: model.vocab.map((entry) => (entry[0] === '' ? undefined : entry)),
      });
  }
}

/** What a Unigram vocabulary of tokenizer.json means, but for its pieces. @throws FormatError without an unknown piece */
export function unigramOptions(model: UnigramModel, path: string): Omit<UnigramOptions, 'pieces'> {
  const { unk_id, byte_fallback } = model;
  if (unk_id === null)
    throw new FormatError(`${path}: model.unk_id is null, expected the piece for unknown characters`);
  let bytes: (number | undefined)[] | undefined;
  if (byte_fallback) {
    const vocabulary = vocabularyOf(model);
    bytes = Array.from({ length: 256 }, (_, byte) => vocabulary.idOf(byteName(byte)));
  }
  let least = Number.POSITIVE_INFINITY;
  for (const score of scoresOf(model)) if (score < least) least = score;
  return {
    unknown: unk_id,
    unknownScore: least - UNKNOWN_PENALTY,
    bytes: bytes?.every((id) => id !== undefined) ? (bytes as number[]) : undefined,
    arithmetic: 'float64',
  };
}
