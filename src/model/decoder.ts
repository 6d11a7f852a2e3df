/** The T5 decoder: blocks of causal self-attention, cross-attention to the encoder's states, and feed-forward. */
import { embedding } from '../ops/embedding/embedding.ts';
import { rmsNorm } from '../ops/rms_norm/rms_norm.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { inBlock, type StackInput, spanOf } from './encoder.ts';
import { crossAttentionLayer, crossKeysValues, feedForwardLayer, type Segments, selfAttentionLayer } from './layers.ts';
import type { DecoderBlock, StackParameters } from './parameter_tree.ts';
import { drop, type Pass, places, siteOf } from './pass.ts';
import { biasesOf, type PositionBias, positionBias } from './positions.ts';

export interface DecoderInput extends StackInput {
  /** Whose source positions each target position sees. */
  crossSegments: Segments;
}

/** States [B,T,D] of the tokens given the encoder's states [B,S,D], after the final norm. */
export function decoder(p: StackParameters<DecoderBlock>, input: DecoderInput, states: Tensor, pass: Pass): Tensor {
  const { ids } = input;
  const span = spanOf('decoder', input);
  const site = siteOf('decoder', 0);
  let x = drop(embedding(p.embedding, ids), site + places.embedding, pass);
  let positions: PositionBias | undefined;
  for (const [i, block] of p.blocks.entries()) {
    const at = positionBias(block.positions, positions, span, pass);
    positions = at;
    x = inBlock(pass, x, [states, ...biasesOf(at)], (x) =>
      decoderBlock(block, x, states, { positions: at, input, site: siteOf('decoder', i) }, pass),
    );
  }
  x = rmsNorm(x, p.finalNorm, pass.config.layer_norm_epsilon);
  return drop(x, site + places.finalNorm, pass);
}

function decoderBlock(
  p: DecoderBlock,
  x: Tensor,
  states: Tensor,
  { positions, input, site }: { positions: PositionBias; input: DecoderInput; site: number },
  pass: Pass,
): Tensor {
  x = selfAttentionLayer(p.selfAttention, x, { positions, segments: input.segments, causal: true, site }, pass);
  const keysValues = crossKeysValues(p.crossAttention, states, pass);
  x = crossAttentionLayer(p.crossAttention, x, keysValues, { segments: input.crossSegments, site }, pass);
  return feedForwardLayer(p.feedForward, x, site, pass);
}
