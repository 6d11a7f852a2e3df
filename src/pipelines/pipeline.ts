/** `pipeline(task, model)`: a model and its tokenizer behind one function, with transformers.js's arguments and results. */
import { existsSync } from 'node:fs';
import { type HubProgress, resolveModel } from '../hub/hub.ts';
import {
  T5EncoderModel,
  T5ForQuestionAnswering,
  T5ForSequenceClassification,
  T5ForTokenClassification,
} from '../model/heads.ts';
import type { ModelOptions, NewModelOptions, PretrainedT5 } from '../model/pretrained.ts';
import { T5ForConditionalGeneration } from '../model/t5.ts';
import { openWeights } from '../model/weights.ts';
import { AutoTokenizer } from '../tokenizer/auto_tokenizer.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { modelFolder } from '../train/model_folder.ts';
import { UsageError } from '../util/errors.ts';
import { Lifetime } from '../util/lifetime.ts';
import { suggestion } from '../util/suggest.ts';
import { type FeatureExtraction, featureExtraction, type SentenceSimilarity, sentenceSimilarity } from './features.ts';
import {
  type Summarization,
  summarization,
  type TextToText,
  type Translation,
  textToText,
  translation,
} from './generation.ts';
import { checkCount, checkOptions, type Parts } from './parts.ts';
import { type QuestionAnswering, questionAnswering } from './question_answering.ts';
import { type TextClassification, textClassification } from './text_classification.ts';
import { type TokenClassification, tokenClassification } from './token_classification.ts';
import { type ZeroShot, zeroShot } from './zero_shot.ts';

/** What each task's function takes and gives. */
export interface Tasks {
  'text2text-generation': TextToText;
  summarization: Summarization;
  translation: Translation;
  'text-classification': TextClassification;
  'sentiment-analysis': TextClassification;
  'zero-shot-classification': ZeroShot;
  'token-classification': TokenClassification;
  ner: TokenClassification;
  'question-answering': QuestionAnswering;
  'feature-extraction': FeatureExtraction;
  embeddings: FeatureExtraction;
  'sentence-similarity': SentenceSimilarity;
}

interface ModelClass<M> {
  readonly name: string;
  from_pretrained(folder: string, options: NewModelOptions): Promise<M>;
}

/** How a task is opened: its class of model, which may depend on the folder, and its function. */
interface Entry {
  model(folder: string): ModelClass<PretrainedT5>;
  // biome-ignore lint/suspicious/noExplicitAny: each entry's function takes the model that the entry opens
  open(parts: Parts<any>): (...args: any[]) => Promise<unknown>;
}

const entry = <M extends PretrainedT5>(
  model: ModelClass<M>,
  // biome-ignore lint/suspicious/noExplicitAny: the tasks' own types are in Tasks
  open: (parts: Parts<M>) => (...args: any[]) => Promise<unknown>,
): Entry => ({ model: () => model, open });

const entries: Record<keyof Tasks, Entry> = {
  'text2text-generation': entry(T5ForConditionalGeneration, textToText),
  summarization: entry(T5ForConditionalGeneration, summarization),
  translation: entry(T5ForConditionalGeneration, translation),
  'text-classification': entry(T5ForSequenceClassification, textClassification),
  'sentiment-analysis': entry(T5ForSequenceClassification, textClassification),
  'zero-shot-classification': {
    model: (folder) => (isClassifier(folder) ? T5ForSequenceClassification : T5ForConditionalGeneration),
    open: zeroShot,
  },
  'token-classification': entry(T5ForTokenClassification, tokenClassification),
  ner: entry(T5ForTokenClassification, tokenClassification),
  'question-answering': entry(T5ForQuestionAnswering, questionAnswering),
  'feature-extraction': entry(T5EncoderModel, featureExtraction),
  embeddings: entry(T5EncoderModel, featureExtraction),
  'sentence-similarity': entry(T5EncoderModel, sentenceSimilarity),
};

