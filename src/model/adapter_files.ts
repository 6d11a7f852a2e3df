/**
 * Adapters in files, in PEFT's layout: adapter_config.json and adapter_model.safetensors with A and B of every adapted matrix
 * and the whole head. Beside them lies config.json. Such a folder can be opened as a model: the weights are those of the
 * model that it names, with the products added.
 *
 * Source: the documentation of PEFT's checkpoint format (huggingface.co/docs/peft/developer_guides/checkpoint).
 */
import { existsSync, readFileSync } from 'node:fs';
import { isAbsolute, join, resolve } from 'node:path';
import { cachedFolder } from '../hub/hub.ts';
import type { Parameters } from '../tensor/parameters.ts';
import { toBfloat16 } from '../util/bfloat16.ts';
import { FormatError, UsageError } from '../util/errors.ts';
import { toFloat16 } from '../util/float16.ts';
import { writeWhole } from '../util/new_file.ts';
import { flashT5Name } from './flasht5_names.ts';
import { type Adapters, isAdapter } from './lora.ts';
import { openSafetensors } from './safetensors.ts';
import type { TensorEntry, TensorFile, TensorsOnDisk } from './tensors_on_disk.ts';

const CONFIG = 'adapter_config.json';
const WEIGHTS = 'adapter_model.safetensors';
/** What PEFT puts before the model's own names. */
const PREFIX = 'base_model.model.';

/** Whether a folder holds adapters. */
export const hasAdapters = (folder: string): boolean => existsSync(join(folder, CONFIG));

/** What is kept of a model with adapters: these, and its head. */
export const inAdapterFile = (name: string): boolean => isAdapter(name) || isHead(name);

/** Whether a parameter belongs to a head that fine-tuning makes. */
export const isHead = (name: string): boolean => name.startsWith('classif') || name.startsWith('qa_outputs');

/** The parameters that an adapter file holds, by its names. */
export const adapterTensors = (parameters: Parameters) =>
  parameters.places
    .filter(({ name }) => inAdapterFile(name))
    .map((place) => ({ ...place, stored: PREFIX + place.name }));

/** Where a model's adapters are in its folder. */
export const adapterFile = (folder: string): string => join(folder, WEIGHTS);

/** Writes adapter_config.json. */
export function writeAdapterConfig(folder: string, { options, base }: Adapters, parameters: Parameters): void {
  const { rank, alpha, dropout, targets } = options;
  const heads = parameters.places.filter(({ name }) => isHead(name)).map(({ name }) => name.split('.')[0]!);
  const content = {
    peft_type: 'LORA',
    base_model_name_or_path: base,
    r: rank,
    lora_alpha: alpha,
    lora_dropout: dropout,
    target_modules: targets,
    modules_to_save: heads.length > 0 ? [...new Set(heads)] : null,
    bias: 'none',
    inference_mode: true,
  };
  writeWhole(join(folder, CONFIG), `${JSON.stringify(content, null, 2)}\n`);
}

/** What adapter_config.json says. @throws FormatError for what this package does not have */
function readAdapterConfig(folder: string): { base: string; scale: number } {
  const path = join(folder, CONFIG);
  let config: Record<string, unknown>;
  try {
    config = JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>;
  } catch (cause) {
    throw new FormatError(`${path}: is not JSON: ${(cause as Error).message}`, { cause });
  }
  const { peft_type, base_model_name_or_path: base, r, lora_alpha, use_rslora, use_dora, bias = 'none' } = config ?? {};
  const expect = (key: string, holds: boolean, expected: string) => {
    if (!holds) throw new FormatError(`${path}: ${key} is ${JSON.stringify(config?.[key])}, expected ${expected}`);
  };
  expect('peft_type', peft_type === 'LORA', '"LORA"');
  expect('base_model_name_or_path', typeof base === 'string' && base !== '', "a model's folder or name");
  expect('r', typeof r === 'number' && r > 0, 'a positive number');
  expect('lora_alpha', typeof lora_alpha === 'number', 'a number');
  expect('use_dora', !use_dora, 'false');
  expect('bias', bias === 'none', '"none"');
  for (const key of ['rank_pattern', 'alpha_pattern'])
    expect(key, Object.keys((config[key] as object | undefined) ?? {}).length === 0, 'an empty object');
  const rank = r as number;
  return { base: base as string, scale: (lora_alpha as number) / (use_rslora ? Math.sqrt(rank) : rank) };
}

/** The model that a folder's adapters belong to: its folder, or its name where it is not there. @throws FormatError */
export function baseOf(folder: string): string {
  const { base } = readAdapterConfig(folder);
  const beside = isAbsolute(base) ? base : resolve(folder, base);
  return existsSync(beside) && !existsSync(base) ? beside : base;
}

/** The folder of the base model. @throws UsageError if it is not there */
export function baseFolder(folder: string): string {
  const base = baseOf(folder);
  const found = cachedFolder(base);
  if (found === undefined)
    throw new UsageError(
      `${join(folder, CONFIG)}: base_model_name_or_path is "${base}", which is not there; expected the model that the ` +
        'adapters were trained on: write its place there',
    );
  return found;
}

