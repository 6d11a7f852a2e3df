import { expandSources } from '../data/glob.ts';
import { readDocuments } from '../data/read.ts';
import { normalizations } from '../tokenizer/normalization.ts';
import { ENGLISH_PATTERN, FRENCH_PATTERN } from '../tokenizer/patterns.ts';
import { recipes } from '../tokenizer/recipes.ts';
import { saveTrainedTokenizer, trainTokenizer } from '../tokenizer/train.ts';
import { type TrainTokenizerOptions, trainTokenizerOptions } from '../tokenizer/training_options.ts';
import { makeFolder } from '../util/new_file.ts';
import { choice, defineCommand, integer, many, number, optional, path, text, toggle } from './command.ts';
import { ProgressBar } from './progress_bar.ts';

const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB`;

/** Documents of all sources; `onShare` is told the share of the stored bytes read, undefined where nobody knows. */
async function* documentsOf(
  sources: readonly string[],
  options: { field: string; skip_bad: boolean },
  onShare: (share: number | undefined) => void,
): AsyncGenerator<string> {
  const files = expandSources(sources);
  const total = files.some(({ path: file }) => file === '-') ? 0 : files.reduce((sum, file) => sum + file.bytes, 0);
  let read = 0;
  let bad = 0;
  const onBytes = (bytes: number) => {
    read += bytes;
    onShare(total > 0 ? read / total : undefined);
  };
  for (const { path: file } of files)
    for await (const record of readDocuments(file, options, onBytes)) {
      if ('text' in record) yield record.text;
      else bad++;
    }
  if (bad > 0) console.error(`note: ${bad} unusable lines left out`);
}

const byRecipe = (doc: string, defaults: string) => `${doc} (default ${defaults})`;

export const tokenizerTrain = defineCommand({
  name: 'tokenizer train',
  summary:
    "Learn a BPE or Unigram vocabulary from text by FAT5's or T5's recipe; writes tokenizer.json and spiece.model.",
  positionals: {
    usage: 'SOURCE…',
    doc: 'text files (each is one text) and JSON Lines files (plain, .gz, .zst), folders, globs, - for the lines of standard input',
  },
  flags: {
    output: path('folder to write'),
    recipe: choice(
      "fat5: FAT5's BPE with its special tokens; t5: T5's Unigram, as sentencepiece trains it",
      recipes,
      'fat5',
    ),
    model: optional(choice(byRecipe('kind of vocabulary', "the recipe's"), ['bpe', 'unigram'])),
    'vocab-size': optional(integer(byRecipe('pieces in all, special tokens included', '32768; t5: 32100'))),
    sentinels: optional(integer(byRecipe('tokens <extra_id_0> … that mark masked spans', '256; t5: 100'))),
    'special-tokens': many(text('further special tokens')),
    'user-symbols': many(text('texts that are one piece wherever they stand')),
    normalization: optional(
      choice(byRecipe("sentencepiece's rules for text before it is cut", 'identity; t5: nmt_nfkc'), normalizations),
    ),
    pattern: optional(text('BPE: regular expression that cuts text into words, or "french", "english", "none"')),
    'split-digits': toggle('every digit is a piece of its own'),
    'byte-fallback': toggle('unknown characters become bytes (fat5: always)'),
    'byte-level': toggle('BPE: words are spelled in bytes instead of characters'),
    'min-frequency': integer('what occurs less often is no candidate', 2),
    'max-token-length': optional(integer(byRecipe('pieces stay below this many characters', '20; unigram: 17'))),
    'character-coverage': optional(
      number(byRecipe('share of the text that the alphabet covers; the rest is unknown', '0.9999; unigram: 0.9995')),
    ),
    'seed-size': integer('unigram: pieces that training starts with', 1_000_000),
    'shrinking-factor': number('unigram: share of the pieces that a round keeps', 0.75),
    'sub-iterations': integer('unigram: estimates of the probabilities in a round', 2),
    threads: optional(integer('processors to use (default all); the result does not depend on it')),
    field: text('JSON Lines: the field with the text', 'text'),
    'skip-bad': toggle('leave unusable lines out instead of stopping'),
  },
  async run(flags, sources) {
    makeFolder(flags.output); // before an hour's work
    const bar = new ProgressBar('tokenizer');
    let readShare: number | undefined;
    const trained = await trainTokenizer(
      trainingOptions(flags),
      documentsOf(sources, { field: flags.field, skip_bad: flags['skip-bad'] }, (share) => {
        readShare = share;
      }),
      ({ stage, bytes, pieces, vocab_size, share }) =>
        bar.update(
          stage === 'reading' ? readShare : share,
          stage === 'reading' ? `read ${megabytes(bytes)}` : `${pieces} pieces for ${vocab_size}`,
        ),
    );
    bar.done();
    for (const note of trained.notes) console.error(`note: ${note}`);
    saveTrainedTokenizer(flags.output, trained);
    const { documents, bytes, distinctWords } = trained.statistics;
    console.log(
      `${flags.output}: ${trained.tokenizer.vocab_size} pieces from ${documents} documents, ${megabytes(bytes)}, ${distinctWords} distinct words`,
    );
  },
});

const patterns: Record<string, string | null> = { french: FRENCH_PATTERN, english: ENGLISH_PATTERN, none: null };

/** Flags are the options of trainTokenizer with hyphens; those not given are left to the recipe. */
function trainingOptions(flags: Record<string, unknown>): TrainTokenizerOptions {
  const options: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(flags)) {
    const option = name.replaceAll('-', '_');
    const known = option in trainTokenizerOptions.shape;
    if (known && value !== undefined && value !== false) options[option] = value;
  }
  const { pattern } = flags;
  if (typeof pattern === 'string' && pattern in patterns) options.pattern = patterns[pattern];
  return options;
}
