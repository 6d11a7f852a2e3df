/**
 * The three layers of T5's blocks (Raffel et al. 2020, arXiv:1910.10683, section 2.1; Shazeer 2020, arXiv:2002.05202).
 *
 *   B batch   S source length   T target length   D d_model   H heads   K d_kv   F d_ff
 *
 * Each is x + drop(f(rms_norm(x))): the norm comes first, the residual stream is never normalised. No biases anywhere.
 */
import { activation, gatedActivation } from '../ops/activation/activation.ts';
import { gatedHalves } from '../ops/activation/gated_halves.ts';
import { attention } from '../ops/attention/attention.ts';
import { packedAttention } from '../ops/attention/attention_packed.ts';
import { appendToCache, attendCache, type Cache } from '../ops/attention_decode/attention_decode.ts';
import { feedForwardInt8 } from '../ops/feed_forward_int8/feed_forward_int8.ts';
import { linear } from '../ops/linear/linear.ts';
import { linearAdd } from '../ops/linear/linear_add.ts';
import { linearGroup } from '../ops/linear/linear_group.ts';
import { feedForwardFloat8, projectionsFloat8 } from '../ops/linear_float8/layers_float8.ts';
import { canGate, linearGated } from '../ops/linear_gated/linear_gated.ts';
import { isHalfOf } from '../ops/linear_half/linear_half.ts';
import { linearInt8 } from '../ops/linear_int8/linear_int8.ts';
import { linearInt8Add } from '../ops/linear_int8/linear_int8_add.ts';
import { linearRows } from '../ops/linear_rows/linear_rows.ts';
import { reshape } from '../ops/reshape.ts';
import { addRmsNorm } from '../ops/rms_norm/add_rms_norm.ts';
import { rmsNorm } from '../ops/rms_norm/rms_norm.ts';
import { wideRmsNorm } from '../ops/rms_norm/wide_rms_norm.ts';
import { widen } from '../ops/widen/widen.ts';
import { forget, isRecording } from '../tensor/autograd.ts';
import { discard } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { feedForwardKind } from './config.ts';
import { project, projects } from './lora.ts';
import type { Attention, FeedForward } from './parameter_tree.ts';
import { drop, type Pass, places } from './pass.ts';
import type { PositionBias, StepPositions } from './positions.ts';

/** Segment numbers, int32: a query sees the keys of its own; below 0 is padding. Without query's, all keys from 0 on. */
export interface Segments {
  query: Tensor | undefined; // [B, queries]
  key: Tensor | undefined; // [B, keys]
}

/**
 * The residual stream [B,S,D]: x, plus the last layer's output where that is still to be added: the next norm does it. A wide
 * stream is in float32 beside layers in 16 bits, which add to it in place.
 */
export interface Stream {
  x: Tensor;
  added?: Tensor;
}

/**
 * The stream of embedded tokens: wide in inference, but for what adapters add. What layers put out exceeds float16 in some
 * checkpoints of T5, and is coarse in bfloat16.
 */
export const streamOf = (x: Tensor, { random, adapters }: Pass): Stream => ({
  x: x.dtype === 'f32' || isRecording() || random || adapters ? x : widen(x),
});

const isWide = (x: Tensor, { norm }: { norm: Tensor }): boolean => x.dtype !== norm.dtype;

/** Whether layers add to the stream in place: to a wide one, and beside matrices in int8. */
const isAddedTo = (x: Tensor, p: { norm: Tensor; o: Tensor }): boolean => isWide(x, p) || p.o.dtype === 'i8';

/** The same of many rows: and beside matrices in float16, whose product for few rows is one that does not add. */
const isGrown = (x: Tensor, p: { norm: Tensor; o: Tensor }): boolean => isAddedTo(x, p) || isHalfOf(x, [p.o]);

interface Projected {
  x: Tensor;
  projected: Tensor[];
}

