/** text2text-generation, summarization and translation: one text in, one text (or several) out. */
import { answersTo } from '../eval/texts.ts';
import { seedsOf } from '../model/generation/draw.ts';
import type { GenerateOptions } from '../model/generation/generate.ts';
import type { T5ForConditionalGeneration } from '../model/t5.ts';
import { UsageError } from '../util/errors.ts';
import { encodeTexts, type LengthOptions, type Parts, type Texts, textsOf } from './parts.ts';

export type TextToTextOptions = Omit<GenerateOptions, 'return_dict_in_generate' | 'tokenizer'> & {
  /** How texts are encoded. */
  tokenizer_options?: LengthOptions;
};
export type TranslationOptions = TextToTextOptions & {
  /** Codes of the languages, such as "en" and "fr". */
  src_lang?: string;
  tgt_lang?: string;
};

/** Answers in the order of the texts, num_return_sequences for each. */
export type TextToText = (texts: Texts, options?: TextToTextOptions) => Promise<{ generated_text: string }[]>;
export type Summarization = (texts: Texts, options?: TextToTextOptions) => Promise<{ summary_text: string }[]>;
export type Translation = (texts: Texts, options?: TranslationOptions) => Promise<{ translation_text: string }[]>;

/** New tokens where neither call nor model say how many: as transformers.js. */
const NEW_TOKENS = 256;

type ModelParts = Parts<T5ForConditionalGeneration>;

export const textToText = (parts: ModelParts): TextToText => {
  const settings = taskSettings(parts, parts.task);
  return async (texts, options) =>
    (await write(parts, settings, texts, options)).map((generated_text) => ({ generated_text }));
};

export const summarization = (parts: ModelParts): Summarization => {
  const settings = taskSettings(parts, parts.task);
  return async (texts, options) =>
    (await write(parts, settings, texts, options)).map((summary_text) => ({ summary_text }));
};

export const translation = (parts: ModelParts): Translation => {
  const [, source, target] = /^translation_([^_]+)_to_([^_]+)$/.exec(parts.task) ?? [];
  return async (texts, { src_lang = source, tgt_lang = target, ...options } = {}) => {
    if ((src_lang === undefined) !== (tgt_lang === undefined))
      throw new UsageError(
        `${parts.task}: ${src_lang === undefined ? 'src_lang' : 'tgt_lang'} is missing, expected both languages or none`,
      );
    const settings =
      src_lang === undefined ? taskSettings(parts, parts.task) : translationSettings(parts, src_lang, tgt_lang!);
    return (await write(parts, settings, texts, options)).map((translation_text) => ({ translation_text }));
  };
};

/** The prefix of a task and how it is decoded, as config.json's task_specific_params say. */
interface TaskSettings {
  prefix: string;
  options: GenerateOptions;
}

function taskSettings({ model }: ModelParts, task: string): TaskSettings {
  const { task_specific_params: tasks, prefix: always } = model.config as {
    task_specific_params?: Record<string, GenerateOptions & { prefix?: string }> | null;
    prefix?: string | null;
  };
  const { prefix = '', ...options } = tasks?.[task] ?? {};
  return { prefix: prefix + (always ?? ''), options };
}

/** T5's words for two languages, where config.json has none for them. */
function translationSettings(parts: ModelParts, source: string, target: string): TaskSettings {
  const found = taskSettings(parts, `translation_${source}_to_${target}`);
  if (found.prefix !== '') return found;
  const words = [source, target].map((code) => languageName(parts.task, code));
  return { ...found, prefix: `translate ${words[0]} to ${words[1]}: ` };
}

const names = new Intl.DisplayNames('en', { type: 'language', fallback: 'none' });

function languageName(task: string, code: string): string {
  let name: string | undefined;
  try {
    name = names.of(code);
  } catch {} // no well-formed code
  if (name === undefined) throw new UsageError(`${task}: unknown language "${code}", expected a code such as "en"`);
  return name;
}

async function write(
  parts: ModelParts,
  settings: TaskSettings,
  given: Texts,
  { tokenizer_options, ...options }: TextToTextOptions = {},
): Promise<string[]> {
  const { model, tokenizer, batch_size, task } = parts;
  const texts = textsOf(task, given).map((text) => settings.prefix + text);
  const merged = { ...model.generation_config, ...settings.options, ...options };
  const isBounded = typeof (merged.max_new_tokens ?? merged.max_length) === 'number';
  const { seed } = options;
  const answers = await answersTo(model, encodeTexts(parts, texts, tokenizer_options), {
    ...settings.options,
    ...(!isBounded && { max_new_tokens: NEW_TOKENS }),
    ...options,
    tokenizer,
    rows: batch_size,
    seed: typeof seed === 'number' ? seedsOf(seed, texts.length) : seed,
  });
  return answers.flat().map((ids) => tokenizer.decode(ids, { skip_special_tokens: true }));
}
