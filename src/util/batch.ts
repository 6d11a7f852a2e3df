/** What the data pipeline hands to the model: one micro-batch of fixed shape on the host. */
export interface Batch {
  /** B rows, S source and T target positions. */
  rows: number;
  sourceLength: number;
  targetLength: number;
  /** Encoder tokens [B,S]. */
  input_ids: Int32Array;
  /** Decoder tokens [B,T]: the labels shifted right within each segment, the start token first. */
  decoder_input_ids: Int32Array;
  /** Wanted tokens [B,T], IGNORED where none. */
  labels: Int32Array;
  /** [B,S]: positions see each other when their segments are equal and not PADDING; absent: one segment, no padding. */
  segments?: Int32Array;
  /** [B,T], the same numbers: a target position sees the source positions of its segment. */
  decoder_segments?: Int32Array;
  /** Labels that are not IGNORED: what a mean loss divides by. */
  tokens: number;
}

/** Label of a position without a loss. */
export const IGNORED = -100;
/** Segment of a padded position. */
export const PADDING = -1;
