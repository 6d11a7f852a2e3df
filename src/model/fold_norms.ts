/**
 * Norms folded into the projections that read them: W (g * h) = (W diag(g)) h, so that column j of a weight is multiplied by the
 * norm's scale g[j] and the norm keeps a scale of 1.
 *
 * Cross-attention's norm is read by its queries alone: keys and values read the encoder's states. The stacks' final norms stay, since
 * the head may be the embedding.
 */
import type { Tensor } from '../tensor/tensor.ts';
import type { ParameterSpec } from './parameter_table.ts';
import type { TensorsOnDisk } from './tensors_on_disk.ts';

const NORM = /\.layer_norm\.weight$/;
const READERS = /^\.(SelfAttention\.[qkv]|EncDecAttention\.q|DenseReluDense\.(wi|wi_0|wi_1))\.weight$/;

/** By the name of a projection, that of the norm it reads. */
export function normsOf(table: readonly ParameterSpec[]): ReadonlyMap<string, string> {
  const norms = new Map<string, string>();
  for (const { name } of table) {
    if (!NORM.test(name)) continue;
    const layer = name.replace(NORM, '');
    for (const reader of table)
      if (reader.name.startsWith(`${layer}.`) && READERS.test(reader.name.slice(layer.length)))
        norms.set(reader.name, name);
  }
  return norms;
}

/** Fills a tensor with elements of one of a file's, from one on. */
export type Reader = (start: number, into: Tensor) => void;

/** Reads a projection with the scales [D] of its norm folded in. */
export function foldedReader(file: TensorsOnDisk, source: string, norm: string): Reader {
  const scales = file.readFloats(norm, 0, file.entry(norm).length).slice();
  return (start, into) => {
    const values = file.readFloats(source, start, into.length);
    into.write(values.map((value, i) => value * scales[(start + i) % scales.length]!));
  };
}
