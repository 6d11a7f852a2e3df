/**
 * In which types a model's parameters are stored.
 *
 *   float32, bfloat16   parameters and activations
 *   float16             on a GPU the same; on the CPU matrices, embeddings and a decoding's keys and values, other activations are
 *                       float32, which cannot overflow
 *   int8                on the CPU, for inference: the matrices of attention, feed-forward and the language model's head, one scale
 *                       per output channel, weight = scale * int8, scale = max |weight| / 127; the rest and activations are float32
 *   float8              for inference: the matrices of the encoder's attention and feed-forward layers in e4m3, one scale per output
 *                       channel, scale = max |weight| / 448; the rest and activations are bfloat16 on a GPU, float32 elsewhere. Decoding is
 *                       bound by other things than these products, so the decoder is left as it is
 */
import type { Backend } from '../backend/backend.ts';
import type { FloatType } from '../backend/dtype.ts';
import { FLOAT8_MULTIPLE } from '../ops/linear_float8/linear_float8.cuda.ts';
import type { Elsewhere } from '../tensor/parameters.ts';
import { UsageError } from '../util/errors.ts';
import { type Architecture, HEAD, isEmbedding, type ParameterSpec, SHARED } from './parameter_table.ts';

/** Types of a model's parameters. */
export const dtypes = ['float32', 'bfloat16', 'float16', 'int8', 'float8'] as const;
/** A type of a model's parameters, by the name that users write. */
export type ModelDtype = (typeof dtypes)[number];

/** What a dtype's activations are, and its parameters but for matrices that lie apart. */
const types: Record<string, FloatType> = {
  float32: 'f32',
  bfloat16: 'bf16',
  float16: 'f16',
  int8: 'f32',
  float8: 'f32',
};

/** A model's parameters by type. */
export interface Storage {
  dtype: FloatType;
  floats: readonly ParameterSpec[];
  compact?: Elsewhere['compact'];
}

/** @throws UsageError for unknown types, and for int8 on a GPU */
export function storageOf(
  wanted: string,
  table: readonly ParameterSpec[],
  architecture: Architecture,
  { name: device }: Backend,
): Storage {
  const dtype = wanted === 'float8' && device === 'cuda' ? 'bf16' : types[wanted];
  if (!dtype) throw new UsageError(`dtype: is ${JSON.stringify(wanted)}, expected ${dtypes.join(', ')}`);
  if (wanted === 'int8') {
    if (device === 'cuda')
      throw new UsageError("dtype: int8 runs on the CPU only, the device is cuda; expected bfloat16, or device: 'cpu'");
    return storeInt8(table, architecture);
  }
  if (wanted === 'float8') {
    const inFloat8 = ({ name, shape }: ParameterSpec) =>
      /(^|\.)encoder\.block\./.test(name) && isProjection(name) && shape.every((n) => n % FLOAT8_MULTIPLE === 0);
    return {
      dtype,
      floats: table.filter((p) => !inFloat8(p)),
      compact: { dtype: 'f8', matrices: table.filter(inFloat8) },
    };
  }
  if (wanted !== 'float16' || device !== 'cpu') return { dtype, floats: table };
  const isMatrix = ({ name }: ParameterSpec) => isProjection(name) || isEmbedding(name);
  return {
    dtype: 'f32',
    floats: table.filter((p) => !isMatrix(p)),
    compact: { dtype: 'f16', matrices: table.filter(isMatrix) },
  };
}

const isProjection = (name: string) => /\.(q|k|v|o|wi|wi_0|wi_1|wo)\.weight$/.test(name) || name === HEAD;

/** A head that shares its matrix with the embedding becomes a matrix of its own. */
function storeInt8(table: readonly ParameterSpec[], architecture: Architecture): Storage {
  const matrices = table.filter(({ name }) => isProjection(name));
  const tied = architecture === 'conditional_generation' && !matrices.some(({ name }) => name === HEAD);
  if (tied) matrices.push({ ...table.find(({ name }) => name === SHARED)!, name: HEAD });
  return { dtype: 'f32', floats: table.filter(({ name }) => !isProjection(name)), compact: { dtype: 'i8', matrices } };
}
