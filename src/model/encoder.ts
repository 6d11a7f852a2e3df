/** The T5 encoder: embedding, blocks of self-attention and feed-forward, a last norm. */
import { embedding } from '../ops/embedding/embedding.ts';
import { rmsNorm } from '../ops/rms_norm/rms_norm.ts';
import { checkpoint } from '../tensor/autograd.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { feedForwardLayer, type Segments, selfAttentionLayer } from './layers.ts';
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
  const { ids, segments } = input;
  const span = spanOf('encoder', input);
  const site = siteOf('encoder', 0);
  let x = drop(embedding(p.embedding, ids), site + places.embedding, pass);
  let positions: PositionBias | undefined;
  for (const [i, block] of p.blocks.entries()) {
    const at = positionBias(block.positions, positions, span, pass);
    positions = at;
    x = inBlock(pass, x, biasesOf(at), (x) => encoderBlock(block, x, at, segments, siteOf('encoder', i), pass));
  }
  x = rmsNorm(x, p.finalNorm, pass.config.layer_norm_epsilon);
  return drop(x, site + places.finalNorm, pass);
}

/** The self-attention of a whole sequence. */
export function spanOf(stack: Stack, { ids, positions }: StackInput): Span {
  const [, length] = ids.shape as [number, number];
  return { stack, backend: ids.backend, length, positions };
}

function encoderBlock(
  p: EncoderBlock,
  x: Tensor,
  positions: PositionBias,
  segments: Segments,
  site: number,
  pass: Pass,
): Tensor {
  x = selfAttentionLayer(p.selfAttention, x, { positions, segments, causal: false, site }, pass);
  return feedForwardLayer(p.feedForward, x, site, pass);
}

/** Runs a block on x, keeping what it computes for the backward pass or, with checkpointing, only its input. */
export function inBlock(pass: Pass, x: Tensor, others: readonly Tensor[], block: (x: Tensor) => Tensor): Tensor {
  return pass.checkpointing ? checkpoint(() => block(x), [x, ...others]) : block(x);
}
