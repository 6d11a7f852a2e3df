/**
 * What training has found, as a tokenizer.json and, where sentencepiece can do the same, as a spiece.model.
 */
import { charsmap } from './normalization.ts';
import type { Layout } from './recipes.ts';
import type { AddedToken, Decoder, Normalizer, PreTokenizer } from './schema.ts';
import {
  defaultNormalizerSpec,
  defaultTrainerSpec,
  ModelType,
  PieceType,
  type SentencePiece,
  type SentencePieceModel,
} from './sentencepiece_model.ts';
import type { TokenizerFile } from './tokenizer_json.ts';
import type { TrainingSettings } from './training_options.ts';

/** A trained vocabulary in the form of both kinds of files. */
export interface TrainedFiles {
  tokenizer: TokenizerFile;
  sentencepiece: SentencePieceModel | undefined;
  notes: string[];
}

export interface LearnedBpe {
  alphabet: string[];
  merges: [string, string][];
}

const metaspace = { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always', split: true } as const;

/** Pieces with their log probabilities, likeliest first. */
export function unigramFiles(settings: TrainingSettings, layout: Layout, learned: [string, number][]): TrainedFiles {
  const reserved = new Set([...layout.first, ...layout.last]);
  const pieces = learned.filter(([piece]) => !reserved.has(piece));
  const fixed = (tokens: string[]) => tokens.map((token): [string, number] => [token, 0]);
  const vocab = [...fixed(layout.first), ...pieces, ...fixed(layout.last)];
  const missing = settings.vocab_size - vocab.length;
  return {
    tokenizer: {
      ...commonParts(settings, layout, new Map(vocab.map(([piece], id) => [piece, id]))),
      model: {
        type: 'Unigram',
        unk_id: layout.first.indexOf(layout.names.unk_token),
        byte_fallback: settings.byte_fallback,
        vocab,
      },
    },
    sentencepiece: sentencePieceModel(settings, layout, pieces),
    notes:
      missing > 0
        ? [
            `vocabulary of ${vocab.length} pieces instead of ${settings.vocab_size}: the largest that this text gives, whose substrings of fewer than ${settings.max_token_length} characters occur ${Math.max(settings.min_frequency, 1)} times and help to spell it`,
          ]
        : [],
  };
}

export function bpeFiles(settings: TrainingSettings, layout: Layout, learned: LearnedBpe): TrainedFiles {
  const reserved = new Set([...layout.first, ...layout.last]);
  const alphabet = learned.alphabet.filter((character) => !reserved.has(character));
  const joined = new Set(learned.merges.map(([left, right]) => left + right));
  for (const piece of reserved) joined.delete(piece);
  const spaced = settings.pattern === null;
  // sentencepiece puts characters behind what they make and scores all by their rank, Hugging Face before.
  const pieces = spaced ? [...joined, ...alphabet] : [...alphabet, ...joined];
  const vocab = new Map([...layout.first, ...pieces, ...layout.last].map((piece, id) => [piece, id]));
  const missing = settings.vocab_size - vocab.size;
  const ranked = pieces.map((piece, rank): [string, number] => [piece, rank === 0 ? 0 : -rank]);
  return {
    tokenizer: {
      ...commonParts(settings, layout, vocab),
      model: {
        type: 'BPE',
        unk_token: settings.byte_level ? null : layout.names.unk_token,
        continuing_subword_prefix: '',
        end_of_word_suffix: '',
        fuse_unk: spaced,
        byte_fallback: settings.byte_fallback,
        ignore_merges: false,
        vocab,
        merges: spaced ? allMerges([...joined], vocab) : learned.merges,
      },
    },
    sentencepiece: spaced ? sentencePieceModel(settings, layout, ranked) : undefined,
    notes:
      missing > 0
        ? [
            `vocabulary of ${vocab.size} pieces instead of ${settings.vocab_size}: the text has no more pairs that occur ${Math.max(settings.min_frequency, 1)} times and make pieces shorter than ${settings.max_token_length} characters`,
          ]
        : [],
  };
}

/** Every way to make the pieces of two others: sentencepiece joins what makes a known piece, however it was learned. */
function allMerges(pieces: string[], vocab: ReadonlyMap<string, number>): [string, string][] {
  return pieces.flatMap((piece) => {
    const ways: { left: string; right: string; order: number[] }[] = [];
    let left = '';
    for (const character of piece) {
      left += character;
      const right = piece.slice(left.length);
      const ids = [vocab.get(left), vocab.get(right)];
      if (ids[0] !== undefined && ids[1] !== undefined) ways.push({ left, right, order: ids as number[] });
    }
    ways.sort((a, b) => a.order[0]! - b.order[0]! || a.order[1]! - b.order[1]!);
    return ways.map((way): [string, string] => [way.left, way.right]);
  });
}

function commonParts(
  settings: TrainingSettings,
  layout: Layout,
  ids: ReadonlyMap<string, number>,
): Omit<TokenizerFile, 'model'> {
  const { eos_token } = layout.names;
  const special = (type_id: number) => ({ SpecialToken: { id: eos_token, type_id } });
  const text = (id: 'A' | 'B', type_id: number) => ({ Sequence: { id, type_id } });
  const added = (content: string, isSpecial: boolean): AddedToken => ({
    id: ids.get(content)!,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: isSpecial,
  });
  return {
    truncation: null,
    padding: null,
    added_tokens: [
      ...[...layout.special].map((token) => added(token, true)),
      ...layout.symbols.map((token) => added(token, false)),
    ].sort((a, b) => a.id - b.id),
    normalizer: normalizerOf(settings),
    pre_tokenizer: preTokenizerOf(settings),
    post_processor: {
      type: 'TemplateProcessing',
      single: [text('A', 0), special(0)],
      pair: [text('A', 0), special(0), text('B', 1), special(1)],
      special_tokens: { [eos_token]: { id: eos_token, ids: [ids.get(eos_token)!], tokens: [eos_token] } },
    },
    decoder: decoderOf(settings),
  };
}

function normalizerOf({ pattern, normalization }: TrainingSettings): Normalizer | null {
  const map = Buffer.from(charsmap(normalization)).toString('base64');
  const rules: Normalizer[] = map === '' ? [] : [{ type: 'Precompiled', precompiled_charsmap: map }];
  if (pattern !== null) return rules[0] ?? null;
  const normalizers: Normalizer[] = [
    ...rules,
    { type: 'Strip', strip_left: false, strip_right: true },
    { type: 'Replace', pattern: { Regex: ' {2,}' }, content: '▁' },
  ];
  return { type: 'Sequence', normalizers };
}

function preTokenizerOf({ pattern, byte_level, split_by_whitespace }: TrainingSettings): PreTokenizer {
  if (pattern === null) return { ...metaspace, split: split_by_whitespace };
  const split = { type: 'Split', pattern: { Regex: pattern }, behavior: 'Isolated', invert: false } as const;
  const bytes = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false } as const;
  return { type: 'Sequence', pretokenizers: byte_level ? [split, bytes] : [split] };
}

