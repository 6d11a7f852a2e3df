/**
 * Trains a BPE or Unigram vocabulary from text, natively. The result does not depend on threads or on how the text is
 * cut into calls. The merges are those of Hugging Face's BpeTrainer (bpe_trainer.h); Unigram is sentencepiece's
 * (unigram_trainer.h).
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { BackendError, UsageError } from '../util/errors.ts';
import { checked, tokenizerLibrary } from './native.ts';
import { charsmap } from './normalization.ts';
import { patternRules } from './patterns.ts';
import { type Layout, layoutOf } from './recipes.ts';
import { formatSentencePieceModel, type SentencePieceModel } from './sentencepiece_model.ts';
import { TextFeed } from './text_feed.ts';
import { Tokenizer } from './tokenizer.ts';
import { bpeFiles, type LearnedBpe, type TrainedFiles, unigramFiles } from './trained_files.ts';
import { type TrainingSettings, type TrainTokenizerOptions, trainingSettings } from './training_options.ts';

/** How far training is. */
export interface TokenizerProgress {
  stage: 'reading' | 'learning';
  documents: number;
  /** Bytes of text read. */
  bytes: number;
  /** Pieces so far: BPE grows to vocab_size, Unigram shrinks to it. */
  pieces: number;
  vocab_size: number;
  /** Share of the learning done, 0 to 1. */
  share: number;
}

/** What training gives. */
export interface TrainedTokenizer {
  tokenizer: Tokenizer;
  /** The same vocabulary as a spiece.model, where sentencepiece can do it. */
  sentencepiece: SentencePieceModel | undefined;
  /** What the user should know, such as a vocabulary size that was not reached. */
  notes: string[];
  statistics: { documents: number; bytes: number; distinctWords: number; distinctCharacters: number; alphabet: number };
}

/** Merges between two reports of progress. */
const MERGES_PER_CALL = 256;
/** CutOption of word_counter.h. */
const CUT_SPACES = 1;
const CUT_SCRIPTS = 2;
const CUT_NUMBERS = 4;
const CUT_DIGITS = 8;
const BYTE_LEVEL = 16;

/** Rounds end at this many times the vocabulary; the likeliest pieces of them are taken. */
const TARGET = 1.1;

/** Writes the tokenizer's folder, with a spiece.model where there is one. */
export function saveTrainedTokenizer(directory: string, { tokenizer, sentencepiece }: TrainedTokenizer): void {
  tokenizer.save(directory);
  if (sentencepiece) writeFileSync(join(directory, 'spiece.model'), formatSentencePieceModel(sentencepiece));
}

const call = (result: number) => checked('trainTokenizer', result);

/** What a training is made of while it runs. */
interface Training {
  handle: number;
  settings: TrainingSettings;
  layout: Layout;
  /** Pieces that can be learned. */
  room: number;
  learning: (pieces: number, share: number) => void;
}

/**
 * Trains a tokenizer on documents, strings or UTF-8.
 * @throws UsageError for options out of range or no text
 */
export async function trainTokenizer(
  options: TrainTokenizerOptions,
  texts: AsyncIterable<string | Uint8Array> | Iterable<string | Uint8Array>,
  onProgress: (progress: TokenizerProgress) => void = () => {},
): Promise<TrainedTokenizer> {
  const settings = trainingSettings(options);
  const { vocab_size } = settings;
  const layout = layoutOf(settings);
  const reserved = layout.first.length + layout.last.length;
  if (reserved >= vocab_size)
    throw new UsageError(
      `trainTokenizer: vocab_size is ${vocab_size}, expected more than the ${reserved} fixed tokens (${settings.sentinels} sentinels${settings.byte_fallback ? ', 256 bytes' : ''})`,
    );
  const handle = openTraining(settings, layout);
  try {
    const progress: TokenizerProgress = {
      stage: 'reading',
      documents: 0,
      bytes: 0,
      pieces: reserved,
      vocab_size,
      share: 0,
    };
    const library = tokenizerLibrary();
    const feed = new TextFeed((bytes, offsets) => {
      call(library.feed(handle, bytes, offsets, offsets.length - 1, settings.threads));
      progress.bytes += bytes.length;
      onProgress({ ...progress });
    });
    for await (const text of texts) {
      feed.add(text);
      progress.documents++;
    }
    feed.flush();
    const { documents, bytes } = progress;
    if (bytes === 0) throw new UsageError(`trainTokenizer: no text in ${documents} documents, expected a corpus`);
    const learning = (pieces: number, share: number) =>
      onProgress({ ...progress, stage: 'learning', pieces: pieces + reserved, share });
    const training = { handle, settings, layout, room: vocab_size - reserved, learning };
    const { files, found } = await (settings.model === 'bpe' ? learnBpe(training) : learnUnigram(training));
    const { tokenizer, sentencepiece, notes } = files;
    return {
      tokenizer: new Tokenizer(tokenizer, layout.names, 'trainTokenizer'),
      sentencepiece,
      notes,
      statistics: { documents, bytes, distinctWords: found[0]!, distinctCharacters: found[1]!, alphabet: found[2]! },
    };
  } finally {
    tokenizerLibrary().freeTraining(handle);
  }
}

