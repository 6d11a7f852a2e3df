/**
 * Trains a BPE vocabulary from text, natively. The merges are those of Hugging Face's BpeTrainer (bpe_trainer.h) and do
 * not depend on threads or on how the text is cut into calls.
 */
import { availableParallelism } from 'node:os';
import { z } from 'zod';
import { BackendError, UsageError } from '../util/errors.ts';
import { checked, tokenizerLibrary } from './native.ts';
import { FRENCH_PATTERN, patternRules } from './patterns.ts';
import { endOfSequence } from './pipeline/post_processors.ts';
import { type Layout, layoutOf, recipes } from './recipes.ts';
import type { AddedToken } from './schema.ts';
import { TextFeed } from './text_feed.ts';
import { Tokenizer } from './tokenizer.ts';
import type { TokenizerFile } from './tokenizer_json.ts';

/** What can be chosen; the defaults are FAT5's recipe. */
export const trainTokenizerOptions = z.strictObject({
  /** Pieces in all, special tokens included. */
  vocab_size: z
    .int()
    .min(1)
    .max(1 << 20)
    .default(32768),
  recipe: z.enum(recipes).default('fat5'),
  /** Tokens <extra_id_0> … for masked spans. */
  sentinels: z.int().min(0).max(4096).default(256),
  /** Further special tokens. */
  special_tokens: z.array(z.string().min(1)).default([]),
  /** Regular expression that cuts text into words: FRENCH_PATTERN, ENGLISH_PATTERN or another of their alternatives. */
  pattern: z.string().default(FRENCH_PATTERN),
  /** Unknown characters become the tokens of their UTF-8 bytes. */
  byte_fallback: z.boolean().default(true),
  /** Pairs that occur less often are not merged. */
  min_frequency: z.int().min(0).default(2),
  /** No piece of this many characters or more is made from others. */
  max_token_length: z.int().min(2).default(20),
  /** Share of the text that the alphabet covers, most frequent characters first. */
  character_coverage: z.number().gt(0).max(1).default(0.999999),
  /** Characters in the alphabet at most. */
  limit_alphabet: z.int().min(1).max(0x110000).default(0x110000),
  threads: z.int().min(1).max(1024).default(availableParallelism()),
});
export type TrainTokenizerOptions = z.input<typeof trainTokenizerOptions>;
type Settings = z.output<typeof trainTokenizerOptions>;

export interface TokenizerProgress {
  stage: 'reading' | 'merging';
  documents: number;
  /** Bytes of text read. */
  bytes: number;
  /** Pieces so far, and wanted. */
  pieces: number;
  vocab_size: number;
}

export interface TrainedTokenizer {
  tokenizer: Tokenizer;
  /** What the user should know, such as a vocabulary size that was not reached. */
  notes: string[];
  statistics: { documents: number; bytes: number; distinctWords: number; distinctCharacters: number; alphabet: number };
}

/** Merges between two reports of progress. */
const MERGES_PER_CALL = 256;

/**
 * Trains a tokenizer on documents, strings or UTF-8.
 * @throws UsageError for options out of range or no text
 */
