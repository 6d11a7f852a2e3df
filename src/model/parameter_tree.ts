/** Parameters by their place in the model: what the functions of encoder.ts and decoder.ts take. Weights are [out,in]. */
import type { FireParameters } from '../ops/fire_bias/fire_bias.ts';
import type { Parameters } from '../tensor/parameters.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { feedForwardKind, type T5Config } from './config.ts';
import { embeddingName, type Stack } from './parameter_table.ts';

/** An attention layer's parameters, the norm in front of it included. */
export interface Attention {
  norm: Tensor; // [D]
  q: Tensor; // [H K, D]
  k: Tensor; // [H K, D]
  v: Tensor; // [H K, D]
  o: Tensor; // [D, H K]
  /** q, k and v as one, where they lie together. */
  qkv?: Tensor | undefined; // [3, H K, D]
  /** The last two of them. */
  kv?: Tensor | undefined; // [2, H K, D]
}

/** A feed-forward layer's parameters, the norm in front of it included. */
export interface FeedForward {
  norm: Tensor; // [D]
  /** The gate, where the layer is gated. */
  gate: Tensor | undefined; // [F, D]
  up: Tensor; // [F, D]
  down: Tensor; // [D, F]
  /** Gate and up as one, where they lie together. */
  gateUp?: Tensor | undefined; // [2, F, D]
}

/** FIRE's network, in the first block or in each. */
export type Fire = FireParameters;

/** What a block learns about positions; nothing where an earlier block's are shared. */
export interface Positions {
  table: Tensor | undefined; // [U, H]
  fire: Fire | undefined;
}

/** Parameters of a block of the encoder. */
export interface EncoderBlock {
  selfAttention: Attention;
  /** Learned positions that begin with this block. */
  positions: Positions;
  feedForward: FeedForward;
}

/** Parameters of a block of the decoder. */
export interface DecoderBlock extends EncoderBlock {
  crossAttention: Attention;
}

/** Parameters of an encoder or a decoder. */
export interface StackParameters<Block> {
  /** Token embedding, as a rule the same for both stacks. */
  embedding: Tensor; // [V, D]
  blocks: Block[];
  finalNorm: Tensor; // [D]
}

/** The encoder's parameters; `prefix` as the head's class has it. */
export function encoderParameters(p: Parameters, c: T5Config, prefix: string): StackParameters<EncoderBlock> {
  return {
    embedding: p.get(embeddingName(c, 'encoder', prefix)),
    blocks: Array.from({ length: c.num_layers }, (_, i) => block(p, c, `${prefix}encoder.block.${i}.layer`, 'encoder')),
    finalNorm: p.get(`${prefix}encoder.final_layer_norm.weight`),
  };
}

/** The decoder's parameters. @throws UsageError for a model without a decoder */
export function decoderParameters(p: Parameters, c: T5Config): StackParameters<DecoderBlock> {
  const blocks = Array.from({ length: c.num_decoder_layers }, (_, i) => {
    const path = `decoder.block.${i}.layer`;
    return { ...block(p, c, path, 'decoder'), crossAttention: attention(p, `${path}.1`, 'EncDecAttention') };
  });
  const embedding = p.get(embeddingName(c, 'decoder', ''));
  return { embedding, blocks, finalNorm: p.get('decoder.final_layer_norm.weight') };
}

function block(p: Parameters, c: T5Config, path: string, stack: Stack): EncoderBlock {
  return {
    selfAttention: attention(p, `${path}.0`, 'SelfAttention'),
    positions: positions(p, `${path}.0.SelfAttention`),
    feedForward: feedForward(p, c, `${path}.${stack === 'decoder' ? 2 : 1}`),
  };
}

function attention(p: Parameters, path: string, kind: 'SelfAttention' | 'EncDecAttention'): Attention {
  const name = (leaf: string) => `${path}.${kind}.${leaf}.weight`;
  const weight = (leaf: string) => p.get(name(leaf));
  return {
    norm: p.get(`${path}.layer_norm.weight`),
    ...{ q: weight('q'), k: weight('k'), v: weight('v'), o: weight('o') },
    // Lent parameters lie together once they are trained.
    get qkv() {
      return p.group(['q', 'k', 'v'].map(name));
    },
    get kv() {
      return p.group(['k', 'v'].map(name));
    },
  };
}

function feedForward(p: Parameters, c: T5Config, path: string): FeedForward {
  const { gated } = feedForwardKind(c);
  const name = (leaf: string) => `${path}.DenseReluDense.${leaf}.weight`;
  const weight = (leaf: string) => p.get(name(leaf));
  return {
    norm: p.get(`${path}.layer_norm.weight`),
    gate: gated ? weight('wi_0') : undefined,
    up: weight(gated ? 'wi_1' : 'wi'),
    down: weight('wo'),
    get gateUp() {
      return gated ? p.group(['wi_0', 'wi_1'].map(name)) : undefined;
    },
  };
}

function positions(p: Parameters, path: string): Positions {
  const table = `${path}.relative_attention_bias.weight`;
  const fire = (leaf: string) => p.get(`${path}.pe_encoding.${leaf}`);
  return {
    table: p.has(table) ? p.get(table) : undefined,
    fire: p.has(`${path}.pe_encoding.c`)
      ? {
          hidden: fire('mlp.0.weight'),
          hiddenBias: fire('mlp.0.bias'),
          output: fire('mlp.2.weight'),
          outputBias: fire('mlp.2.bias'),
          c: fire('c'),
          multiplier: fire('L_multiplier'),
        }
      : undefined,
  };
}
