/** What all model classes share: configuration and parameters, from a folder, from nothing, and back to a folder. */
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Backend } from '../backend/backend.ts';
import { type Device, openDevice } from '../backend/devices.ts';
import type { DType } from '../backend/dtype.ts';
import { type HubOptions, resolveModel } from '../hub/hub.ts';
import { differentiate, isRecording } from '../tensor/autograd.ts';
import { Parameters } from '../tensor/parameters.ts';
import { dispose, scope } from '../tensor/scope.ts';
import { Tensor } from '../tensor/tensor.ts';
import { FormatError, UsageError } from '../util/errors.ts';
import { Lifetime } from '../util/lifetime.ts';
import { makeFolder, writeWhole } from '../util/new_file.ts';
import { baseFolder, baseOf, hasAdapters } from './adapter_files.ts';
import { configText, savedConfig, type T5Config, type T5ConfigInput, t5Config } from './config.ts';
import { encoder, encoderOutput } from './encoder.ts';
import { fromFlashT5Config } from './flasht5_names.ts';
import { normsOf } from './fold_norms.ts';
import { checkGenerationConfig, type GenerationConfig, legacyGenerationConfig } from './generation/options.ts';
import { initialize } from './initialize.ts';
import { type EncoderInputs, type Source, sourceOf } from './inputs.ts';
import { Adapters, adapterTable, type LoraOptions } from './lora.ts';
import { MappedWeights } from './mapped_weights.ts';
import { type Architecture, HEAD, type ParameterSpec, parameterTable, prefixOf, SHARED } from './parameter_table.ts';
import { type EncoderBlock, encoderParameters, type StackParameters } from './parameter_tree.ts';
import type { Pass, Random } from './pass.ts';
import { RecordedEncoder } from './recorded_encoder.ts';
import { type ResultTensor, toResult } from './result.ts';
import { uploadSource } from './seq2seq.ts';
import { type ModelDtype, type Storage, storageOf } from './storage.ts';
import { loadWeights, matchWeights, openWeights, saveAdapters, saveWeights, withSharing } from './weights.ts';

/** The configuration's file in a model's folder. */
export const CONFIG_FILE = 'config.json';
const GENERATION_FILE = 'generation_config.json';

/** How a model is opened. */
export interface ModelOptions extends HubOptions {
  /** Where it runs: the fastest device there is by default. */
  device?: Device;
  /**
   * Type of parameters and activations, float32 by default. Gradients are always float32. On the CPU float16 is a
   * checkpoint's weights in float16 and activations in float32, and int8 its matrices in int8; float8 is an
   * encoder's matrices in float8, on GPUs since Ada and Hopper: all three for inference.
   */
  dtype?: ModelDtype;
}

/** How a model without a checkpoint is made. */
export interface NewModelOptions extends ModelOptions {
  /** Seed of everything random in the initialisation, 0 by default. */
  seed?: number;
  /** from_pretrained: fields that replace config.json's, such as num_labels for a new head. */
  config?: T5ConfigInput;
  /** Learn adapters beside the matrices (lora.ts) instead of the matrices. */
  lora?: LoraOptions | undefined;
  /** from_pretrained: begin a new head although the folder has one. */
  new_head?: boolean;
  /**
   * from_pretrained: whether the scales of norms are multiplied into the projections that read them, once and in float32. The norms'
   * own become 1, so that the model is the same one and can be saved; in 16 bits the products are rounded.
   */
  fold_norms?: boolean;
  /** from_pretrained: whether a folder without the model's head is an error, instead of the start of a new one. */
  complete?: boolean;
}

/** A class of models that can be made from its configuration and parameters. */
interface ModelClass<M> {
  new (config: T5Config, parameters: Parameters): M;
  readonly architecture: Architecture;
}

/** What all models have: configuration, parameters, files, and an end. */
export class PretrainedT5 {
  static readonly architecture: Architecture = 'encoder';
  readonly config: T5Config;
  readonly parameters: Parameters;
  readonly backend: Backend;
  /** Whether training passes compute again, instead of keeping, whole blocks or cross-attention's keys and values: less memory, more time. */
  activation_checkpointing: boolean | 'cross_attention' = false;
  /** What `generate` does where a call does not say otherwise, in models that write: generation_config.json. */
  generation_config: GenerationConfig = {};
  /** What is learnt instead of the matrices, where `lora` was asked for. */
  adapters: Adapters | undefined;
  protected readonly encoderParameters: StackParameters<EncoderBlock>;
  /** Calls that go on for longer than one turn of the event loop say here that they use the parameters. */
  protected readonly lifetime = new Lifetime('model', () => this.free());
  private readonly recordedStates: RecordedEncoder;
  private readonly recordedOutput: RecordedEncoder;

