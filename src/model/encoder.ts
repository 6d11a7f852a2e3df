/** The T5 encoder: embedding, blocks of self-attention and feed-forward, a last norm. */
import { embedding } from '../ops/embedding/embedding.ts';
import { rmsNorm } from '../ops/rms_norm/rms_norm.ts';
import { checkpoint } from '../tensor/autograd.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { feedForwardLayer, type Segments, selfAttentionLayer } from './layers.ts';
import type { EncoderBlock, StackParameters } from './parameter_tree.ts';
import { drop, type Pass, places, siteOf } from './pass.ts';
import { biasesOf, type PositionBias, positionBias } from './positions.ts';

/** States [B,S,D] of the tokens ids, int32 [B,S], after the final norm. */
export function encoder(p: StackParameters<EncoderBlock>, ids: Tensor, segments: Segments, pass: Pass): Tensor {
  const site = siteOf('encoder', 0);
  let x = drop(embedding(p.shared, ids), site + places.embedding, pass);
  let positions: PositionBias | undefined;
  for (const [i, block] of p.blocks.entries()) {
    const at = positionBias(
      block.positions,
      positions,
      { stack: 'encoder', length: ids.shape[1]!, backend: ids.backend },
      pass,
    );
    positions = at;
    x = inBlock(pass, x, biasesOf(at), (x) => encoderBlock(block, x, at, segments, siteOf('encoder', i), pass));
  }
  x = rmsNorm(x, p.finalNorm, pass.config.layer_norm_epsilon);
  return drop(x, site + places.finalNorm, pass);
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
