/**
 * Greedy decoding with a cache: the encoder runs once, cross-attention's keys and values are computed once, and each
 * step runs the decoder on one new token per row.
 */

import type { Cache } from '../ops/attention_decode/attention_decode.ts';
import { embedding } from '../ops/embedding/embedding.ts';
import { rmsNorm } from '../ops/rms_norm/rms_norm.ts';
import { argmax } from '../ops/top_k/top_k.ts';
import { dispose, scope } from '../tensor/scope.ts';
import { Tensor } from '../tensor/tensor.ts';
import { UsageError } from '../util/errors.ts';
import type { T5Config } from './config.ts';
import { encoder } from './encoder.ts';
import type { Source } from './inputs.ts';
import { crossAttentionStep, crossKeysValues, feedForwardLayer, selfAttentionStep } from './layers.ts';
import type { Pass } from './pass.ts';
import { decodingBiases, type PositionBias, rotation, stepBiases } from './positions.ts';
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
  const rows = Array.from({ length: source.rows }, () => [c.decoder_start_token_id]);
  const ended = new Array<boolean>(source.rows).fill(false);
  let newest = Tensor.from(p.head.backend, 'i32', [source.rows, 1], new Int32Array(source.rows).fill(rows[0]![0]!));
  try {
    for (let step = 0; step < max_new_tokens && !ended.every(Boolean); step++) {
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

/** What is kept from token to token. */
export interface Decoding {
  /** Tokens in the caches, and for how many there is room. */
  length: number;
  readonly capacity: number;
  position: Tensor; // i32 [1], the length on the device
  self: Cache[];
  cross: Cache[];
  crossSegments: Tensor | undefined; // i32 [B,S]
  biases: (Tensor | undefined)[]; // of each block
  rotate: PositionBias['rotate'];
}

/** Runs the encoder and prepares the caches for up to `capacity` tokens. To be ended by `endDecoding`. */
export function startDecoding(p: Seq2Seq, source: Source, capacity: number, pass: Pass): Decoding {
  const { config: c } = pass;
  const { blocks } = p.decoder;
  const kept = scope(() => {
    const input = uploadSource(p.head.backend, source);
    const states = encoder(p.encoder, input, pass);
    const { backend, dtype } = states;
    const room = () => Tensor.empty(backend, dtype, [source.rows, capacity, c.num_heads, c.d_kv]);
    return {
      position: Tensor.from(backend, 'i32', [1], [0]),
      self: blocks.map(() => ({ keys: room(), values: room() })),
      cross: blocks.map((block) => {
        const { k, v } = crossKeysValues(block.crossAttention, states, pass);
        return { keys: k, values: v };
      }),
      crossSegments: input.segments.key,
      biases: decodingBiases(positionsOf(p), backend, capacity, c),
    };
  });
  return { ...kept, length: 0, capacity, rotate: rotation(c, kept.position) };
}

const positionsOf = (p: Seq2Seq) => p.decoder.blocks.map((block) => block.positions);

export function endDecoding({ position, self, cross, crossSegments, biases }: Decoding): void {
  const caches = [...self, ...cross].flatMap(({ keys, values }) => [keys, values]);
  dispose(position, ...caches, ...[crossSegments, ...biases].filter((t) => t !== undefined));
}

/** Logits [B,1,V] for the token after `ids`, i32 [B,1], one per row, which join the caches. */
export function decodeStep(p: Seq2Seq, decoding: Decoding, ids: Tensor, pass: Pass): Tensor {
  return scope(() => {
    const { position, length, capacity, self, cross, crossSegments, rotate } = decoding;
    const { config: c } = pass;
    position.write([length]);
    const fire = c.position_encoding_type === 'fire';
    const biases = fire ? stepBiases(positionsOf(p), position, { at: length, capacity }, c) : decoding.biases;
    let x = embedding(p.decoder.embedding, ids);
    for (const [i, block] of p.decoder.blocks.entries()) {
      x = selfAttentionStep(block.selfAttention, x, self[i]!, { position, bias: biases[i], rotate }, pass);
      x = crossAttentionStep(block.crossAttention, x, cross[i]!, crossSegments, pass);
      x = feedForwardLayer(block.feedForward, x, 0, pass);
    }
    decoding.length++;
    return logitsOf(p, rmsNorm(x, p.decoder.finalNorm, c.layer_norm_epsilon), c);
  });
}
