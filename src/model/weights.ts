/** Parameters from and to a folder's model.safetensors, under Hugging Face's names. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Parameters } from '../tensor/parameters.ts';
import { Tensor } from '../tensor/tensor.ts';
import { FormatError, UsageError } from '../util/errors.ts';
import type { T5Config } from './config.ts';
import { type Architecture, type ParameterSpec, prefixOf } from './parameter_table.ts';
import { SafetensorsFile } from './safetensors.ts';
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
 * What the file says about shared embeddings where config.json may err. A head that differs from the embedding is not
 * tied: newer versions of transformers write "tied" into the configurations of models whose checkpoints are not.
 * Stacks whose embeddings differ do not share one. Nor do they in an encoder-decoder that transformers 5 saved with
 * tie_word_embeddings false: the class that it builds from such a configuration ties nothing and trains them apart.
 */
export function withSharing(config: T5Config, file: SafetensorsFile): T5Config {
  const has = (name: string) => file.entries.has(name);
  const tie = config.tie_word_embeddings && (!has(HEAD) || (has(SHARED) && equal(file, HEAD, SHARED)));
  const [encoder, decoder] = ['encoder.embed_tokens.weight', 'decoder.embed_tokens.weight'] as const;
  const differ = has(encoder) && has(decoder) && !equal(file, encoder, decoder);
  const apart = !tie && (differ || (!config.tie_word_embeddings && has(HEAD) && transformersMajor(config) >= 5));
  return {
    ...config,
    tie_word_embeddings: tie,
    share_input_embeddings: config.share_input_embeddings && !apart,
  };
}

/** Major version of the transformers that wrote a configuration, 0 if none did. */
function transformersMajor(config: T5Config): number {
  const { transformers_version } = config as { transformers_version?: unknown };
  return Number.parseInt(String(transformers_version), 10) || 0;
}

export const SHARED = 'shared.weight';
const HEAD = 'lm_head.weight';

/** Whether two tensors of a file hold the same bytes. */
function equal(file: SafetensorsFile, a: string, b: string): boolean {
  const { length, dtype } = file.entry(a);
  const other = file.entry(b);
  if (other.length !== length || other.dtype !== dtype) return false;
  for (let start = 0; start < length; start += CHUNK) {
    const count = Math.min(CHUNK, length - start);
    if (Buffer.compare(file.readBytes(a, start, count), file.readBytes(b, start, count)) !== 0) return false;
  }
  return true;
}

/**
 * The file's name for each parameter, undefined for those of a head that the file lacks. A backbone's names may lack
 * the prefix of the head's class, so that a pre-trained model can begin a classifier.
 * @throws FormatError if a parameter of the backbone is missing or any has another shape
 */
export function matchWeights(
  file: SafetensorsFile,
  table: readonly ParameterSpec[],
  architecture: Architecture,
): Map<string, string | undefined> {
  const sources = new Map<string, string | undefined>();
  for (const { name, shape } of table) {
    const source = sourceName(file, name, prefixOf(architecture));
    sources.set(name, source);
    if (source === undefined) {
      if (isHead(name)) continue;
      throw new FormatError(`${file.path}: no tensor "${name}", expected [${shape}] by config.json`);
    }
    const found = file.entry(source).shape;
    const scalar = found.length === 0 && String(shape) === '1';
    if (!scalar && String(found) !== String(shape))
      throw new FormatError(`${file.path}: ${source} is [${found}], expected [${shape}] by config.json`);
  }
  return sources;
}

const isHead = (name: string) => name.startsWith('classif') || name.startsWith('qa_outputs');

/** Fills the parameters that the file has. @throws FormatError if a tensor is not of a float type */
export function loadWeights(
  file: SafetensorsFile,
  parameters: Parameters,
  sources: ReadonlyMap<string, string | undefined>,
): void {
  for (const [name, source] of sources) {
    if (source === undefined) continue;
    const { backend, memory, length } = parameters.get(name);
    for (let start = 0; start < length; start += CHUNK) {
      const values = file.readFloats(source, start, Math.min(CHUNK, length - start));
      new Tensor(backend, memory.slice(start, values.length), [values.length]).write(values);
    }
  }
}

/** The file's name of a parameter: as it is, with or without prefix, or another name of the shared embedding. */
function sourceName(file: SafetensorsFile, name: string, prefix: string): string | undefined {
  const bare = name.slice(name.startsWith(prefix) ? prefix.length : 0);
  const names = [name, bare, `transformer.${bare}`];
  if (bare === SHARED) names.push('encoder.embed_tokens.weight', 'transformer.encoder.embed_tokens.weight');
  if (bare.endsWith('embed_tokens.weight')) names.push(SHARED, `transformer.${SHARED}`);
  return names.find((candidate) => file.entries.has(candidate));
}

/** Writes every parameter in its own type. @throws UsageError if the folder cannot be written */
export async function saveWeights(folder: string, parameters: Parameters): Promise<void> {
  const dtype = ({ f32: 'F32', bf16: 'BF16', f16: 'F16' } as const)[parameters.dtype];
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
