/**
 * Greedy decoding with a cache: the encoder runs once, cross-attention's keys and values are computed once, and each
 * step runs the decoder on one new token per row.
 */

import { argmax } from '../../ops/top_k/top_k.ts';
import { dispose, scope } from '../../tensor/scope.ts';
import { Tensor } from '../../tensor/tensor.ts';
import { UsageError } from '../../util/errors.ts';
import type { T5Config } from '../config.ts';
import type { Source } from '../inputs.ts';
import type { Pass } from '../pass.ts';
import type { Seq2Seq } from '../seq2seq.ts';
import { decodeStep, endDecoding, moveTo, startDecoding } from './step.ts';

export interface GenerateOptions {
  /** Tokens written per row at most, 20 by default. */
  max_new_tokens?: number;
  /** Gets the newest id of every row as soon as it is known; padding for rows that have ended. */
  streamer?: { put(ids: readonly number[]): void; end?(): void };
}

const DEFAULT_NEW_TOKENS = 20;

/** @throws UsageError for an unknown name or an impossible value */
function checkOptions(options: GenerateOptions): Required<Pick<GenerateOptions, 'max_new_tokens'>> & GenerateOptions {
  const known = ['max_new_tokens', 'streamer'];
  for (const name of Object.keys(options))
    if (!known.includes(name)) throw new UsageError(`generate: unknown option ${name}, expected ${known.join(', ')}`);
  const { max_new_tokens = DEFAULT_NEW_TOKENS } = options;
  if (!Number.isSafeInteger(max_new_tokens) || max_new_tokens < 1)
    throw new UsageError(`generate: max_new_tokens is ${max_new_tokens}, expected a positive integer`);
  return { ...options, max_new_tokens };
}

/** Token ids per row, the start token first; rows that end early are filled with padding. @throws UsageError */
export async function generateGreedily(
  p: Seq2Seq,
  source: Source,
  c: T5Config,
  options: GenerateOptions,
): Promise<number[][]> {
  const { max_new_tokens, streamer } = checkOptions(options);
  const pass: Pass = { config: c, checkpointing: false };
  const decoding = startDecoding(p, source, { capacity: max_new_tokens, rows: 1, caches: 'own' }, pass);
  const rows = Array.from({ length: source.rows }, () => [c.decoder_start_token_id]);
  const ended = new Array<boolean>(source.rows).fill(false);
  let newest = Tensor.from(p.head.backend, 'i32', [1, source.rows], new Int32Array(source.rows).fill(rows[0]![0]!));
  try {
    for (let step = 0; step < max_new_tokens && !ended.every(Boolean); step++) {
      moveTo(decoding, new Int32Array(source.rows).fill(step));
      const best = scope(() => argmax(decodeStep(p, decoding, newest, pass)));
      dispose(newest);
      newest = best; // what ended rows go on with touches no other row
      const ids = Array.from(await best.read(), (id, b) => (ended[b] ? c.pad_token_id : id));
      for (const [b, id] of ids.entries()) {
        rows[b]!.push(id);
        ended[b] ||= id === c.eos_token_id;
      }
      streamer?.put(ids);
    }
    streamer?.end?.();
    return rows;
  } finally {
    dispose(newest);
    endDecoding(decoding);
  }
}
