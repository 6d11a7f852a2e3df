/**
 * Greedy decoding with a cache: the encoder runs once, cross-attention's keys and values are computed once, and each
 * step runs the decoder on one new token per row.
 */

import { embedding } from '../ops/embedding/embedding.ts';
import { rmsNorm } from '../ops/rms_norm/rms_norm.ts';
import { argmax } from '../ops/top_k/top_k.ts';
import { dispose, scope } from '../tensor/scope.ts';
import { Tensor } from '../tensor/tensor.ts';
import { UsageError } from '../util/errors.ts';
import type { T5Config } from './config.ts';
import { encoder } from './encoder.ts';
import type { Source } from './inputs.ts';
import {
  crossAttentionLayer,
  crossKeysValues,
  feedForwardLayer,
  type KeyValueCache,
  type Segments,
  selfAttentionLayer,
} from './layers.ts';
import type { DecoderBlock, StackParameters } from './parameter_tree.ts';
import type { Pass } from './pass.ts';
import { type PositionBias, positionBias } from './positions.ts';
import { logitsOf, type Seq2Seq, uploadSource } from './seq2seq.ts';

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
  const decoding = startDecoding(p, source, max_new_tokens, pass);
  try {
    const rows = Array.from({ length: source.rows }, () => [c.decoder_start_token_id]);
    const ended = new Array<boolean>(source.rows).fill(false);
    for (let step = 0; step < max_new_tokens && !ended.every(Boolean); step++) {
      const logits = decodeStep(
        p,
        decoding,
        rows.map((row) => row.at(-1)!),
        pass,
      );
      const best = await bestIds(logits);
      const ids = best.map((id, b) => (ended[b] ? c.pad_token_id : id));
      for (const [b, id] of ids.entries()) {
        rows[b]!.push(id);
        ended[b] ||= id === c.eos_token_id;
      }
      streamer?.put(ids);
    }
    streamer?.end?.();
    return rows;
  } finally {
    endDecoding(decoding);
  }
}

async function bestIds(logits: Tensor): Promise<number[]> {
  const best = scope(() => argmax(logits));
  dispose(logits);
  try {
    return Array.from(await best.read());
  } finally {
    dispose(best);
  }
}

/** What is kept from token to token. */
export interface Decoding {
  caches: KeyValueCache[];
  cross: { k: Tensor; v: Tensor }[];
  crossSegments: Segments;
}

/** Runs the encoder and prepares the caches for up to `capacity` tokens. To be ended by `endDecoding`. */
export function startDecoding(p: Seq2Seq, source: Source, capacity: number, pass: Pass): Decoding {
  const { num_heads: H, d_kv: K } = pass.config;
  const { caches, cross, key } = scope(() => {
    const input = uploadSource(p.head.backend, source);
    const states = encoder(p.encoder, input, pass);
    const room = () => {
      const shape = [source.rows, capacity, H, K];
      return Tensor.from(states.backend, states.dtype, shape, new Float32Array(source.rows * capacity * H * K));
    };
    return {
      caches: p.decoder.blocks.map(() => ({ k: room(), v: room() })),
      cross: p.decoder.blocks.map((block) => crossKeysValues(block.crossAttention, states, pass)),
      key: input.segments.key,
    };
  });
  const empty = caches.map((cache) => ({ ...cache, length: 0 }));
  return { caches: empty, cross, crossSegments: { query: undefined, key } };
}

export function endDecoding({ caches, cross, crossSegments }: Decoding): void {
  for (const { k, v } of [...caches, ...cross]) dispose(k, v);
  if (crossSegments.key) dispose(crossSegments.key);
}

/** Logits [B,1,V] for the token after `ids`, one per row, which join the caches. */
export function decodeStep(p: Seq2Seq, decoding: Decoding, ids: readonly number[], pass: Pass): Tensor {
  return scope(() => {
    const states = decoderStep(p.decoder, decoding, ids, pass);
    for (const cache of decoding.caches) cache.length++;
    return logitsOf(p, states, pass.config);
  });
}

function decoderStep(
  p: StackParameters<DecoderBlock>,
  { caches, cross, crossSegments }: Decoding,
  ids: readonly number[],
  pass: Pass,
): Tensor {
  const { backend } = p.embedding;
  const none: Segments = { query: undefined, key: undefined };
  let x = embedding(p.embedding, Tensor.from(backend, 'i32', [ids.length, 1], ids));
  let positions: PositionBias | undefined;
  for (const [i, block] of p.blocks.entries()) {
    const cache = caches[i]!;
    const span = { stack: 'decoder', backend, offset: cache.length, queries: 1, keys: cache.k.shape[1]! } as const;
    positions = positionBias(block.positions, positions, span, pass);
    const self = { positions, segments: none, causal: true, site: 0, cache };
    x = selfAttentionLayer(block.selfAttention, x, self, pass);
    x = crossAttentionLayer(block.crossAttention, x, cross[i]!, { segments: crossSegments, site: 0 }, pass);
    x = feedForwardLayer(block.feedForward, x, 0, pass);
  }
  return rmsNorm(x, p.finalNorm, pass.config.layer_norm_epsilon);
}