/** The stream's value and projections of its norm, for many rows: of matrices in int8 in bfloat16, which attention reads. */
function normedProjections(p: Attention, stream: Stream, weights: readonly Tensor[], pass: Pass): Projected {
  if (p.o.dtype === 'i8') return { x: stream.x, projected: projectedInt8(p, stream, weights, pass) };
  if (p.o.dtype === 'f8' && isWide(stream.x, p))
    return { x: stream.x, projected: projectionsFloat8(stream.x, p.norm, weights, pass.config.layer_norm_epsilon) };
  const { x, h } = normalise(stream, p.norm, pass);
  const all = isWide(x, p) && p.qkv && weights.length === 3;
  const projected = all ? linearGroup(h, p.qkv!) : projects(h, weights, pass);
  discard(h);
  forgetIfLean(pass, h);
  return { x, projected };
}

/** The same of a few rows. */
function normedRows(p: Attention, stream: Stream, weights: readonly Tensor[], pass: Pass): Projected {
  if (p.o.scales) return { x: stream.x, projected: projectedInt8(p, stream, weights, pass) };
  const { x, h } = normalise(stream, p.norm, pass);
  return { x, projected: linearRows(h, weights) };
}

const projectedInt8 = ({ norm }: Attention, { x }: Stream, weights: readonly Tensor[], { config }: Pass): Tensor[] =>
  linearInt8(x, weights, 1, { norm, eps: config.layer_norm_epsilon, type: 'bf16' });

/** The stream's value and its norm. */
export function normalise({ x, added }: Stream, weight: Tensor, { config }: Pass): { x: Tensor; h: Tensor } {
  if (x.dtype !== weight.dtype) return { x, h: wideRmsNorm(x, weight, config.layer_norm_epsilon) };
  if (!added) return { x, h: rmsNorm(x, weight, config.layer_norm_epsilon) };
  const { sum, normed } = addRmsNorm(x, added, weight, config.layer_norm_epsilon);
  forget(added);
  return { x: sum, h: normed };
}

export interface SelfAttentionOptions {
  positions: PositionBias;
  segments: Segments;
  causal: boolean;
  /** First random stream of the block. */
  site: number;
}

/** x [B,S,D] plus its attention to itself. */
export function selfAttentionLayer(p: Attention, stream: Stream, options: SelfAttentionOptions, pass: Pass): Stream {
  const { positions, segments, causal, site } = options;
  const group = pass.config.position_encoding_type === 'rope' ? undefined : packed(p.qkv, pass);
  const { x, projected } = normedProjections(p, stream, group ? [group] : [p.q, p.k, p.v], pass);
  const how = {
    ...positions.attention,
    querySegments: segments.query,
    keySegments: segments.key,
    causal,
    ...probabilities(site + places.selfProbabilities, pass),
  };
  let y: Tensor;
  if (group) {
    const qkv = inParts(projected[0]!, 3, pass);
    y = packedAttention(qkv, qkv, how);
    discard(qkv);
  } else {
    const [q, k, v] = projected.map((t) => splitHeads(t, pass)) as [Tensor, Tensor, Tensor];
    const [query, key] = [positions.rotate(q, 'query'), positions.rotate(k, 'key')];
    y = attention(query, key, v, how);
    discard(q, k, v, query, key);
  }
  if (isGrown(x, p)) return widened(x, mergeHeads(y), p.o);
  const out = project(mergeHeads(y), p.o, pass);
  discard(y);
  return { x, added: drop(out, site + places.selfOutput, pass) };
}

