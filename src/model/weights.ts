/** Parameters from a folder's files in Hugging Face's layouts, and to its model.safetensors. */
import { existsSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import type { Memory } from '../backend/backend.ts';
import { quantiseFloat8 } from '../ops/linear_float8/quantise_float8.ts';
import { PANEL } from '../ops/linear_int8/packed.ts';
import { quantiseRows } from '../ops/linear_int8/quantise_rows.ts';
import type { Parameters } from '../tensor/parameters.ts';
import { scope } from '../tensor/scope.ts';
import { Tensor } from '../tensor/tensor.ts';
import { FormatError, UsageError } from '../util/errors.ts';
import {
  adapterFile,
  adapterTensors,
  baseFolder,
  hasAdapters,
  isHead,
  withAdapters,
  writeAdapterConfig,
} from './adapter_files.ts';
import { type T5Config, transformersMajor } from './config.ts';
import { flashT5Name } from './flasht5_names.ts';
import { foldedReader, type Reader } from './fold_norms.ts';
import type { Adapters } from './lora.ts';
import type { MappedWeights } from './mapped_weights.ts';
import { type Architecture, HEAD, type ParameterSpec, prefixOf, SHARED } from './parameter_table.ts';
import { openSafetensors } from './safetensors.ts';
import { writeSafetensors } from './safetensors_write.ts';
import { type TensorFile, TensorShards, type TensorsOnDisk } from './tensors_on_disk.ts';
import { openTorchFile } from './torch_file.ts';

/** The weights' file in a model's folder. */
export const WEIGHTS_FILE = 'model.safetensors';

/** Elements handed over at a time. */
const CHUNK = 1 << 18;

/** What a folder's weights may be called, the first that is there counts; an index names several files. */
const layouts: [name: string, open: (path: string) => TensorsOnDisk][] = [
  [WEIGHTS_FILE, openSafetensors],
  [`${WEIGHTS_FILE}.index.json`, (path) => openShards(path, openSafetensors)],
  ['pytorch_model.bin', openTorchFile],
  ['pytorch_model.bin.index.json', (path) => openShards(path, openTorchFile)],
];

/** Opens a folder's weights. @throws UsageError if there are none, FormatError if they are damaged */
export function openWeights(folder: string): TensorsOnDisk {
  const found = layouts.find(([name]) => existsSync(join(folder, name)));
  if (!found && hasAdapters(folder)) return openAdapted(folder);
  if (!found)
    throw new UsageError(`${folder}: has no weights, expected one of ${layouts.map(([name]) => name).join(', ')}`);
  return found[1](join(folder, found[0]));
}

/** The weights of the model that a folder's adapters belong to, with these added. */
function openAdapted(folder: string): TensorsOnDisk {
  const base = openWeights(baseFolder(folder));
  try {
    return withAdapters(folder, base);
  } catch (error) {
    base.close();
    throw error;
  }
}

function openShards(index: string, open: (path: string) => TensorFile): TensorsOnDisk {
  const files: TensorFile[] = [];
  try {
    for (const name of new Set(shardOf(index).values())) {
      const path = join(dirname(index), name);
      if (!existsSync(path)) throw new UsageError(`${path}: not found, expected because ${index} names it`);
      files.push(open(path));
    }
    const shards = new TensorShards(index, files);
    for (const [tensor, name] of shardOf(index))
      if (!shards.entries.has(tensor)) throw new FormatError(`${index}: says that ${name} has ${tensor}, it has not`);
    return shards;
  } catch (error) {
    for (const file of files) file.close();
    throw error;
  }
}

/** File by tensor, from an index. @throws FormatError */
function shardOf(index: string): Map<string, string> {
  let map: unknown;
  try {
    map = (JSON.parse(readFileSync(index, 'utf8')) as { weight_map?: unknown }).weight_map;
  } catch (cause) {
    throw new FormatError(`${index}: not JSON: ${(cause as Error).message}`, { cause });
  }
  if (typeof map !== 'object' || map === null) throw new FormatError(`${index}: has no weight_map`);
  for (const [tensor, name] of Object.entries(map))
    if (typeof name !== 'string' || basename(name) !== name)
      throw new FormatError(`${index}: ${tensor} lies in ${JSON.stringify(name)}, expected a file beside the index`);
  return new Map(Object.entries(map as Record<string, string>));
}

/**
 * What the file says about shared embeddings where config.json may err. A head that differs from the embedding is not
 * tied: newer versions of transformers write "tied" into the configurations of models whose checkpoints are not.
 * Stacks whose embeddings differ do not share one. Nor do they in an encoder-decoder that transformers 5 saved with
 * tie_word_embeddings false: the class that it builds from such a configuration ties nothing and trains them apart.
 */
export function withSharing(config: T5Config, file: TensorsOnDisk): T5Config {
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

/** Whether two tensors of a file hold the same bytes. */
function equal(file: TensorsOnDisk, a: string, b: string): boolean {
  const { length, dtype } = file.entry(a);
  const other = file.entry(b);
  if (other.length !== length || other.dtype !== dtype) return false;
  if (other.position === file.entry(a).position && file.fileOf(a) && file.fileOf(a) === file.fileOf(b)) return true;
  for (let start = 0; start < length; start += CHUNK) {
    const count = Math.min(CHUNK, length - start);
    if (Buffer.compare(file.readBytes(a, start, count), file.readBytes(b, start, count)) !== 0) return false;
  }
  return true;
}

/**
 * The file's name for each parameter, undefined for those of a head that the file lacks or that is to be new. A backbone's names may lack
 * the prefix of the head's class, so that a pre-trained model can begin a classifier.
 * @throws FormatError if a parameter of the backbone is missing or any has another shape
 */
export function matchWeights(
  file: TensorsOnDisk,
  table: readonly ParameterSpec[],
  architecture: Architecture,
  { new_head = false }: { new_head?: boolean | undefined } = {},
): Map<string, string | undefined> {
  const sources = new Map<string, string | undefined>();
  for (const { name, shape } of table) {
    const source = new_head && isHead(name) ? undefined : sourceName(file, name, prefixOf(architecture));
    sources.set(name, source);
    if (source === undefined) {
      if (isHead(name)) continue;
      if (isOfDecoder(name) && ![...file.entries.keys()].some(isOfDecoder))
        throw new UsageError(
          `${file.path}: has no decoder, expected a model that writes; this one reads (classes, entities, answers, vectors)`,
        );
      throw new FormatError(`${file.path}: no tensor "${name}", expected [${shape}] by config.json`);
    }
    const found = file.entry(source).shape;
    const scalar = found.length === 0 && String(shape) === '1';
    if (!scalar && String(found) !== String(shape))
      throw new FormatError(`${file.path}: ${source} is [${found}], expected [${shape}] by config.json`);
  }
  return sources;
}

const isOfDecoder = (name: string) => /(^|\.)decoder\./.test(name);

/**
 * Fills the parameters that the file has and that are not lent, some rows at a time. `norms` says which projections take up
 * the scales of which norm.
 * @throws FormatError if a tensor is not of a float type
 */
export function loadWeights(
  file: TensorsOnDisk,
  mapped: MappedWeights,
  parameters: Parameters,
  sources: ReadonlyMap<string, string | undefined>,
  norms: ReadonlyMap<string, string> = new Map(),
): void {
  const folded = new Set(norms.values());
  for (const [name, source] of sources) {
    if (source === undefined || parameters.isLent(name)) continue;
    const tensor = parameters.get(name);
    if (folded.has(name)) {
      tensor.write(new Float32Array(tensor.length).fill(1));
      continue;
    }
    const norm = sources.get(norms.get(name) ?? '');
    const read = norm === undefined ? reader(file, mapped, source) : foldedReader(file, source, norm);
    const [rows, width] = tensor.scales ? [tensor.shape[0]!, tensor.shape[1]!] : [tensor.length, 1];
    const step = Math.max(1, Math.floor(CHUNK / width / PANEL)) * PANEL;
    for (let row = 0; row < rows; row += step) {
      const count = Math.min(step, rows - row);
      const part = tensor.part(row * width, count * width).view(count, width);
      part.scales = tensor.scales?.part(row, count);
      if (!part.scales) read(row, part);
      else
        scope(() => {
          const floats = Tensor.empty(tensor.backend, 'f32', part.shape);
          read(row * width, floats);
          const quantise = part.dtype === 'f8' ? quantiseFloat8 : quantiseRows;
          quantise(floats, part);
          return undefined;
        });
    }
  }
}

/** Fills tensors with elements of a file's tensor, from one on: on the device where that has mapped the file. */
function reader(file: TensorsOnDisk, mapped: MappedWeights, source: string): Reader {
  const found = mapped.tensor(source);
  if (!found) return (start, into) => into.write(file.readFloats(source, start, into.length));
  return (start, into) => {
    const part: Memory = found.memory.slice(start, into.length);
    into.backend.convert!(into.memory, part);
    found.file.forget(part);
  };
}

/** The file's name of a parameter: as it is, with or without prefix, or another name of the shared embedding. */
function sourceName(file: TensorsOnDisk, name: string, prefix: string): string | undefined {
  const bare = name.slice(name.startsWith(prefix) ? prefix.length : 0);
  const names = [name, bare, `transformer.${bare}`, flashT5Name(bare)];
  if (bare === SHARED) names.push('encoder.embed_tokens.weight', 'transformer.encoder.embed_tokens.weight');
  if (bare.endsWith('embed_tokens.weight')) names.push(SHARED, `transformer.${SHARED}`);
  return names.find((candidate) => file.entries.has(candidate));
}

/** Writes every parameter in its own type. @throws UsageError if the folder cannot be written or weights are in int8 or float8 */
export async function saveWeights(folder: string, parameters: Parameters): Promise<void> {
  const { compact } = parameters;
  if (compact === 'i8' || compact === 'f8')
    throw new UsageError(
      `${folder}: weights in ${compact === 'i8' ? 'int8' : 'float8'} are not saved, expected float32, bfloat16 or float16`,
    );
  const all = [...parameters.all].map(([name, { shape }]) => ({ name, stored: name, shape }));
  await writeParameters(join(folder, WEIGHTS_FILE), parameters, all);
}

/** Writes a model's adapters and head in their own type, and what they belong to. @throws UsageError */
export async function saveAdapters(folder: string, parameters: Parameters, adapters: Adapters): Promise<void> {
  await writeParameters(adapterFile(folder), parameters, adapterTensors(parameters));
  writeAdapterConfig(folder, adapters, parameters);
}

/** Reads back what `saveAdapters` wrote, for a model of the same shape. @throws FormatError naming what differs */
export function loadAdapters(folder: string, parameters: Parameters): void {
  const file = openSafetensors(adapterFile(folder));
  try {
    for (const { name, stored, shape } of adapterTensors(parameters)) {
      const found = file.entry(stored).shape;
      if (String(found) !== String(shape))
        throw new FormatError(`${file.path}: ${stored} is [${found}], expected [${shape}] by the settings`);
      parameters.get(name).write(file.readFloats(stored));
    }
  } finally {
    file.close();
  }
}

async function writeParameters(
  path: string,
  parameters: Parameters,
  chosen: readonly { name: string; stored: string; shape: readonly number[] }[],
): Promise<void> {
  const types = { f32: 'F32', bf16: 'BF16', f16: 'F16' } as const;
  const tensors = chosen.map(({ name, stored, shape }) => ({
    name: stored,
    dtype: types[parameters.get(name).dtype as keyof typeof types],
    shape,
    read: async (start: number, count: number) => {
      const host = await parameters.get(name).part(start, count).read();
      return new Uint8Array(host.buffer, host.byteOffset, host.byteLength);
    },
  }));
  await writeSafetensors(path, tensors);
}