/** transformers.js's names of types. */
const typeNames = { fp32: 'float32', fp16: 'float16', bf16: 'bfloat16', q8: 'int8', fp8: 'float8' } as const;

export interface PipelineOptions extends Omit<ModelOptions, 'progress_callback' | 'dtype'> {
  /** Type of weights and activations; transformers.js's names are the same: fp32, fp16, bf16, q8; fp8 is ours. */
  dtype?: ModelOptions['dtype'] | keyof typeof typeNames;
  /** Folder of the tokenizer or its name on the hub; the model's own when left out. */
  tokenizer?: string;
  /** Rows that the model gets at a time, 16 by default: texts of similar length, whatever their order. */
  batch_size?: number;
  /** Is told about every file that is downloaded, and when the pipeline is ready. */
  progress_callback?: (progress: PipelineProgress) => void;
}

export type PipelineProgress = HubProgress | { status: 'ready'; task: string; model: string };

/** What every pipeline has besides being a function. */
export interface PipelineParts {
  readonly task: string;
  readonly model: PretrainedT5;
  readonly tokenizer: Tokenizer;
  /** Frees the model's memory, once the calls that are running have ended; new ones are refused. */
  dispose(): Promise<void>;
}

export type Pipeline<Task extends keyof Tasks> = Tasks[Task] & PipelineParts;
type TranslationTask = `translation_${string}_to_${string}`;

const BATCH = 16;
const optionNames = [
  ...['device', 'dtype', 'tokenizer', 'batch_size', 'progress_callback'],
  ...['revision', 'cache_dir', 'local_files_only'],
];

/**
 * Opens a model for a task: a folder, a run's directory or a name on the hub. The result is a function of texts and options; see the task's type for what it gives.
 * @throws UsageError for a task that there is not, or a model without the head that the task needs
 */
export async function pipeline<Task extends keyof Tasks | TranslationTask>(
  task: Task,
  model: string,
  options: PipelineOptions = {},
): Promise<Pipeline<Task extends keyof Tasks ? Task : 'translation'>> {
  const found = entryOf(task);
  if (typeof model !== 'string')
    throw new UsageError(`pipeline: the model is ${typeof model}, expected a model's folder after the task "${task}"`);
  checkOptions('pipeline', options, optionNames);
  const { batch_size = BATCH } = options;
  checkCount('pipeline', 'batch_size', batch_size);
  const folder = existsSync(model) ? modelFolder(model) : await resolveModel(model, options);
  const tokenizer = await AutoTokenizer.from_pretrained(options.tokenizer ?? folder, { ...options, revision: 'main' });
  const { device } = options;
  const dtype = typeNames[options.dtype as keyof typeof typeNames] ?? options.dtype;
  const opened = await found
    .model(folder)
    .from_pretrained(folder, { ...(device && { device }), ...(dtype && { dtype }), complete: true });
  let call: (...args: unknown[]) => Promise<unknown>;
  try {
    call = found.open({ task, model: opened, tokenizer, batch_size });
  } catch (error) {
    opened.dispose();
    throw error;
  }
  const lifetime = new Lifetime(task, () => opened.dispose());
  const guarded = (...args: unknown[]) => lifetime.use(() => call(...args));
  const dispose = () => lifetime.end();
  options.progress_callback?.({ status: 'ready', task, model });
  return Object.assign(guarded, { task, model: opened, tokenizer, dispose }) as never;
}

/** @throws UsageError naming the nearest task */
function entryOf(task: string): Entry {
  if (/^translation_[^_]+_to_[^_]+$/.test(task)) return entries.translation;
  if (Object.hasOwn(entries, task)) return entries[task as keyof Tasks];
  throw new UsageError(`pipeline: unknown task "${task}", ${suggestion(String(task), Object.keys(entries))}`);
}

/** Whether a folder's model has a head for classes of texts. */
function isClassifier(folder: string): boolean {
  const file = openWeights(folder);
  try {
    return [...file.entries.keys()].some((name) => name.startsWith('classification_head'));
  } finally {
    file.close();
  }
}