/** What `base` holds, with the folder's adapters added. Closes `base` with it. @throws FormatError, UsageError */
export function withAdapters(folder: string, base: TensorsOnDisk): TensorsOnDisk {
  const { scale } = readAdapterConfig(folder);
  const file = openSafetensors(adapterFile(folder));
  try {
    return new MergedTensors(base, file, scale);
  } catch (error) {
    file.close();
    throw error;
  }
}

interface Product {
  a: Float32Array; // [rank,I]
  b: Float32Array; // [O,rank]
  rank: number;
  columns: number;
}

/** Tensors of a model with products added to some, and others in their place. */
class MergedTensors implements TensorsOnDisk {
  readonly path: string;
  readonly entries: ReadonlyMap<string, TensorEntry>;
  private readonly base: TensorsOnDisk;
  private readonly file: TensorsOnDisk;
  private readonly scale: number;
  private readonly products = new Map<string, Product>();
  /** Tensors of the adapter file by their names in the model. */
  private readonly replaced = new Map<string, string>();

  /** @throws FormatError for adapters that do not fit the model */
  constructor(base: TensorsOnDisk, file: TensorsOnDisk, scale: number) {
    this.path = file.path;
    this.base = base;
    this.file = file;
    this.scale = scale;
    const entries = new Map(base.entries);
    for (const [stored, entry] of file.entries) {
      const name = stored.startsWith(PREFIX) ? stored.slice(PREFIX.length) : stored;
      const [, path, part] = /^(.*)\.lora_([AB])\.weight$/.exec(name) ?? [];
      if (path === undefined) {
        this.replaced.set(name, stored);
        entries.set(name, entry);
      } else if (part === 'A') {
        const [target, product] = this.product(path, stored);
        this.products.set(target, product);
      }
    }
    const isDecoder = (name: string) => /(^|\.)decoder\./.test(name);
    // A head that was trained while no adapter touched the decoder reads the encoder: the decoder is no part of the model.
    if ([...this.replaced.keys()].some(isHead) && ![...this.products.keys()].some(isDecoder))
      for (const name of entries.keys()) if (isDecoder(name)) entries.delete(name);
    this.entries = entries;
  }

  private product(path: string, a: string): [string, Product] {
    const own = `${path}.weight`;
    const bare = own.replace(/^transformer\./, '');
    const target = [own, bare, `transformer.${bare}`, flashT5Name(bare)].find((name) => this.base.entries.has(name));
    if (target === undefined) throw new FormatError(`${this.path}: ${a}: ${this.base.path} has no "${own}"`);
    const b = a.replace('.lora_A.', '.lora_B.');
    const [rank, columns] = this.file.entry(a).shape as [number, number];
    const shape = this.base.entry(target).shape;
    const wanted = [String([rank, shape[1]]), String([shape[0], rank])];
    for (const [i, name] of [a, b].entries())
      if (String(this.file.entry(name).shape) !== wanted[i])
        throw new FormatError(
          `${this.path}: ${name} is [${this.file.entry(name).shape}], expected [${wanted[i]}] for ${target} [${shape}] of ${this.base.path}`,
        );
    return [target, { a: this.file.readFloats(a), b: this.file.readFloats(b), rank, columns }];
  }

  entry(name: string): TensorEntry {
    return this.entries.get(name) ?? this.base.entry(name);
  }

  fileOf(name: string): TensorFile | undefined {
    const stored = this.replaced.get(name);
    if (stored !== undefined) return this.file.fileOf(stored);
    return this.products.has(name) ? undefined : this.base.fileOf(name);
  }

  readFloats(name: string, start = 0, count = this.entry(name).length - start): Float32Array {
    const stored = this.replaced.get(name);
    if (stored !== undefined) return this.file.readFloats(stored, start, count);
    const values = this.base.readFloats(name, start, count);
    const product = this.products.get(name);
    if (product) this.add(values, start, product);
    return values;
  }

  /** Adds the product's elements from `start` on, summed in float64. */
  private add(values: Float32Array, start: number, { a, b, rank, columns }: Product): void {
    for (let i = 0; i < values.length; ) {
      const [row, from] = [Math.floor((start + i) / columns), (start + i) % columns];
      const sums = new Float64Array(Math.min(columns - from, values.length - i));
      for (let k = 0; k < rank; k++) {
        const factor = this.scale * b[row * rank + k]!;
        for (let j = 0; j < sums.length; j++) sums[j]! += factor * a[k * columns + from + j]!;
      }
      for (let j = 0; j < sums.length; j++) values[i + j]! += sums[j]!;
      i += sums.length;
    }
  }

  readBytes(name: string, start = 0, count = this.entry(name).length - start): Uint8Array<ArrayBuffer> {
    const stored = this.replaced.get(name);
    if (stored !== undefined) return this.file.readBytes(stored, start, count);
    if (!this.products.has(name)) return this.base.readBytes(name, start, count);
    const values = this.readFloats(name, start, count);
    const { dtype } = this.entry(name);
    const rounded = dtype === 'F32' ? values : dtype === 'BF16' ? toBfloat16(values) : toFloat16(values);
    if (dtype === 'F64') return new Uint8Array(Float64Array.from(values).buffer);
    return new Uint8Array(
      Uint8Array.from(new Uint8Array(rounded.buffer, rounded.byteOffset, rounded.byteLength)).buffer,
    );
  }

  close(): void {
    this.base.close();
    this.file.close();
  }
}
