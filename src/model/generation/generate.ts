/** generate: checks a call, brings its settings together and hands it to the way of decoding that they ask for. */

import { PADDING } from '../../util/batch.ts';
import { UsageError } from '../../util/errors.ts';
import type { T5Config } from '../config.ts';
import { type MatrixInput, matrix, type Source } from '../inputs.ts';
import type { Seq2Seq } from '../seq2seq.ts';
import { type Assistant, assisted, checkAssistant } from './assisted.ts';
import { beamSearch } from './beams.ts';
import { Draw } from './draw.ts';
import {
  checkGenerationConfig,
  checkTogether,
  type GenerationConfig,
  refuseUnknown,
  settingsOf,
  withLengths,
} from './options.ts';
import type { LogitsProcessor, LogitsProcessorList } from './processors.ts';
import { type PrefixAllowedTokens, processorsOf } from './processors_of.ts';
import { canRecord, recordedGreedy } from './recorded.ts';
import { canRecordBeams, recordedBeams } from './recorded_beams.ts';
import { type GenerateOutput, type Run, rowsPerSource } from './run.ts';
import { sample } from './sample.ts';
import { drawsPlainly } from './sampling.ts';
import { type Decoder, type StoppingCriteria, type StoppingCriteriaList, stoppingOf } from './stopping.ts';
import type { Streamer } from './streamer.ts';

/** What a call may say besides the settings of GenerationConfig. */
export interface CallOptions {
  /** Settings that come before the model's own; those given directly come before them. */
  generation_config?: GenerationConfig;
  /** Tokens that answers begin with, [B,P]; the start token is put in front where it is missing. */
  decoder_input_ids?: MatrixInput;
  /** Further changes of the scores, after the library's own and before those of sampling. */
  logits_processor?: LogitsProcessorList | readonly LogitsProcessor[];
  stopping_criteria?: StoppingCriteriaList | readonly StoppingCriteria[];
  /** The tokens that may come next, given the number of the source and its answer so far. */
  prefix_allowed_tokens_fn?: PrefixAllowedTokens;
  /** Gets tokens as soon as they are known; not with beams. */
  streamer?: Streamer;
  /** A small model that drafts tokens for this one to check: greedy decoding of one source, with the same result. */
  assistant_model?: Assistant;
  /** What stop_strings are compared with. */
  tokenizer?: Decoder;
  /**
   * Same seed, same draws; another one for every call when left out. One for each source: what is drawn for it does not
   * depend on its row.
   */
  seed?: number | readonly number[];
  /** Ends the call: its promise rejects with the signal's reason. */
  signal?: AbortSignal;
}

export type GenerateOptions = GenerationConfig & CallOptions;

const callOptions = [
  'generation_config',
  'decoder_input_ids',
  'logits_processor',
  'stopping_criteria',
  'prefix_allowed_tokens_fn',
  'streamer',
  'assistant_model',
  'tokenizer',
  'seed',
  'signal',
] as const satisfies (keyof CallOptions)[];

/** @param own the model's generation_config @throws UsageError for options that are unknown, impossible or contradictory */
export async function generate(
  p: Seq2Seq,
  source: Source,
  c: T5Config,
  options: GenerateOptions,
  own: GenerationConfig,
): Promise<number[][] | GenerateOutput> {
  const run = prepare(p, source, c, options, own);
  run.signal?.throwIfAborted();
  const { assistant_model } = options;
  if (assistant_model) checkAssistant(run, assistant_model);
  const searches = run.settings.num_beams > 1;
  const recorded = searches ? canRecordBeams(run) && recordedBeams : canRecord(run) && recordedGreedy;
  const decode = recorded || (searches ? beamSearch : sample);
  const output = await (assistant_model ? assisted(run, assistant_model) : decode(run));
  return run.settings.return_dict_in_generate ? output : output.sequences;
}

function prepare(p: Seq2Seq, source: Source, c: T5Config, options: GenerateOptions, own: GenerationConfig): Run {
  refuseUnknown(options, callOptions);
  const base = { ...own, ...options.generation_config };
  const given = settingsOf(
    checkGenerationConfig(options, 'generate'),
    checkGenerationConfig(base, 'generation_config'),
    c,
  );
  checkTogether(given, c);
  const prompts = promptsOf(options.decoder_input_ids, source.rows, given.decoder_start_token_id, c);
  const settings = withLengths(given, prompts[0]!.length);
  if (settings.num_beams > 1 && options.streamer)
    throw new UsageError('generate: a streamer needs num_beams 1, since beams may still change their first tokens');
  const processors = {
    prompt: prompts[0]!.length,
    sources: sourceTokens(source),
    rowsPerSource: rowsPerSource(settings),
    custom: options.logits_processor,
    prefixAllowed: options.prefix_allowed_tokens_fn,
  };
  return {
    p,
    c,
    pass: { config: c, checkpointing: false },
    source,
    settings,
    prompts,
    process: processorsOf(settings, processors),
    drawsPlainly: drawsPlainly(settings, processorsOf({ ...settings, do_sample: false }, processors)),
    ended: stoppingOf(settings, { custom: options.stopping_criteria, tokenizer: options.tokenizer }),
    endsPlainly: !options.stopping_criteria && settings.stop_strings === undefined && settings.max_time === undefined,
    draw: drawOf(options.seed, source.rows, settings.num_beams > 1 ? 1 : settings.num_return_sequences),
    streamer: options.streamer,
    signal: options.signal,
  };
}

/** @param rows that are drawn for one source @throws UsageError */
function drawOf(seed: CallOptions['seed'], sources: number, rows: number): Draw {
  if (typeof seed !== 'object')
    return new Draw([seed ?? Math.floor(Math.random() * 2 ** 32)], Number.POSITIVE_INFINITY);
  if (seed.length !== sources)
    throw new UsageError(
      `generate: seed has ${seed.length} numbers, expected one or one for each of ${sources} sources`,
    );
  return new Draw(seed, rows);
}

/** What each source's answers begin with. @throws UsageError */
function promptsOf(input: MatrixInput | undefined, rows: number, start: number, c: T5Config): number[][] {
  if (input === undefined || input === null) return Array.from({ length: rows }, () => [start]);
  const ids = matrix(input, 'decoder_input_ids', { from: 0, to: c.vocab_size - 1 });
  if (ids.rows !== rows)
    throw new UsageError(`decoder_input_ids: ${ids.rows} rows, input_ids has ${rows}, expected as many`);
  const prompts = Array.from({ length: rows }, (_, b) => [
    ...ids.values.subarray(b * ids.columns, (b + 1) * ids.columns),
  ]);
  return prompts.every(([first]) => first !== start) ? prompts.map((prompt) => [start, ...prompt]) : prompts;
}

const sourceTokens = ({ rows, columns, values, segments }: Source): number[][] =>
  Array.from({ length: rows }, (_, b) =>
    [...values.subarray(b * columns, (b + 1) * columns)].filter((_, i) => segments?.[b * columns + i] !== PADDING),
  );
