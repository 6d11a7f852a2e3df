/** What one pass through the model needs besides parameters and states. */
import { dropout } from '../ops/dropout/dropout.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { T5Config } from './config.ts';
import type { Adapters } from './lora.ts';

/** Seed and step (of micro-batches) that all of a training pass's random numbers are a function of. */
export interface Random {
  seed: number;
  step: number;
}

export interface Pass {
  config: T5Config;
  /** Randomness while training, with the same numbers on the device, int32 [2]; absent: nothing is random. */
  random?: Random & { rng: Tensor };
  /** Whether blocks are computed again in the backward pass instead of kept. */
  checkpointing: boolean;
  /** What is learnt beside the matrices, where a model has adapters. */
  adapters?: Adapters | undefined;
  /** Whether what is quickly computed again is not kept for the backward pass. */
  lean?: boolean;
  /** Whether keys and values of cross-attention are computed again instead of kept. */
  keysAgain?: boolean;
  /** Whether the device has attention of queries, keys and values that lie in one row. */
  packs?: boolean;
}

/** Where a block may drop elements: a random stream each. The block's own number is added by `siteOf`. */
export const places = {
  selfProbabilities: 0,
  selfOutput: 1,
  crossProbabilities: 2,
  crossOutput: 3,
  hidden: 4,
  feedForwardOutput: 5,
  embedding: 6,
  finalNorm: 7,
} as const;

/** Streams of one block, and of one stack. */
const BLOCK = 8;
const STACK = 1 << 16;

/** The first site of block i of a stack; embedding and final norm count as block 0's. */
export const siteOf = (stack: 'encoder' | 'decoder' | 'head' | 'adapter', block: number): number =>
  ['encoder', 'decoder', 'head', 'adapter'].indexOf(stack) * STACK + block * BLOCK;

/** x with dropout if this pass is random. */
export function drop(x: Tensor, site: number, pass: Pass, rate = pass.config.dropout_rate): Tensor {
  return pass.random && rate > 0 ? dropout(x, pass.random.rng, rate, site) : x;
}