export async function trainTokenizer(
  options: TrainTokenizerOptions,
  texts: AsyncIterable<string | Uint8Array> | Iterable<string | Uint8Array>,
  onProgress: (progress: TokenizerProgress) => void = () => {},
): Promise<TrainedTokenizer> {
  const settings = checkOptions(options);
  const layout = layoutOf(settings);
  const reserved = layout.first.length + layout.last.length;
  if (reserved >= settings.vocab_size)
    throw new UsageError(
      `trainTokenizer: vocab_size is ${settings.vocab_size}, expected more than the ${reserved} fixed tokens (${settings.sentinels} sentinels${settings.byte_fallback ? ', 256 bytes' : ''})`,
    );
  const rules = patternRules(settings.pattern);
  if (typeof rules === 'string')
    throw new UsageError(`trainTokenizer: pattern is ${JSON.stringify(settings.pattern)}: ${rules} is not supported`);
  const library = tokenizerLibrary();
  const handle = library.createTrainer(rules, rules.length / 2);
  if (handle === 0) throw new BackendError('trainTokenizer: out of memory');
  try {
    const progress = { stage: 'reading', documents: 0, bytes: 0, pieces: reserved, vocab_size: settings.vocab_size };
    const report = (stage: TokenizerProgress['stage']) => onProgress({ ...progress, stage });
    const feed = new TextFeed((bytes, offsets) => {
      checked('trainTokenizer', library.feed(handle, bytes, offsets, offsets.length - 1, settings.threads));
      progress.bytes += bytes.length;
      report('reading');
    });
    for await (const text of texts) {
      feed.add(text);
      progress.documents++;
    }
    feed.flush();
    if (progress.bytes === 0)
      throw new UsageError(`trainTokenizer: ${progress.documents} documents without text, expected a corpus`);

    const found = new Float64Array(3);
    const room = settings.vocab_size - reserved;
    const { character_coverage, limit_alphabet, min_frequency, max_token_length } = settings;
    checked(
      'trainTokenizer',
      library.prepare(handle, character_coverage, limit_alphabet, room, min_frequency, max_token_length, found),
    );
    const known = new Uint32Array(1);
    for (;;) {
      const learned = checked('trainTokenizer', library.learn(handle, MERGES_PER_CALL, known));
      progress.pieces = reserved + known[0]!;
      report('merging');
      if (learned < MERGES_PER_CALL) break;
      await new Promise(setImmediate);
    }
    const [distinctWords, distinctCharacters, alphabet] = found as unknown as [number, number, number];
    const { documents, bytes } = progress;
    const file = tokenizerFile(settings, layout, learnedPieces(handle, alphabet));
    const tokenizer = new Tokenizer(file, layout.names, 'trainTokenizer');
    const { vocab_size } = tokenizer;
    const missing = settings.vocab_size - vocab_size;
    const notes =
      missing > 0
        ? [
            `vocabulary of ${vocab_size} pieces instead of ${settings.vocab_size}: the text has no more pairs that occur ${Math.max(min_frequency, 1)} times and make pieces shorter than ${max_token_length} characters`,
          ]
        : [];
    return {
      tokenizer,
      notes,
      statistics: { documents, bytes, distinctWords, distinctCharacters, alphabet },
    };
  } finally {
    library.freeTrainer(handle);
  }
}

function checkOptions(options: TrainTokenizerOptions): Settings {
  const parsed = trainTokenizerOptions.safeParse(options);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  throw new UsageError(`trainTokenizer: ${issue.path.join('.') || 'options'}: ${issue.message}`);
}

interface Learned {
  alphabet: string[];
  merges: [string, string][];
}

function learnedPieces(handle: number, alphabetSize: number): Learned {
  const library = tokenizerLibrary();
  const codePoints = new Uint32Array(alphabetSize);
  const pairs = new Int32Array(2 * library.result(handle, null, null));
  library.result(handle, codePoints, pairs);
  const alphabet = Array.from(codePoints, (c) => String.fromCodePoint(c));
  // Pieces are numbered as they first appear; a merge may make a piece that another merge has made before.
  const pieces = [...alphabet];
  const seen = new Set(pieces);
  const merges: [string, string][] = [];
  for (let i = 0; i < pairs.length; i += 2) {
    const left = pieces[pairs[i]!]!;
    const right = pieces[pairs[i + 1]!]!;
    merges.push([left, right]);
    if (!seen.has(left + right)) {
      seen.add(left + right);
      pieces.push(left + right);
    }
  }
  return { alphabet, merges };
}

function tokenizerFile(settings: Settings, layout: Layout, { alphabet, merges }: Learned): TokenizerFile {
  const vocab = new Map<string, number>();
  const add = (piece: string) => {
    if (!vocab.has(piece)) vocab.set(piece, vocab.size);
  };
  layout.first.forEach(add);
  alphabet.forEach(add);
  for (const [left, right] of merges) add(left + right);
  layout.last.forEach(add);
  const added_tokens: AddedToken[] = [...layout.special]
    .map((content) => ({
      id: vocab.get(content)!,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    }))
    .sort((a, b) => a.id - b.id);
  return {
    truncation: null,
    padding: null,
    added_tokens,
    normalizer: null,
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [{ type: 'Split', pattern: { Regex: settings.pattern }, behavior: 'Isolated', invert: false }],
    },
    post_processor: endOfSequence('</s>', vocab.get('</s>')!),
    decoder: { type: 'Sequence', decoders: [{ type: 'ByteFallback' }, { type: 'Fuse' }] },
    model: {
      type: 'BPE',
      unk_token: '<unk>',
      continuing_subword_prefix: '',
      end_of_word_suffix: '',
      fuse_unk: false,
      byte_fallback: settings.byte_fallback,
      ignore_merges: false,
      vocab,
      merges,
    },
  };
}