  constructor(config: T5Config, parameters: Parameters) {
    this.config = config;
    this.parameters = parameters;
    this.backend = parameters.backend;
    this.encoderParameters = encoderParameters(parameters, config, prefixOf(this.architecture));
    this.recordedStates = this.recorded(encoder);
    this.recordedOutput = this.recorded(encoderOutput);
  }

  get architecture(): Architecture {
    return (this.constructor as typeof PretrainedT5).architecture;
  }

  /**
   * A model from a folder with config.json and weights, or from the hub by its name, which downloads it into the cache.
   * A new head on a pre-trained backbone starts random.
   * @throws UsageError if files are missing or the configuration is impossible, FormatError if a file is damaged
   */
  static async from_pretrained<M extends PretrainedT5>(
    this: ModelClass<M>,
    folderOrName: string,
    options: NewModelOptions = {},
  ): Promise<M> {
    const folder = await resolveModel(folderOrName, options);
    if (hasAdapters(folder)) await resolveModel(baseOf(folder), options);
    // biome-ignore lint/complexity/noThisInStatic: the subclass that is asked for
    const model = fromFolder(this, folder, options);
    try {
      model.generation_config = generationConfigOf(folder, model.config);
      return model;
    } catch (error) {
      model.dispose();
      throw error;
    }
  }

  /** A model with new random parameters. @throws UsageError if the configuration is impossible */
  static from_config<M extends PretrainedT5>(
    this: ModelClass<M>,
    config: T5ConfigInput | T5Config,
    options: NewModelOptions = {},
  ): M {
    // biome-ignore lint/complexity/noThisInStatic: the subclass that is asked for
    return fromConfig(this, t5Config(config), options);
  }

  /**
   * Writes config.json and model.safetensors, each complete or not at all; of a model with adapters these and its head,
   * in PEFT's files: opened as a model, such a folder has them added into the matrices. @throws UsageError if it cannot
   */
  save_pretrained(folder: string): Promise<void> {
    return this.lifetime.use(() => this.save(folder));
  }

  private async save(folder: string): Promise<void> {
    makeFolder(folder);
    if (this.adapters) await saveAdapters(folder, this.parameters, this.adapters);
    else await saveWeights(folder, this.parameters);
    writeWhole(join(folder, CONFIG_FILE), configText(savedConfig(this.config)));
    if (Object.keys(this.generation_config).length > 0)
      writeWhole(join(folder, GENERATION_FILE), `${JSON.stringify(this.generation_config, null, 2)}\n`);
  }

  /** The encoder's states [B,S,D] after the final norm. @throws UsageError for inputs that are no token ids */
  async encode(inputs: EncoderInputs): Promise<{ last_hidden_state: ResultTensor }> {
    this.lifetime.check();
    const source = sourceOf(inputs, this.config);
    const states = scope(() => {
      if (this.replays) return this.recordedOutput.states(source);
      return encoderOutput(this.encoderParameters, uploadSource(this.backend, source), this.pass());
    });
    return { last_hidden_state: await takeResult(states) };
  }

  /** Runs f, which predicts, with adapters added into the matrices, where there are some: decoding knows no others. */
  whileMerged<R>(f: () => Promise<R>): Promise<R> {
    return this.lifetime.use(() => (this.adapters ? this.adapters.whileMerged(f) : f()));
  }

  /** Gives the memory back, once the calls that are running have ended; new ones are refused. */
  dispose(): void {
    void this.lifetime.end();
  }

  protected free(): void {
    this.recordedStates.dispose();
    this.recordedOutput.dispose();
    this.parameters.dispose();
  }