/** `selfAttentionLayer` of one new token per row, x [1,R,D], whose keys and values join the caches at their positions. */
export function selfAttentionStep(
  p: Attention,
  stream: Stream,
  cache: Cache,
  { position, origins, bias, rotate }: StepPositions,
  pass: Pass,
): Stream {
  const { x, projected } = normedRows(p, stream, [p.q, p.k, p.v], pass);
  const [q, k, v] = projected.map((t) => splitHeads(t, pass)) as [Tensor, Tensor, Tensor];
  appendToCache(cache, rotate(k, 'key'), v, position);
  const y = attendCache(rotate(q, 'query'), cache, { position, origins, bias, scale: pass.config.attention_scale });
  return isAddedTo(x, p) ? widened(x, mergeHeads(y), p.o) : { x, added: linearRows(mergeHeads(y), [p.o])[0]! };
}

/** Keys and values of the encoder's states [B,S,D] for cross-attention, [B,S,H,K] each. */
export function crossKeysValues(p: Attention, states: Tensor, pass: Pass): { k: Tensor; v: Tensor } {
  const weights = [p.k, p.v];
  const projected = p.k.scales ? linearInt8(states, weights, 1, { type: 'bf16' }) : projects(states, weights, pass);
  const [k, v] = projected.map((t) => splitHeads(t, pass)) as [Tensor, Tensor];
  return { k, v };
}

/** x [B,T,D] plus its attention to the encoder's `states` [B,S,D]. T5 has no positions here. */
export function crossAttentionLayer(
  p: Attention,
  stream: Stream,
  states: Tensor,
  { segments, site }: { segments: Segments; site: number },
  pass: Pass,
): Stream {
  const { x, projected } = normedProjections(p, stream, [p.q], pass);
  const how = {
    querySegments: segments.query,
    keySegments: segments.key,
    ...probabilities(site + places.crossProbabilities, pass),
  };
  const group = packed(p.kv, pass);
  let y: Tensor;
  if (group) {
    const keysValues = () => inParts(linear(states, group), 2, pass);
    const kv = keysValues();
    y = packedAttention(inParts(projected[0]!, 1, pass), kv, how);
    if (pass.keysAgain) forget(kv, keysValues);
  } else {
    const keysValues = () => crossKeysValues(p, states, pass);
    const { k, v } = keysValues();
    y = attention(splitHeads(projected[0]!, pass), k, v, how);
    if (pass.keysAgain) {
      forget(k, () => keysValues().k);
      forget(v, () => keysValues().v);
    }
  }
  if (isGrown(x, p)) return widened(x, mergeHeads(y), p.o);
  return { x, added: drop(project(mergeHeads(y), p.o, pass), site + places.crossOutput, pass) };
}

/** `crossAttentionLayer` of one new token per row, x [1,R,D]; consecutive rows share a source's cache. */
export function crossAttentionStep(
  p: Attention,
  stream: Stream,
  cache: Cache,
  keySegments: Tensor | undefined,
  pass: Pass,
): Stream {
  const { x, projected } = normedRows(p, stream, [p.q], pass);
  const q = splitHeads(projected[0]!, pass);
  const y = attendCache(q, cache, { keySegments, scale: pass.config.attention_scale });
  return isAddedTo(x, p) ? widened(x, mergeHeads(y), p.o) : { x, added: linearRows(mergeHeads(y), [p.o])[0]! };
}

/** x [B,S,D] plus down(f(up(h))), or down(f(gate(h)) * up(h)) where gated. */
export function feedForwardLayer(p: FeedForward, stream: Stream, site: number, pass: Pass): Stream {
  if (p.down.dtype === 'i8') return inInt8(p, stream, pass);
  if (p.down.dtype === 'f8' && isWide(stream.x, p)) {
    feedForwardFloat8(stream.x, p, feedForwardKind(pass.config).activation, pass.config.layer_norm_epsilon);
    return { x: stream.x };
  }
  const { x, h } = normalise(stream, p.norm, pass);
  const f = hiddenOf(p, h, isWide(x, p), pass); // [B,S,F]
  discard(h);
  const y = drop(f, site + places.hidden, pass);
  if (y !== f) forget(f);
  if (isWide(x, p) || isHalfOf(x, [p.down])) return widened(x, y, p.down);
  const out = project(y, p.down, pass);
  discard(y);
  forgetIfLean(pass, h, y);
  return { x, added: drop(out, site + places.feedForwardOutput, pass) };
}