function openTraining(settings: TrainingSettings, { symbols }: Layout): number {
  const rules = settings.pattern === null ? new Int32Array() : patternRules(settings.pattern);
  if (typeof rules === 'string')
    throw new UsageError(`trainTokenizer: pattern is ${JSON.stringify(settings.pattern)}: ${rules} is not supported`);
  const cuts =
    (settings.split_by_whitespace ? CUT_SPACES : 0) |
    (settings.split_by_unicode_script ? CUT_SCRIPTS : 0) |
    (settings.split_by_number ? CUT_NUMBERS : 0) |
    (settings.split_digits ? CUT_DIGITS : 0) |
    (settings.byte_level ? BYTE_LEVEL : 0);
  const handle = tokenizerLibrary().createTraining(rules, rules.length / 2, cuts);
  if (handle === 0) throw new BackendError('trainTokenizer: out of memory');
  const map = charsmap(settings.normalization);
  if (map.length > 0) call(tokenizerLibrary().normalization(handle, map, map.length));
  for (const symbol of symbols) {
    const bytes = Buffer.from(symbol);
    call(tokenizerLibrary().symbol(handle, bytes, bytes.length));
  }
  return handle;
}

interface Learned {
  files: TrainedFiles;
  /** Distinct words, distinct characters, characters in the alphabet. */
  found: Float64Array;
}

async function learnBpe({ handle, settings, layout, room, learning }: Training): Promise<Learned> {
  const found = new Float64Array(3);
  const { character_coverage, limit_alphabet, min_frequency, max_token_length } = settings;
  const library = tokenizerLibrary();
  call(library.prepareBpe(handle, character_coverage, limit_alphabet, room, min_frequency, max_token_length, found));
  const known = new Uint32Array(1);
  for (;;) {
    const learned = call(tokenizerLibrary().learnBpe(handle, MERGES_PER_CALL, known));
    learning(known[0]!, known[0]! / room);
    if (learned < MERGES_PER_CALL) break;
    await new Promise(setImmediate);
  }
  return { files: bpeFiles(settings, layout, learnedMerges(handle, found[2]!)), found };
}

function learnedMerges(handle: number, alphabetSize: number): LearnedBpe {
  const codePoints = new Uint32Array(alphabetSize);
  const pairs = new Int32Array(2 * tokenizerLibrary().resultBpe(handle, null, null));
  tokenizerLibrary().resultBpe(handle, codePoints, pairs);
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

async function learnUnigram({ handle, settings, layout, room, learning }: Training): Promise<Learned> {
  const found = new Float64Array(3);
  const target = Math.trunc(settings.vocab_size * TARGET);
  const { limit_alphabet, max_token_length, seed_size, sub_iterations } = settings;
  const sizes = Uint32Array.of(limit_alphabet, room, target, max_token_length - 1, seed_size, sub_iterations);
  const { character_coverage, min_frequency, shrinking_factor, threads } = settings;
  const library = tokenizerLibrary();
  call(library.prepareUnigram(handle, character_coverage, min_frequency, shrinking_factor, sizes, threads, found));
  const alphabet = found[2]!;
  if (alphabet === 0) throw new UsageError('trainTokenizer: no text besides spaces and symbols, expected a corpus');
  if (alphabet > room)
    throw new UsageError(
      `trainTokenizer: vocab_size leaves room for ${room} pieces, expected at least the ${alphabet} characters of the alphabet; raise vocab_size or lower character_coverage`,
    );
  const pieces = new Uint32Array(1);
  let most = 0;
  for (let more = 1; more !== 0; ) {
    await new Promise(setImmediate);
    more = call(tokenizerLibrary().roundUnigram(handle, pieces));
    most = Math.max(most, pieces[0]!);
    learning(pieces[0]!, most <= target ? 1 : Math.log(most / pieces[0]!) / Math.log(most / target));
  }
  const characters = new Uint32Array(tokenizerLibrary().resultUnigram(handle, null, null, null));
  const lengths = new Uint32Array(pieces[0]!);
  const scores = new Float64Array(pieces[0]!);
  tokenizerLibrary().resultUnigram(handle, characters, lengths, scores);
  let at = 0;
  const learned = Array.from(lengths, (length, i): [string, number] => {
    const piece = String.fromCodePoint(...characters.subarray(at, (at += length)));
    return [piece, Math.fround(scores[i]!)];
  });
  return { files: unigramFiles(settings, layout, learned), found };
}