function decoderOf({ pattern, byte_level, byte_fallback }: TrainingSettings): Decoder {
  if (byte_level) return { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true };
  if (pattern !== null) return { type: 'Sequence', decoders: [{ type: 'ByteFallback' }, { type: 'Fuse' }] };
  return byte_fallback ? { type: 'Sequence', decoders: [{ type: 'ByteFallback' }, metaspace] } : metaspace;
}

/** The vocabulary as sentencepiece's file, without the tokens behind the pieces: T5 adds its sentinels when it loads. */
function sentencePieceModel(
  settings: TrainingSettings,
  layout: Layout,
  learned: [string, number][],
): SentencePieceModel {
  const { names, special, symbols, bytes, first } = layout;
  const typeOf = (token: string) => {
    if (token === names.unk_token) return PieceType.UNKNOWN;
    if (bytes.has(token)) return PieceType.BYTE;
    return special.has(token) ? PieceType.CONTROL : PieceType.USER_DEFINED;
  };
  const pieces: SentencePiece[] = [
    ...first.map((piece) => ({ piece, score: 0, type: typeOf(piece) })),
    ...learned.map(([piece, score]) => ({ piece, score, type: PieceType.NORMAL })),
  ];
  const id = (token: string | undefined) => (token === undefined ? -1 : first.indexOf(token));
  const own = Object.values(names);
  return {
    pieces,
    trainer_spec: {
      ...defaultTrainerSpec(),
      model_type: settings.model === 'unigram' ? ModelType.UNIGRAM : ModelType.BPE,
      vocab_size: pieces.length,
      character_coverage: settings.character_coverage,
      seed_sentencepiece_size: settings.seed_size,
      shrinking_factor: settings.shrinking_factor,
      num_sub_iterations: settings.sub_iterations,
      max_sentencepiece_length: settings.max_token_length - 1,
      split_by_unicode_script: settings.split_by_unicode_script,
      split_by_number: settings.split_by_number,
      split_by_whitespace: settings.split_by_whitespace,
      split_digits: settings.split_digits,
      byte_fallback: settings.byte_fallback,
      control_symbols: first.filter((token) => special.has(token) && !own.includes(token)),
      user_defined_symbols: symbols,
      unk_id: id(names.unk_token),
      bos_id: id(names.bos_token),
      eos_id: id(names.eos_token),
      pad_id: id(names.pad_token),
    },
    normalizer_spec: {
      ...defaultNormalizerSpec(),
      name: settings.normalization,
      precompiled_charsmap: charsmap(settings.normalization),
    },
    denormalizer_spec: defaultNormalizerSpec(),
  };
}
