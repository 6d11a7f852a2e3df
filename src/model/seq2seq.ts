/** The encoder-decoder as functions over its parameters: states, logits, loss. */
import type { Backend } from '../backend/backend.ts';
import { type CrossEntropy, type CrossEntropyOptions, crossEntropy } from '../ops/cross_entropy/cross_entropy.ts';
import { linearCrossEntropy } from '../ops/cross_entropy/linear_cross_entropy.ts';
import { linear } from '../ops/linear/linear.ts';
import type { Parameters } from '../tensor/parameters.ts';
import { Tensor } from '../tensor/tensor.ts';
import type { Batch } from '../util/batch.ts';
import type { T5Config } from './config.ts';
import { type DecoderInput, decoder } from './decoder.ts';
import { encoder, type StackInput } from './encoder.ts';
import type { Source } from './inputs.ts';
import { HEAD, SHARED } from './parameter_table.ts';
import {
  type DecoderBlock,
  decoderParameters,
  type EncoderBlock,
  encoderParameters,
  type StackParameters,
} from './parameter_tree.ts';
import type { Pass } from './pass.ts';

/** An encoder-decoder's parameters by their places. */
export interface Seq2Seq {
  encoder: StackParameters<EncoderBlock>;
  decoder: StackParameters<DecoderBlock>;
  /** Output embedding: the shared one where it is tied, unless in int8. */
  head: Tensor; // [V,D]
  /** Where all of them lie. */
  parameters: Parameters;
}

/** The parameters of an encoder-decoder by their places. @throws UsageError for a model without a decoder */
export function seq2seqParameters(p: Parameters, c: T5Config): Seq2Seq {
  return {
    encoder: encoderParameters(p, c, ''),
    decoder: decoderParameters(p, c),
    head: p.get(p.has(HEAD) ? HEAD : SHARED),
    parameters: p,
  };
}

/** A batch on the device. */
export interface DeviceBatch {
  source: StackInput;
  target: DecoderInput;
  labels: Tensor; // i32 [B,T]
}

/** Copies a source's ids and, where it has padding, its segments to the device. */
export function uploadSource(backend: Backend, { rows, columns, values, segments }: Source): StackInput {
  const upload = (ints: Int32Array) => Tensor.from(backend, 'i32', [rows, columns], ints);
  return { ids: upload(values), segments: { query: undefined, key: segments && upload(segments) } };
}

/** A batch, and whether its segments pack several examples into a row (as they do when it does not say). */
export type PackedBatch = Batch & { packed?: boolean };

/**
 * Copies a batch to the device. Where segments pack several examples into a row, queries see their own; where they
 * only mark padding, padded queries see what the others see, as in Hugging Face.
 */
export function uploadBatch(backend: Backend, batch: PackedBatch, c: T5Config): DeviceBatch {
  const { rows, sourceLength, targetLength } = batch;
  const packed = batch.packed ?? true;
  const room = (columns: number) => Tensor.empty(backend, 'i32', [rows, columns]);
  const stack = (segments: Int32Array | undefined, columns: number): StackInput => {
    const key = segments && room(columns);
    const restart = packed && segments && c.position_encoding_type === 'fire';
    return {
      ids: room(columns),
      segments: { query: packed ? key : undefined, key },
      positions: restart ? room(columns) : undefined,
    };
  };
  const source = stack(batch.segments, sourceLength);
  const target = stack(batch.decoder_segments, targetLength);
  const { key } = source.segments;
  const device = {
    source,
    target: { ...target, crossSegments: { query: key && target.segments.query, key } },
    labels: room(targetLength),
  };
  writeBatch(device, batch);
  return device;
}

/** Puts a batch in the place of another one of the same shape, with segments where that has them. */
export function writeBatch({ source, target, labels }: DeviceBatch, batch: Batch): void {
  const stack = ({ ids, segments, positions }: StackInput, values: Int32Array, packing: Int32Array | undefined) => {
    ids.write(values);
    segments.key?.write(packing!);
    positions?.write(positionsWithin(packing!, ids.shape[1]!));
  };
  stack(source, batch.input_ids, batch.segments);
  stack(target, batch.decoder_input_ids, batch.decoder_segments);
  labels.write(batch.labels);
}

/** How far each position is from the first of its segment in its row. */
function positionsWithin(segments: Int32Array, columns: number): Int32Array {
  const positions = new Int32Array(segments.length);
  for (let i = 0; i < segments.length; i++)
    if (i % columns && segments[i] === segments[i - 1]) positions[i] = positions[i - 1]! + 1;
  return positions;
}

/** The decoder's states [B,T,D] of a batch, and the encoder's [B,S,D]. */
export function forward(p: Seq2Seq, batch: DeviceBatch, pass: Pass): { states: Tensor; encoderStates: Tensor } {
  const encoderStates = encoder(p.encoder, batch.source, pass);
  return { states: decoder(p.decoder, batch.target, encoderStates, pass), encoderStates };
}

/** What the states are multiplied by before the head. */
export const headScale = (c: T5Config): number => (c.scale_decoder_outputs ? c.d_model ** -0.5 : 1);

/** Logits [...,V] of the decoder's states [...,D]. */
export const logitsOf = (p: Seq2Seq, states: Tensor, c: T5Config): Tensor =>
  linear(states, p.head, { alpha: headScale(c) });

const lossOptions = (c: T5Config, denominator: number): CrossEntropyOptions => ({
  labelSmoothing: c.label_smoothing,
  zLoss: c.z_loss,
  denominator,
});

/**
 * Loss of states [B,T,D], without ever holding all the logits: summed over the wanted tokens and divided by a number, or
 * its gradient multiplied by a factor f32[1] on the device.
 */
export function lossOf(
  p: Seq2Seq,
  states: Tensor,
  labels: Tensor,
  c: T5Config,
  share: { denominator: number } | { factor: Tensor },
): CrossEntropy {
  const { denominator, factor } = { denominator: 1, factor: undefined, ...share };
  if (p.head.scales) return lossOfLogits(logitsOf(p, states, c), labels, c, denominator);
  return linearCrossEntropy(states, p.head, labels, { ...lossOptions(c, denominator), factor, alpha: headScale(c) });
}

/** The same of logits [B,T,V] that exist. */
export const lossOfLogits = (logits: Tensor, labels: Tensor, c: T5Config, denominator: number): CrossEntropy =>
  crossEntropy(logits, labels, lossOptions(c, denominator));