  /**
   * A loss and its gradient for every parameter, by Hugging Face's names. What the parameters' gradients held is lost.
   * @param compute the loss [1]; other tensors of its result are thrown away
   */
  protected gradientsOf(
    compute: () => { loss: Tensor },
  ): Promise<{ loss: number; gradients: Record<string, ResultTensor> }> {
    const { parameters } = this;
    return this.lifetime.use(async () => {
      parameters.trainable();
      parameters.zeroGradients();
      const { loss } = differentiate(() => ({ loss: compute().loss }));
      parameters.finishGradients();
      // All copies begin now: whoever runs while they are waited for may write gradients of their own.
      const reading = parameters.places.map(({ name }) => toResult(parameters.get(name).grad!));
      const [value, ...found] = await Promise.all([takeResult(loss), ...reading]);
      const gradients = Object.fromEntries(parameters.places.map(({ name }, i) => [name, found[i]!]));
      return { loss: value.data[0]!, gradients };
    });
  }

  /** The encoder's states [B,S,D] as heads read them. */
  protected statesOf(source: Source, pass: Pass): Tensor {
    if (this.replays && !pass.random) return this.recordedStates.states(source);
    return encoder(this.encoderParameters, uploadSource(this.backend, source), pass);
  }

  /** Whether passes now read only parameters that stay where they are. */
  private get replays(): boolean {
    return !isRecording() && !this.adapters && !this.parameters.learning;
  }

  private recorded(stack: typeof encoder): RecordedEncoder {
    const { encoderParameters: p } = this;
    return new RecordedEncoder(
      this.backend,
      (input) => stack(p, input, this.pass()),
      () => p.embedding.memory,
    );
  }

  /** What a pass needs; must be called inside a scope when `random` is given. @throws UsageError after `dispose` */
  protected pass(random?: Random): Pass {
    this.lifetime.check();
    // On a GPU a norm or an activation costs one more output of a kernel, 1 % of a step in all, and they are a fifth of what a step keeps.
    const onGpu = this.backend.name === 'cuda';
    const { config, adapters } = this;
    const checkpointing = this.activation_checkpointing === true;
    const keysAgain = this.activation_checkpointing === 'cross_attention';
    const pass: Pass = { config, adapters, checkpointing, keysAgain, lean: onGpu, packs: onGpu };
    if (!random) return pass;
    const rng = Tensor.from(this.backend, 'i32', [2], [random.seed | 0, random.step | 0]);
    return { ...pass, random: { ...random, rng } };
  }
}

/** Copies a tensor that no scope owns to the host and frees it. */
export async function takeResult(tensor: Tensor): Promise<ResultTensor> {
  try {
    return await toResult(tensor);
  } finally {
    dispose(tensor);
  }
}

function fromConfig<M extends PretrainedT5>(model: ModelClass<M>, config: T5Config, options: NewModelOptions): M {
  const table = withLora(parameterTable(config, model.architecture), options);
  const backend = openDevice(options.device);
  const { dtype, compact } = storageOf(options.dtype ?? 'float32', table, model.architecture, backend);
  if (compact)
    throw new UsageError(
      `from_config: new parameters are not made in ${options.dtype} here, expected from_pretrained of a checkpoint`,
    );
  const parameters = new Parameters(backend, dtype, table, { written: true });
  initialize(parameters, table, seedOf(options));
  return made(model, config, parameters, options, '');
}

/** The table with the adapters that the options ask for behind it. @throws UsageError */
function withLora(table: ParameterSpec[], { lora, dtype, fold_norms }: NewModelOptions): ParameterSpec[] {
  if (lora && fold_norms)
    throw new UsageError('lora: the norms of the model are to be folded, expected the matrices that adapters are for');
  if (lora && (dtype === 'int8' || dtype === 'float8'))
    throw new UsageError(`lora: the model is to be in ${dtype}, expected float32 or bfloat16, which can be trained`);
  return lora ? [...table, ...adapterTable(table, lora)] : table;
}

function made<M extends PretrainedT5>(
  model: ModelClass<M>,
  config: T5Config,
  parameters: Parameters,
  { lora }: NewModelOptions,
  base: string,
): M {
  const instance = new model(config, parameters);
  if (lora) instance.adapters = new Adapters(parameters, lora, base);
  return instance;
}

