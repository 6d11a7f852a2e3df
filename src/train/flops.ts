/**
 * Floating point operations of T5, a multiply-add counted as two. Per row of S source and T target tokens, I = heads * d_kv,
 * g matrices of d_model x d_ff in a feed-forward (3 gated, 2 not):
 *
 *   encoder  S * layers * (2 * (4 d I + g d f) + 4 S I)
 *   decoder  T * layers * (2 * (6 d I + g d f) + 2 T I + 4 S I) + S * layers * 4 d I + 2 T d V
 *
 * The causal half of the decoder's self-attention is what has to be computed. A training step is three forward passes.
 */
import { feedForwardKind, type T5Config } from '../model/config.ts';

/** FLOPs of one training step over `rows` rows, padding included. */
export function stepFlops(config: T5Config, rows: number, sourceLength: number, targetLength: number): number {
  return 3 * rows * forwardFlops(config, sourceLength, targetLength);
}

/** FLOPs of the forward pass of one row. */
export function forwardFlops(c: T5Config, S: number, T: number): number {
  const I = c.num_heads * c.d_kv;
  const feedForward = (feedForwardKind(c).gated ? 3 : 2) * c.d_model * c.d_ff;
  const encoder = S * c.num_layers * (2 * (4 * c.d_model * I + feedForward) + 4 * S * I);
  const decoder = T * c.num_decoder_layers * (2 * (6 * c.d_model * I + feedForward) + 2 * T * I + 4 * S * I);
  const crossKeys = S * c.num_decoder_layers * 4 * c.d_model * I;
  return encoder + decoder + crossKeys + 2 * T * c.d_model * c.vocab_size;
}
