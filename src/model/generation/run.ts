/** What the ways of decoding share: inputs, outputs, and one step of the model for all rows. */
import { logSoftmax } from '../../ops/log_softmax/log_softmax.ts';
import { widen } from '../../ops/widen/widen.ts';
import { dispose, scope } from '../../tensor/scope.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import type { T5Config } from '../config.ts';
import type { Source } from '../inputs.ts';
import type { Pass } from '../pass.ts';
import { type ResultTensor, resultTensor, toResult } from '../result.ts';
import type { Seq2Seq } from '../seq2seq.ts';
import type { Draw } from './draw.ts';
import type { Settings } from './options.ts';
import type { Process } from './processors_of.ts';
import { type Decoding, decodeStep, moveTo } from './step.ts';
import type { Ended } from './stopping.ts';
import type { Streamer } from './streamer.ts';

/** One call of generate, checked and complete. */
export interface Run {
  p: Seq2Seq;
  c: T5Config;
  pass: Pass;
  source: Source;
  settings: Settings & { max_length: number };
  /** Tokens that each source's answers begin with, all of one length. */
  prompts: readonly (readonly number[])[];
  process: Process | undefined;
  ended: Ended;
  /** Whether nothing but its tokens and its length ends an answer. */
  endsPlainly: boolean;
  draw: Draw;
  /** Whether the device can draw tokens by itself. */
  drawsPlainly: boolean;
  streamer: Streamer | undefined;
  signal: AbortSignal | undefined;
}

/** Rows that a step computes for each source. */
export const rowsPerSource = ({ num_beams, num_return_sequences }: Settings): number =>
  num_beams > 1 ? num_beams : num_return_sequences;

/** What generate gives with return_dict_in_generate. */
export interface GenerateOutput {
  /** Token ids of each answer, the start token first, filled up with padding. */
  sequences: number[][];
  /** Beam search with output_scores: log-probability / length ^ length_penalty of each answer. */
  sequences_scores?: number[];
  /** With output_scores, for each new token [rows, V]: the scores it was chosen by. */
  scores?: ResultTensor[];
  /** With output_logits, for each new token [rows, V]: the model's scores. */
  logits?: ResultTensor[];
  /** Beam search: the row in which each new token was computed, -1 behind the end. */
  beam_indices?: number[][];
  /** With assistant_model: how many tokens it drafted and how many of them were right. */
  assistant?: { drafted: number; accepted: number; acceptance_rate: number };
}

/** Lists for the scores that the call wants kept. */
export interface Kept {
  scores: ResultTensor[] | undefined;
  logits: ResultTensor[] | undefined;
}

export function keptScores({ settings: s }: Run): Kept {
  const list = (wanted: boolean) => (s.return_dict_in_generate && wanted ? [] : undefined);
  return { scores: list(s.output_scores), logits: list(s.output_logits) };
}

/** Logits [1,R,V] after the prompt's tokens, which join the caches, to be given to the decoding's `replay.release`. */
export function readPrompt(run: Run, decoding: Decoding, rowsPerSource: number): Tensor {
  const rows = run.prompts.length * rowsPerSource;
  const length = run.prompts[0]!.length;
  let logits: Tensor | undefined;
  for (let at = 0; at < length; at++) {
    if (logits) decoding.replay.release(logits);
    const ids = Int32Array.from({ length: rows }, (_, r) => run.prompts[Math.floor(r / rowsPerSource)]![at]!);
    logits = stepOn(run, decoding, ids, at);
  }
  return logits!;
}

/**
 * Logits [1,R,V] of the tokens after `ids`, which stand at place `at` of every row, or what the decoding's `head` makes;
 * to be given to `replay.release`.
 */
export function stepOn(run: Pick<Run, 'p' | 'pass'>, decoding: Decoding, ids: Int32Array, at: number): Tensor {
  return stepAt(run, decoding, ids, new Int32Array(ids.length).fill(at));
}

/** The same of tokens at places of their own. */
export function stepAt(
  { p, pass }: Pick<Run, 'p' | 'pass'>,
  decoding: Decoding,
  ids: Int32Array,
  positions: Int32Array,
): Tensor {
  moveTo(decoding, positions);
  const step = (tokens: Tensor) => decodeStep(p, decoding, tokens, pass);
  return decoding.replay.step(ids, decoding.capacity - decoding.place, step);
}

/** Lets timers and requests of the process have their turn. @throws the signal's reason if it was aborted */
export async function breathe({ signal }: Pick<Run, 'signal'>): Promise<void> {
  await new Promise<void>((resolve) => setImmediate(resolve));
  signal?.throwIfAborted();
}

/** Float32 copies on the host of logits [1,R,V], or of their log-probabilities. */
export async function hostScores(logits: Tensor, { log }: { log: boolean }): Promise<Float32Array> {
  const wanted = scope(() => widen(log ? logSoftmax(logits) : logits));
  const { data } = await toResult(wanted);
  if (wanted !== logits) dispose(wanted);
  return data as Float32Array;
}

/** A copy of scores, [R,V]. */
export const snapshot = (scores: Float32Array, rows: number): ResultTensor =>
  resultTensor([rows, scores.length / rows], scores.slice());
