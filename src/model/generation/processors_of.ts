/** The processors that settings ask for, in the library's order. */
import { UsageError } from '../../util/errors.ts';
import type { ResultTensor } from '../result.ts';
import type { Settings } from './options.ts';
import {
  exponentialDecay,
  force,
  type LogitsProcessor,
  noRepeatNGram,
  noRepeatOf,
  type RowProcessor,
  removeInvalid,
  renormalize,
  repetitionPenalty,
  type Scores,
  scoresOf,
  sequenceBias,
  suppress,
} from './processors.ts';
import { epsilonCutoff, etaCutoff, minP, temperature, topKOnly, topP, typicalP } from './warpers.ts';

/** The tokens that may follow `tokens`, those of an answer to source `batch_id` so far. */
export type PrefixAllowedTokens = (batch_id: number, tokens: number[]) => number[];

export interface ProcessorInputs {
  /** Tokens of the prompt. */
  prompt: number;
  /** Tokens of each source without padding. */
  sources: readonly (readonly number[])[];
  rowsPerSource: number;
  custom: Iterable<LogitsProcessor> | undefined;
  prefixAllowed: PrefixAllowedTokens | undefined;
}

/** Changes the scores [R,V] of all rows, of which the tokens so far are given; `first` is the number of the first row. */
export type Process = (tokens: readonly number[][], scores: Float32Array, first?: number) => Float32Array;

/** What changes scores, undefined where nothing does. */
export function processorsOf(s: Settings & { max_length: number }, inputs: ProcessorInputs): Process | undefined {
  const source = (row: number) => Math.floor(row / inputs.rowsPerSource);
  const stages: Process[] = [];
  const each = (process: RowProcessor) => stages.push(eachRow(process));
  const { prompt, sources } = inputs;
  if (s.sequence_bias?.length) each(sequenceBias(s.sequence_bias));
  // Transformers differs: it takes padding for tokens of the source, and reaches only the first beams.
  if (s.encoder_repetition_penalty !== 1)
    each(repetitionPenalty(1 / s.encoder_repetition_penalty, (row) => sources[source(row)]!));
  if (s.repetition_penalty !== 1) each(repetitionPenalty(s.repetition_penalty));
  if (s.no_repeat_ngram_size > 0) each(noRepeatNGram(s.no_repeat_ngram_size));
  if (s.encoder_no_repeat_ngram_size > 0) each(noRepeatOf(s.encoder_no_repeat_ngram_size, sources, source));
  const banned = s.bad_words_ids?.filter((words) => words.length > 1 || !s.eos.includes(words[0]!)) ?? [];
  if (banned.length) each(sequenceBias(banned.map((words) => [words, Number.NEGATIVE_INFINITY])));
  if (s.min_length > 0 && s.eos.length) each(suppress(s.eos, (length) => length < s.min_length));
  if (inputs.prefixAllowed) stages.push(prefixConstraint(inputs.prefixAllowed, inputs.rowsPerSource));
  if (s.forced_bos_token_id !== undefined) each(force([s.forced_bos_token_id], 1));
  if (s.forced_eos_token_id !== undefined) each(force([s.forced_eos_token_id].flat(), s.max_length - 1));
  if (s.remove_invalid_values) each(removeInvalid);
  if (s.exponential_decay_length_penalty) {
    const [start, factor] = s.exponential_decay_length_penalty;
    each(exponentialDecay(start + prompt, factor, s.eos));
  }
  if (s.suppress_tokens?.length) each(suppress(s.suppress_tokens));
  if (s.begin_suppress_tokens?.length) {
    const begin = prompt > 1 || s.forced_bos_token_id === undefined ? prompt : prompt + 1;
    each(suppress(s.begin_suppress_tokens, (length) => length === begin));
  }
  for (const processor of inputs.custom ?? []) stages.push(customStage(processor));
  if (s.do_sample) for (const process of warpersOf(s)) each(process);
  if (s.renormalize_logits) each(renormalize);
  if (stages.length === 0) return undefined;
  return (tokens, scores, first) => stages.reduce((data, stage) => stage(tokens, data, first), scores);
}

function warpersOf(s: Settings): RowProcessor[] {
  const keep = s.num_beams > 1 ? s.eos.length + 1 : 1; // a beam must be able to go on
  const list: RowProcessor[] = [];
  if (s.temperature !== 1) list.push(temperature(s.temperature));
  if (s.top_k > 0) list.push(topKOnly(s.top_k, keep));
  if (s.top_p < 1) list.push(topP(s.top_p, keep));
  if (s.min_p !== undefined) list.push(minP(s.min_p, keep));
  if (s.typical_p < 1) list.push(typicalP(s.typical_p, keep));
  if (s.epsilon_cutoff > 0) list.push(epsilonCutoff(s.epsilon_cutoff, keep));
  if (s.eta_cutoff > 0) list.push(etaCutoff(s.eta_cutoff, keep));
  return list;
}

function eachRow(process: RowProcessor): Process {
  return (tokens, scores, first = 0) => {
    const V = scores.length / tokens.length;
    for (const [r, row] of tokens.entries()) process(scores.subarray(r * V, (r + 1) * V), row, first + r);
    return scores;
  };
}

function customStage(processor: LogitsProcessor): Process {
  return (tokens, scores) => {
    const changed: ResultTensor | undefined = processor._call(tokens as number[][], scoresOf(scores, tokens.length));
    const data = (changed as Scores | undefined)?.data;
    if (!(data instanceof Float32Array) || data.length !== scores.length)
      throw new UsageError(
        `generate: ${processor.constructor.name} gave ${data?.length ?? 'no'} scores, expected ${scores.length}`,
      );
    return data;
  };
}

/** Where all tokens that are allowed are out for every row of a source, they become possible again, with score 0. */
function prefixConstraint(allowedAfter: PrefixAllowedTokens, rowsPerSource: number): Process {
  return (tokens, scores, first = 0) => {
    const V = scores.length / tokens.length;
    const sourceOf = (r: number) => Math.floor((first + r) / rowsPerSource);
    const possible = new Set<number>();
    const allowed = tokens.map((row, r) => {
      const list = allowedAfter(sourceOf(r), [...row]);
      if (list.length === 0)
        throw new UsageError(`generate: prefix_allowed_tokens_fn allows no token for source ${sourceOf(r)}`);
      for (const id of list)
        if (!(Number.isInteger(id) && id >= 0 && id < V))
          throw new UsageError(`generate: prefix_allowed_tokens_fn allows ${id}, expected ids below ${V}`);
      if (list.some((id) => scores[r * V + id]! > Number.NEGATIVE_INFINITY)) possible.add(sourceOf(r));
      return list;
    });
    for (const [r, list] of allowed.entries()) {
      const row = scores.subarray(r * V, (r + 1) * V);
      const kept = list.map((id) => (possible.has(sourceOf(r)) ? row[id]! : 0));
      row.fill(Number.NEGATIVE_INFINITY);
      for (const [i, id] of list.entries()) row[id] = kept[i]!;
    }
    return scores;
  };
}
