/** What can be chosen when a tokenizer is trained, and what the recipes choose. */
import { availableParallelism } from 'node:os';
import { z } from 'zod';
import { UsageError } from '../util/errors.ts';
import { normalizations } from './normalization.ts';
import { FRENCH_PATTERN } from './patterns.ts';
import { recipes } from './recipes.ts';

export const trainTokenizerOptions = z.strictObject({
  /** FAT5's: BPE of 32,768 pieces with 256 sentinels and byte fallback; T5's: Unigram of 32,000 pieces and 100 sentinels. */
  recipe: z.enum(recipes).default('fat5'),
  model: z.enum(['bpe', 'unigram']).optional(),
  /** Pieces in all, special tokens included. */
  vocab_size: z
    .int()
    .min(1)
    .max(1 << 20)
    .optional(),
  /** Tokens <extra_id_0> … for masked spans. */
  sentinels: z.int().min(0).max(4096).optional(),
  /** Further special tokens: they never arise from ordinary text. */
  special_tokens: z.array(z.string().min(1)).default([]),
  /** Texts that are one piece wherever they stand. */
  user_symbols: z.array(z.string().min(1)).default([]),
  /**
   * BPE: a regular expression that cuts text into words, FRENCH_PATTERN, ENGLISH_PATTERN or another of their
   * alternatives; null, and Unigram always: as sentencepiece does it, spaces written as ▁.
   */
  pattern: z.string().nullable().optional(),
  /** Every digit is a piece of its own. */
  split_digits: z.boolean().default(false),
  /** Where spaces are ▁: a piece has ▁ at its start only. */
  split_by_whitespace: z.boolean().default(true),
  /** Where spaces are ▁: a piece stays within one writing system. */
  split_by_unicode_script: z.boolean().default(true),
  /** Where spaces are ▁: a piece with letters has no digits. */
  split_by_number: z.boolean().default(true),
  /** Unknown characters become the tokens of their UTF-8 bytes. */
  byte_fallback: z.boolean().optional(),
  /** BPE: words are spelled in bytes, not in characters, so that none is unknown. */
  byte_level: z.boolean().default(false),
  /** Rules for text before it is cut. */
  normalization: z.enum(normalizations).optional(),
  /** BPE: pairs that occur less often are not merged; Unigram: substrings that occur less often are no seeds. */
  min_frequency: z.int().min(0).default(2),
  /** No piece of this many characters or more is made from others. */
  max_token_length: z.int().min(2).max(1024).optional(),
  /** Share of the text that the alphabet covers, most frequent characters first. */
  character_coverage: z.number().gt(0).max(1).optional(),
  /** Characters in the alphabet at most. */
  limit_alphabet: z.int().min(1).max(0x110000).default(0x110000),
  /** Unigram: pieces that training starts with. */
  seed_size: z
    .int()
    .min(1)
    .max(1 << 26)
    .default(1_000_000),
  /** Unigram: share of the pieces that a round keeps. */
  shrinking_factor: z.number().gt(0).lt(1).default(0.75),
  /** Unigram: estimates of the probabilities in a round. */
  sub_iterations: z.int().min(1).max(100).default(2),
  threads: z.int().min(1).max(1024).default(availableParallelism()),
});
/** What `trainTokenizer` takes; recipes decide what is left out. */
export type TrainTokenizerOptions = z.input<typeof trainTokenizerOptions>;

/** What recipes decide. */
const byRecipe = {
  fat5: { model: 'bpe', vocab_size: 32768, sentinels: 256, byte_fallback: true },
  t5: { model: 'unigram', vocab_size: 32100, sentinels: 100, byte_fallback: false },
} as const;

/** And what follows from the model. */
const byModel = {
  bpe: { max_token_length: 20, character_coverage: 0.9999 },
  unigram: { max_token_length: 17, character_coverage: 0.9995 },
} as const;

/** Options with every choice made. */
type Choices = z.output<typeof trainTokenizerOptions>;
export type TrainingSettings = { [K in keyof Choices]-?: Exclude<Choices[K], undefined> };

/** @throws UsageError for options out of range or at odds with each other */
export function trainingSettings(options: TrainTokenizerOptions): TrainingSettings {
  const parsed = trainTokenizerOptions.safeParse(options);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    throw new UsageError(`trainTokenizer: ${issue.path.join('.') || 'options'}: ${issue.message}`);
  }
  const given = Object.fromEntries(Object.entries(parsed.data).filter(([, value]) => value !== undefined));
  const recipe = byRecipe[parsed.data.recipe];
  const model = parsed.data.model ?? recipe.model;
  const fat5Bpe = model === 'bpe' && parsed.data.recipe === 'fat5';
  const settings = {
    ...recipe,
    ...byModel[model],
    pattern: fat5Bpe || (parsed.data.byte_level && model === 'bpe') ? FRENCH_PATTERN : null,
    normalization: fat5Bpe || parsed.data.byte_level ? 'identity' : 'nmt_nfkc',
    ...given,
  } as TrainingSettings;
  const { pattern, byte_level, split_digits } = settings;
  const wrong = (what: string) => new UsageError(`trainTokenizer: ${what}`);
  if (model === 'unigram' && pattern !== null) throw wrong('pattern is for BPE, model is unigram');
  if (byte_level && pattern === null) throw wrong('byte_level is for BPE with a pattern');
  if (byte_level) settings.byte_fallback = false; // there is nothing to fall back from
  if (split_digits && pattern !== null) settings.pattern = pattern.replace(/\\p\{N\}(\+|\{1,\d\})/g, '\\p{N}');
  return settings;
}
