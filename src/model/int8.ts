/**
 * Weights in int8: the matrices of attention, feed-forward and the language model's head, one scale per output channel,
 * weight = scale * int8, scale = max |weight| / 127. Embeddings, norms and biases stay in float32.
 */
import type { Backend } from '../backend/backend.ts';
import { STEPS } from '../ops/linear_int8/linear_int8.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { UsageError } from '../util/errors.ts';
import { roundToEven } from '../util/round.ts';
import { type Architecture, HEAD, type ParameterSpec, SHARED } from './parameter_table.ts';
import type { TensorsOnDisk } from './tensors_on_disk.ts';

/** Elements quantised at a time. */
const CHUNK = 1 << 20;

const isProjection = (name: string) => /\.(q|k|v|o|wi|wi_0|wi_1|wo)\.weight$/.test(name) || name === HEAD;

/** A model's parameters by type. A head that shares its matrix with the embedding becomes a matrix of its own. */
export function splitForInt8(table: readonly ParameterSpec[], architecture: Architecture) {
  const matrices = table.filter(({ name }) => isProjection(name));
  const tied = architecture === 'conditional_generation' && !matrices.some(({ name }) => name === HEAD);
  if (tied) matrices.push({ ...table.find(({ name }) => name === SHARED)!, name: HEAD });
  return { floats: table.filter(({ name }) => !isProjection(name)), matrices };
}

/** @throws UsageError where int8 does not run */
export function checkInt8({ name }: Backend): void {
  if (name === 'cuda')
    throw new UsageError("dtype: int8 runs on the CPU only, the device is cuda; expected bfloat16, or device: 'cpu'");
}

/** Fills an int8 parameter [O,I] from a file's tensor, some rows at a time. @throws FormatError if that is not of floats */
export function loadInt8(file: TensorsOnDisk, source: string, matrix: Tensor): void {
  const [O, I] = matrix.shape as [number, number];
  const step = Math.max(1, Math.floor(CHUNK / I));
  for (let row = 0; row < O; row += step) {
    const rows = Math.min(step, O - row);
    const quantised = quantiseRows(file.readFloats(source, row * I, rows * I), I);
    matrix.part(row * I, rows * I).write(quantised.values);
    matrix.scales!.part(row, rows).write(quantised.scales);
  }
}

/** Rows of I numbers as int8 and what a step of each is worth. */
export function quantiseRows(floats: Float32Array, I: number): { values: Int8Array; scales: Float32Array } {
  const values = new Int8Array(floats.length);
  const scales = new Float32Array(floats.length / I);
  for (let row = 0; row < scales.length; row++) {
    let most = 0;
    for (let i = row * I; i < (row + 1) * I; i++) most = Math.max(most, Math.abs(floats[i]!));
    scales[row] = most / STEPS;
    if (!(most > 0 && most < Number.POSITIVE_INFINITY)) continue; // zeros, or not a number: the scale says which
    const inverse = STEPS / most;
    for (let i = row * I; i < (row + 1) * I; i++) values[i] = roundToEven(floats[i]! * inverse);
  }
  return { values, scales };
}
