/** The T5 encoder: embedding, blocks of self-attention and feed-forward, a last norm. */

import { add } from '../ops/add/add.ts';
import { embedding } from '../ops/embedding/embedding.ts';
import { widen } from '../ops/widen/widen.ts';
import { checkpoint, isRecording } from '../tensor/autograd.ts';
import { dispose, scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { feedForwardLayer, normalise, type Segments, type Stream, selfAttentionLayer, streamOf } from './layers.ts';
import type { Stack } from './parameter_table.ts';
import type { EncoderBlock, StackParameters } from './parameter_tree.ts';
import { drop, type Pass, places, siteOf } from './pass.ts';
import { biasesOf, type PositionBias, positionBias, type Span } from './positions.ts';

/** A stack's tokens on the device. */
export interface StackInput {
  ids: Tensor; // i32 [B,S]
  segments: Segments;
  /** Positions within packed examples, i32 [B,S]; absent: 0, 1, 2, … */
  positions?: Tensor | undefined;
}

/** States [B,S,D] of the tokens after the final norm. */
export function encoder(p: StackParameters<EncoderBlock>, input: StackInput, pass: Pass): Tensor {
  return drop(
    normalise(encoderStream(p, input, pass), p.finalNorm, pass).h,
    siteOf('encoder', 0) + places.finalNorm,
    pass,
  );
}

/** The same without dropout, in float32 where the stream is wide: for those who read the states themselves. */
export function encoderOutput(p: StackParameters<EncoderBlock>, input: StackInput, pass: Pass): Tensor {
  const stream = encoderStream(p, input, pass);
  const weight = stream.x.dtype === 'f32' ? widen(p.finalNorm) : p.finalNorm;
  return normalise(stream, weight, pass).h;
}

function encoderStream(p: StackParameters<EncoderBlock>, input: StackInput, pass: Pass): Stream {
  const { ids, segments } = input;
  const span = spanOf('encoder', input);
  const site = siteOf('encoder', 0);
  let stream = streamOf(drop(embedding(p.embedding, ids), site + places.embedding, pass), pass);
  let positions: PositionBias | undefined;
  for (const [i, block] of p.blocks.entries()) {
    const at = positionBias(block.positions, positions, span, pass);
    positions = at;
    stream = inBlock(pass, stream, biasesOf(at), (s) =>
      encoderBlock(block, s, at, segments, siteOf('encoder', i), pass),
    );
  }
  return stream;
}

/** The self-attention of a whole sequence. */
export function spanOf(stack: Stack, { ids, positions }: StackInput): Span {
  const [, length] = ids.shape as [number, number];
  return { stack, backend: ids.backend, length, positions };
}

function encoderBlock(
  p: EncoderBlock,
  stream: Stream,
  positions: PositionBias,
  segments: Segments,
  site: number,
  pass: Pass,
): Stream {
  stream = selfAttentionLayer(p.selfAttention, stream, { positions, segments, causal: false, site }, pass);
  return feedForwardLayer(p.feedForward, stream, site, pass);
}

/**
 * Runs a block, keeping what it computes for the backward pass or, with checkpointing, only the stream's value before it. Without a
 * tape it keeps nothing, the stream it was given included.
 */
export function inBlock(
  pass: Pass,
  stream: Stream,
  others: readonly Tensor[],
  block: (stream: Stream) => Stream,
): Stream {
  if (!isRecording()) {
    // Nothing of a block is needed after it but its result.
    const next = scope(() => block(stream) as { x: Tensor; added?: Tensor });
    dispose(
      ...([stream.x, stream.added].filter((t) => t !== undefined && t.memory.base !== next.x.memory.base) as Tensor[]),
    );
    return next;
  }
  if (!pass.checkpointing) return block(stream);
  const start = joined(stream);
  return { x: checkpoint(() => joined(block({ x: start })), [start, ...others]) };
}

const joined = ({ x, added }: Stream): Tensor => (added ? add(x, added) : x);
