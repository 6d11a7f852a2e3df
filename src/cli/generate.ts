import * as z from 'zod';
import { fillMasks, hasMask } from '../eval/fill.ts';
import { modes, writeAnswers } from '../eval/texts.ts';
import { seedsOf } from '../model/generation/draw.ts';
import { checkGenerationConfig, type GenerationConfig, generationFields } from '../model/generation/options.ts';
import { T5ForConditionalGeneration } from '../model/t5.ts';
import { choice, defineCommand, type Flag, integer, optional, text, toggle } from './command.ts';
import { answerRows, fieldOf, inputFlags, inputUsage, openInput, printRow } from './input_rows.ts';
import { tokenizerAt } from './places.ts';

/** Settings that change the form of the result, or need a second model: not for a command. */
const withheld = ['return_dict_in_generate', 'output_scores', 'output_logits', 'renormalize_logits'];
const names = Object.keys(generationFields).filter((name) => !withheld.includes(name) && !name.includes('assistant'));
const NEW_TOKENS = 64;

/** A flag for each setting of generate, under its name with hyphens; values are JSON, or a text. */
const settingFlags: Record<string, Flag<unknown>> = Object.fromEntries(
  names.map((name) => {
    const field: z.ZodType = generationFields[name as keyof typeof generationFields];
    const isSwitch =
      field instanceof z.ZodDefault && typeof field.def.defaultValue === 'boolean' && name !== 'early_stopping';
    const fallback = field instanceof z.ZodDefault ? ` (default ${JSON.stringify(field.def.defaultValue)})` : '';
    const doc = `${field.description}${isSwitch ? '' : fallback}`;
    const parse = (texts: string[]) => jsonOrText(texts.at(-1)!);
    const value = { ...text(doc), placeholder: placeholderOf(field), parse };
    return [name.replaceAll('_', '-'), isSwitch ? { ...toggle(doc), default: undefined } : optional<unknown>(value)];
  }),
);

/** What --help shows for a value: X a number, JSON a list. */
function placeholderOf(field: z.ZodType): string {
  const inner = field instanceof z.ZodDefault ? field.unwrap() : field;
  if (inner instanceof z.ZodNumber) return 'X';
  return inner instanceof z.ZodArray || inner instanceof z.ZodTuple ? 'JSON' : 'VALUE';
}

function jsonOrText(written: string): unknown {
  try {
    return JSON.parse(written);
  } catch {
    return written;
  }
}

export const generateCommand = defineCommand({
  name: 'generate',
  summary: 'Let a model write: JSON lines with the field "output", and "filled" where masks such as <extra_id_0> are.',
  positionals: inputUsage,
  flags: {
    ...inputFlags,
    text: toggle('print bare answers, masked texts filled in, instead of JSON lines'),
    mode: choice('how UL2 reads: R and X fill masks, S goes on after the text', modes, 'auto'),
    seed: optional(integer('of the draws of do-sample')),
    ...settingFlags,
  },
  details: () =>
    [
      `An answer has ${NEW_TOKENS} new tokens at most where neither --max-length nor --max-new-tokens is given. The model's`,
      'generation_config.json replaces these defaults. JSON is a list such as [5,6] or [[5,6],[7]].',
      '',
      'example: fat5 generate runs/quickstart "The license <extra_id_0> under the terms of <extra_id_1>." --text',
    ].join('\n'),
  async run(flags, given) {
    const { mode, seed, column } = flags;
    const settings = settingsOf(flags);
    const opened = await openInput('generate', flags, given);
    const tokenizer = await tokenizerAt(opened.tokenizer);
    const model = await T5ForConditionalGeneration.from_pretrained(opened.folder, opened.options);
    const isBounded = (config: GenerationConfig) => typeof (config.max_new_tokens ?? config.max_length) === 'number';
    const options = {
      ...(!isBounded(model.generation_config) && !isBounded(settings) && { max_new_tokens: NEW_TOKENS }),
      ...settings,
    };
    await answerRows(
      opened,
      (rows, first) => {
        const texts = rows.map((row) => fieldOf(row, column));
        const seeds = seed === undefined ? undefined : seedsOf(seed, rows.length, first);
        return writeAnswers(model, tokenizer, texts, { ...options, seed: seeds, mode, rows: opened.batch });
      },
      (row, outputs) => {
        const source = fieldOf(row, column);
        const filled = hasMask(source) ? outputs.map((output) => fillMasks(source, output)) : undefined;
        if (flags.text) for (const line of filled ?? outputs) console.log(line);
        else if (outputs.length > 1) printRow(row, { outputs, ...(filled && { filled }) });
        else printRow(row, { output: outputs[0], ...(filled && { filled: filled[0] }) });
      },
    );
    model.dispose();
  },
});

/** The settings among the flags. @throws UsageError naming what is wrong */
function settingsOf(flags: Record<string, unknown>): GenerationConfig {
  const given = names.map((name) => [name, flags[name.replaceAll('_', '-')]] as const);
  return checkGenerationConfig(Object.fromEntries(given.filter(([, value]) => value !== undefined)), 'generate');
}
