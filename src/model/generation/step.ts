/**
 * One decoder step: the newest token of every row against caches of the tokens before. The encoder runs once, keys and
 * values of cross-attention are computed once per source and shared by its rows, and self-attention's caches have room
 * for the whole answer from the start. What a step reads besides the tokens lies in device memory, so that it can be
 * recorded once and replayed.
 */
import { type Cache, halfCache } from '../../ops/attention_decode/attention_decode.ts';
import { embedding } from '../../ops/embedding/embedding.ts';
import { isHalfOf } from '../../ops/linear_half/linear_half.ts';
import { linearRows } from '../../ops/linear_rows/linear_rows.ts';
import { discard, dispose, scope } from '../../tensor/scope.ts';
import { Tensor } from '../../tensor/tensor.ts';
import type { T5Config } from '../config.ts';
import { encoder, inBlock } from '../encoder.ts';
import type { Source } from '../inputs.ts';
import {
  crossAttentionStep,
  crossKeysValues,
  feedForwardStep,
  normalise,
  type Stream,
  selfAttentionStep,
  streamOf,
} from '../layers.ts';
import type { Pass } from '../pass.ts';
import { decodingBiases, rotation, stepBiases } from '../positions.ts';
import { headScale, type Seq2Seq, uploadSource } from '../seq2seq.ts';
import { Replay } from './replay.ts';

/** What is kept from token to token. */
export interface Decoding {
  /** Tokens for which the caches have room. */
  readonly capacity: number;
  /** Where the rows' next tokens stand, i32 [R]; the first one's place on the host. */
  position: Tensor;
  place: number;
  /** In which cache each row finds its past, i32 [R,capacity]; absent: in its own. */
  readonly origins: Tensor | undefined;
  readonly self: Cache[];
  readonly cross: Cache[];
  readonly crossSegments: Tensor | undefined; // i32 [B,S]
  readonly biases: (Tensor | undefined)[]; // of each block
  readonly replay: Replay;
  /** What a step makes of its states, where that is not logits. */
  head?: Head;
}

export interface DecodingShape {
  /** Tokens written at most, those of the prompt included. */
  capacity: number;
  /** Tokens per source and step, at most. */
  rows: number;
  /** One cache per row whose tokens may have their past in other rows' caches, or one cache for all rows of a source. */
  caches: 'own' | 'exchanged' | 'shared';
}

/** Runs the encoder and prepares the caches. To be ended by `endDecoding`. */
export function startDecoding(p: Seq2Seq, source: Source, shape: DecodingShape, pass: Pass): Decoding {
  const { config: c } = pass;
  const { blocks } = p.decoder;
  const { capacity } = shape;
  const rows = source.rows * shape.rows;
  const kept = scope(() => {
    const input = uploadSource(p.head.backend, source);
    const states = encoder(p.encoder, input, pass);
    const { backend } = states;
    const inHalf = isHalfOf(states, [p.head]);
    const dtype = p.head.scales ? 'bf16' : inHalf ? 'f16' : states.dtype;
    const caches = shape.caches === 'shared' ? source.rows : rows;
    const room = () => Tensor.empty(backend, dtype, [caches, capacity, c.num_heads, c.d_kv]);
    return {
      position: Tensor.from(backend, 'i32', [rows], new Int32Array(rows)),
      origins: shape.caches === 'exchanged' ? Tensor.empty(backend, 'i32', [rows, capacity]) : undefined,
      self: blocks.map(() => ({ keys: room(), values: room() })),
      cross: blocks.map((block) => {
        const { k, v } = crossKeysValues(block.crossAttention, states, pass);
        if (!inHalf) return { keys: k, values: v };
        const { keys, values } = halfCache(k, v);
        discard(k, v);
        return { keys, values };
      }),
      crossSegments: input.segments.key,
      biases: decodingBiases(positionsOf(p), backend, capacity, c),
    };
  });
  const recordable = c.position_encoding_type !== 'fire'; // whose biases depend on the place
  const replay = new Replay(p.head.backend, { recordable });
  return { ...kept, place: 0, capacity, replay };
}

/** What each block of the decoder knows of positions. */
export const positionsOf = (p: Seq2Seq) => p.decoder.blocks.map((block) => block.positions);

export function endDecoding({ position, origins, self, cross, crossSegments, biases, replay }: Decoding): void {
  replay.dispose();
  const caches = [...self, ...cross].flatMap(({ keys, values }) => [keys, values]);
  dispose(position, ...caches, ...[origins, crossSegments, ...biases].filter((t) => t !== undefined));
}

/** Says where the next tokens stand, one per row; there may be fewer rows than the decoding has room for. */
export function moveTo(decoding: Decoding, positions: ArrayLike<number>): void {
  const { backend, memory } = decoding.position;
  const rows = positions.length;
  if (rows !== decoding.position.length) decoding.position = new Tensor(backend, memory.base.slice(0, rows), [rows]);
  decoding.position.write(positions);
  decoding.place = positions[0]!;
}

/** What becomes of the decoder's states [1,R,D]. */
export type Head = (states: Tensor) => Tensor;

/** Steps have another head from now on. */
export function useHead(decoding: Decoding, head: Head): void {
  decoding.head = head;
  decoding.replay.restart();
}

/** Logits [...,V] of the decoder's states [...,D]. */
export const stepLogits = (p: Seq2Seq, states: Tensor, c: T5Config): Tensor =>
  linearRows(states, [p.head], { alpha: headScale(c) })[0]!;

/**
 * Logits [1,R,V] for the tokens after `ids`, i32 [1,R], which join the caches at the decoding's positions; or what its `head`
 * makes.
 */
export function decodeStep(p: Seq2Seq, decoding: Decoding, ids: Tensor, pass: Pass): Tensor {
  return scope(() => {
    const { position, place, capacity, origins, self, cross, crossSegments } = decoding;
    const { config: c } = pass;
    const fire = c.position_encoding_type === 'fire';
    const biases = fire ? stepBiases(positionsOf(p), position, { at: place, capacity }, c) : decoding.biases;
    const rotate = rotation(c, position);
    const x = embedding(p.decoder.embedding, ids);
    let stream: Stream = x.dtype === 'f16' ? streamOf(x, pass) : { x }; // bfloat16 cannot overflow here, and adds faster as it is
    for (const [i, block] of p.decoder.blocks.entries()) {
      const at = { position, origins, bias: biases[i], rotate };
      stream = inBlock(pass, stream, [], (s) => {
        const own = selfAttentionStep(block.selfAttention, s, self[i]!, at, pass);
        const both = crossAttentionStep(block.crossAttention, own, cross[i]!, crossSegments, pass);
        return feedForwardStep(block.feedForward, both, pass);
      });
    }
    const { h } = normalise(stream, p.decoder.finalNorm, pass);
    return decoding.head ? decoding.head(h) : stepLogits(p, h, c);
  });
}
