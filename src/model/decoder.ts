/** The T5 decoder: blocks of causal self-attention, cross-attention to the encoder's states, and feed-forward. */
import { embedding } from '../ops/embedding/embedding.ts';
import { rmsNorm } from '../ops/rms_norm/rms_norm.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { inBlock } from './encoder.ts';
import { crossAttentionLayer, crossKeysValues, feedForwardLayer, type Segments, selfAttentionLayer } from './layers.ts';
import type { DecoderBlock, StackParameters } from './parameter_tree.ts';
import { drop, type Pass, places, siteOf } from './pass.ts';
import { biasesOf, type PositionBias, positionBias } from './positions.ts';

/** Segments of the decoder's two attentions. */
export interface DecoderSegments {
  self: Segments;
  cross: Segments;
}

/** States [B,T,D] of the tokens ids, int32 [B,T], given the encoder's states [B,S,D], after the final norm. */
export function decoder(
  p: StackParameters<DecoderBlock>,
  ids: Tensor,
  states: Tensor,
  segments: DecoderSegments,
  pass: Pass,
): Tensor {
  const site = siteOf('decoder', 0);
  let x = drop(embedding(p.shared, ids), site + places.embedding, pass);
  let positions: PositionBias | undefined;
  for (const [i, block] of p.blocks.entries()) {
    const at = positionBias(
      block.positions,
      positions,
      { stack: 'decoder', length: ids.shape[1]!, backend: ids.backend },
      pass,
    );
    positions = at;
    x = inBlock(pass, x, [states, ...biasesOf(at)], (x) =>
      decoderBlock(block, x, states, { positions: at, segments, site: siteOf('decoder', i) }, pass),
    );
  }
  x = rmsNorm(x, p.finalNorm, pass.config.layer_norm_epsilon);
  return drop(x, site + places.finalNorm, pass);
}

function decoderBlock(
  p: DecoderBlock,
  x: Tensor,
  states: Tensor,
  { positions, segments, site }: { positions: PositionBias; segments: DecoderSegments; site: number },
  pass: Pass,
): Tensor {
  x = selfAttentionLayer(p.selfAttention, x, { positions, segments: segments.self, causal: true, site }, pass);
  const keysValues = crossKeysValues(p.crossAttention, states, pass);
  x = crossAttentionLayer(p.crossAttention, x, keysValues, { segments: segments.cross, site }, pass);
  return feedForwardLayer(p.feedForward, x, site, pass);
}