/** f(up(h)), or f(gate(h)) * up(h). */
function hiddenOf(p: FeedForward, h: Tensor, wide: boolean, pass: Pass): Tensor {
  const kind = feedForwardKind(pass.config).activation;
  if (p.gateUp?.needsGrad && !wide && !pass.adapters) return gatedHalves(linear(h, p.gateUp), kind);
  if (wide && p.gateUp && canGate(h, p.gateUp)) return linearGated(h, p.gateUp, kind);
  const [up, gate] = upAndGate(p, h, wide, pass);
  const f = gate ? gatedActivation(gate, up, kind) : activation(up, kind);
  discard(up, gate);
  return f;
}

function upAndGate(p: FeedForward, h: Tensor, wide: boolean, pass: Pass): [Tensor, Tensor?] {
  if (wide && p.gateUp) return linearGroup(h, p.gateUp).reverse() as [Tensor, Tensor];
  return projects(h, p.gate ? [p.up, p.gate] : [p.up], pass) as [Tensor, Tensor?];
}

/** Gives back what the backward functions of norms and activations make again as they go. */
function forgetIfLean({ lean }: Pass, ...tensors: readonly Tensor[]): void {
  if (lean) for (const t of tensors) if (t.needsGrad) forget(t);
}

/** The stream x after a layer that ends with `weight` on y and adds to it in place. */
function widened(x: Tensor, y: Tensor, weight: Tensor): Stream {
  if (weight.dtype === 'i8') linearInt8Add(y, weight, x);
  else linearAdd(y, weight, x);
  discard(y);
  return { x };
}

function inInt8(p: FeedForward, { x }: Stream, { config }: Pass): Stream {
  feedForwardInt8(x, p, feedForwardKind(config).activation, config.layer_norm_epsilon);
  return { x };
}

/** `feedForwardLayer` of one new token per row, x [1,R,D]. */
export function feedForwardStep(p: FeedForward, stream: Stream, pass: Pass): Stream {
  const kind = feedForwardKind(pass.config).activation;
  if (p.down.scales) return inInt8(p, stream, pass);
  const { x, h } = normalise(stream, p.norm, pass);
  const [up, gate] = linearRows(h, p.gate ? [p.up, p.gate] : [p.up]) as [Tensor, Tensor?];
  const y = gate ? gatedActivation(gate, up, kind) : activation(up, kind); // [1,R,F]
  return isWide(x, p) ? widened(x, y, p.down) : { x, added: linearRows(y, [p.down])[0]! };
}

/** The scale of attention's scores and the dropout of its probabilities. */
function probabilities(site: number, { config, random }: Pass) {
  return {
    scale: config.attention_scale,
    dropout: random && { rate: config.dropout_rate, rng: random.rng, site },
  };
}

/** A group of matrices that project as one while they are trained, or in float8, where attention takes the result as it is. */
const packed = (group: Tensor | undefined, { packs, adapters }: Pass): Tensor | undefined =>
  packs && !adapters && (group?.needsGrad || group?.dtype === 'f8') ? group : undefined;

/** [B,S,parts H K] -> [B,S,parts,H,K]. */
const inParts = (x: Tensor, parts: number, { config }: Pass): Tensor =>
  reshape(x, x.shape[0]!, x.shape[1]!, parts, config.num_heads, config.d_kv);

/** [B,S,H K] -> [B,S,H,K]. */
const splitHeads = (x: Tensor, { config }: Pass): Tensor =>
  reshape(x, x.shape[0]!, x.shape[1]!, config.num_heads, config.d_kv);

/** [B,S,H,K] -> [B,S,H K]. */
const mergeHeads = (x: Tensor): Tensor => reshape(x, x.shape[0]!, x.shape[1]!, x.shape[2]! * x.shape[3]!);