/** What a folder's config.json says. @throws UsageError, FormatError */
export function configOf(folder: string): T5ConfigInput {
  const own = join(folder, CONFIG_FILE);
  const path = !existsSync(own) && hasAdapters(folder) ? join(baseFolder(folder), CONFIG_FILE) : own;
  return fromFlashT5Config(readJson(path) as Record<string, unknown>) as T5ConfigInput;
}

function fromFolder<M extends PretrainedT5>(model: ModelClass<M>, folder: string, options: NewModelOptions): M {
  const path = join(folder, CONFIG_FILE);
  const written = t5Config({ ...configOf(folder), ...options.config }, path);
  const file = openWeights(folder);
  try {
    const config = withSharing(written, file);
    const table = parameterTable(config, model.architecture);
    const sources = matchWeights(file, table, model.architecture, options); // before anything is allocated
    const all = withLora(table, options);
    if (options.complete) checkHead(folder, [...file.entries.keys()], sources, model.architecture);
    const backend = openDevice(options.device);
    const storage = storageOf(options.dtype ?? 'float32', all, model.architecture, backend);
    if (storage.compact?.matrices.some(({ name }) => name === HEAD))
      sources.set(HEAD, sources.get(HEAD) ?? sources.get(SHARED));
    const mapped = new MappedWeights(backend, file);
    const norms = options.fold_norms ? normsOf(table) : undefined;
    const lent = norms ? undefined : mapped.lend(typesOf(storage), sources);
    try {
      const parameters = new Parameters(backend, storage.dtype, storage.floats, {
        compact: storage.compact,
        lent,
        written: true,
      });
      try {
        loadWeights(file, mapped, parameters, sources, norms);
        const fresh = all.filter(({ name }) => sources.get(name) === undefined);
        initialize(parameters, fresh, seedOf(options));
        return made(model, config, parameters, options, resolve(folder));
      } catch (error) {
        parameters.dispose();
        throw error;
      }
    } finally {
      if (!lent) mapped.close();
    }
  } finally {
    file.close();
  }
}

/** The parameters' types by name. */
function typesOf({ dtype, floats, compact }: Storage): Map<string, DType> {
  const apart = compact?.matrices.map(({ name }) => [name, compact.dtype] as const) ?? [];
  return new Map([...floats.map(({ name }) => [name, dtype] as const), ...apart]);
}

/** @throws UsageError if the weights have no head, or one that reads other states than ours */
function checkHead(
  folder: string,
  tensors: readonly string[],
  sources: ReadonlyMap<string, string | undefined>,
  architecture: Architecture,
): void {
  const what = architecture.replace('_', ' ');
  for (const [name, source] of sources)
    if (source === undefined)
      throw new UsageError(
        `${folder}: has no "${name}", expected the head of a model for ${what}; fine-tune it for that, or name a model that is`,
      );
  const decoder = tensors.find((name) => /(^|\.)decoder\./.test(name));
  if (decoder !== undefined && (architecture === 'sequence_classification' || architecture === 'question_answering'))
    throw new UsageError(
      `${folder}: has "${decoder}", so its head for ${what} reads the decoder, as transformers' class does; expected ` +
        'one on the encoder alone: fine-tune it here',
    );
}

/** generation_config.json, or what config.json says in its place. @throws UsageError, FormatError */
function generationConfigOf(folder: string, config: T5Config): GenerationConfig {
  const path = join(folder, GENERATION_FILE);
  if (!existsSync(path)) return legacyGenerationConfig(config, join(folder, CONFIG_FILE));
  const written = readJson(path);
  if (typeof written !== 'object' || written === null || Array.isArray(written))
    throw new FormatError(`${path}: holds ${JSON.stringify(written)}, expected an object`);
  return checkGenerationConfig(written, path);
}

function seedOf({ seed = 0 }: NewModelOptions): number {
  if (!Number.isSafeInteger(seed)) throw new UsageError(`seed: is ${seed}, expected a whole number`);
  return seed;
}

function readJson(path: string): unknown {
  let text: string;
  if (!existsSync(path))
    throw new UsageError(
      `${path}: not found, expected a model's folder; of a run, its best/ or one of its checkpoints/`,
    );
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw new UsageError(`${path}: cannot be read: ${(cause as Error).message}`, { cause });
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new FormatError(`${path}: is not JSON: ${(cause as Error).message}`, { cause });
  }
}
