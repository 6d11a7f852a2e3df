/** The T5 decoder: blocks of causal self-attention, cross-attention to the encoder's states, and feed-forward. */
import { embedding } from '../ops/embedding/embedding.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { inBlock, type StackInput, spanOf } from './encoder.ts';
import {
  crossAttentionLayer,
  feedForwardLayer,
  normalise,
  type Segments,
  type Stream,
  selfAttentionLayer,
  streamOf,
} from './layers.ts';
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
  let stream = streamOf(drop(embedding(p.embedding, ids), site + places.embedding, pass), pass);
  let positions: PositionBias | undefined;
  for (const [i, block] of p.blocks.entries()) {
    const at = positionBias(block.positions, positions, span, pass);
    positions = at;
    stream = inBlock(pass, stream, [states, ...biasesOf(at)], (s) =>
      decoderBlock(block, s, states, { positions: at, input, site: siteOf('decoder', i) }, pass),
    );
  }
  return drop(normalise(stream, p.finalNorm, pass).h, site + places.finalNorm, pass);
}

function decoderBlock(
  p: DecoderBlock,
  stream: Stream,
  states: Tensor,
  { positions, input, site }: { positions: PositionBias; input: DecoderInput; site: number },
  pass: Pass,
): Stream {
  stream = selfAttentionLayer(
    p.selfAttention,
    stream,
    { positions, segments: input.segments, causal: true, site },
    pass,
  );
  stream = crossAttentionLayer(p.crossAttention, stream, states, { segments: input.crossSegments, site }, pass);
  return feedForwardLayer(p.feedForward, stream, site, pass);
}
