/** Parameters from and to a folder's model.safetensors, under Hugging Face's names. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Parameters } from '../tensor/parameters.ts';
import { Tensor } from '../tensor/tensor.ts';
import { FormatError, UsageError } from '../util/errors.ts';
import { type Architecture, type ParameterSpec, prefixOf } from './parameter_table.ts';
import { SafetensorsFile, type SafetensorsType } from './safetensors.ts';
import { writeSafetensors } from './safetensors_write.ts';

export const WEIGHTS_FILE = 'model.safetensors';

/** Elements handed over at a time. */
const CHUNK = 1 << 22;

/** Opens a folder's weights. @throws UsageError if there are none, FormatError if they are damaged */
export function openWeights(folder: string): SafetensorsFile {
  const path = join(folder, WEIGHTS_FILE);
  if (!existsSync(path)) throw new UsageError(`${folder}: has no ${WEIGHTS_FILE}, expected a saved model`);
  return SafetensorsFile.open(path);
}

/**
 * Whether the file's lm_head differs from its embedding: then the head is not tied, whatever config.json says. Newer
 * versions of transformers write "tied" into the configurations of models whose checkpoints are not.
 */
export function hasOwnHead(file: SafetensorsFile): boolean {
  const head = file.entries.get('lm_head.weight');
  const shared = file.entries.get('shared.weight');
  if (!head || !shared) return head !== undefined;
  for (let start = 0; start < head.length; start += CHUNK) {
    const count = Math.min(CHUNK, head.length - start);
    const other = shared.length === head.length && file.readBytes('shared.weight', start, count);
    if (!other || Buffer.compare(file.readBytes('lm_head.weight', start, count), other) !== 0) return true;
  }
  return false;
}

/**
 * Fills the parameters from a file. A backbone's names may lack the prefix of the head's class, so that a pre-trained
 * model can begin a classifier; parameters of the head that the file lacks keep their values and are returned.
 * @throws FormatError if a parameter of the backbone is missing or has another shape
 */
export function loadWeights(
  file: SafetensorsFile,
  parameters: Parameters,
  table: readonly ParameterSpec[],
  architecture: Architecture,
): string[] {
  const missing: string[] = [];
  for (const { name, shape } of table) {
    const source = sourceName(file, name, prefixOf(architecture));
    if (source === undefined) {
      const isHead = name.startsWith('classif') || name.startsWith('qa_outputs');
      if (!isHead) throw new FormatError(`${file.path}: no tensor "${name}", expected [${shape}] by config.json`);
      missing.push(name);
      continue;
    }
    const found = file.entry(source).shape;
    if (String(found) !== String(shape) && !(shape.length === 1 && shape[0] === 1 && found.length === 0))
      throw new FormatError(`${file.path}: ${source} is [${found}], expected [${shape}] by config.json`);
    const { backend, memory, length } = parameters.get(name);
    for (let start = 0; start < length; start += CHUNK) {
      const values = file.readFloats(source, start, Math.min(CHUNK, length - start));
      new Tensor(backend, memory.slice(start, values.length), [values.length]).write(values);
    }
  }
  return missing;
}

/** The file's name of a parameter: as it is, with or without prefix, or another name of the shared embedding. */
function sourceName(file: SafetensorsFile, name: string, prefix: string): string | undefined {
  const bare = name.slice(name.startsWith(prefix) ? prefix.length : 0);
  const names = [name, bare, `transformer.${bare}`];
  if (bare === 'shared.weight') names.push('encoder.embed_tokens.weight', 'transformer.encoder.embed_tokens.weight');
  return names.find((candidate) => file.entries.has(candidate));
}

/** Writes every parameter in its own type. @throws UsageError if the folder cannot be written */
export async function saveWeights(folder: string, parameters: Parameters): Promise<void> {
  const dtype: SafetensorsType = parameters.dtype === 'f32' ? 'F32' : 'BF16';
  const tensors = parameters.places.map(({ name, shape }) => ({
    name,
    dtype,
    shape,
    read: async (start: number, count: number) => {
      const { backend, memory } = parameters.get(name);
      const host = await new Tensor(backend, memory.slice(start, count), [count]).read();
      return new Uint8Array(host.buffer, host.byteOffset, host.byteLength);
    },
  }));
  await writeSafetensors(join(folder, WEIGHTS_FILE), tensors);
}
