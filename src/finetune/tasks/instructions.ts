/**
 * Super-NaturalInstructions: a task's definition and worked examples in front of an instance, its answer behind it.
 *
 * Source: Wang et al. 2022, arXiv:2204.07705; the prompt and its truncation as nanoT5 (Nawrot 2023, arXiv:2309.02373)
 * builds them. Scores take the best of all references, over everything, by category and by task; nanot5_rougeL is nanoT5's,
 * against the one that a training row would have, as its tokens say it.
 */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { openBytes } from '../../data/decompress.ts';
import { Random } from '../../data/random.ts';
import { instructionScores } from '../../eval/metrics/instructions.ts';
import { rouge } from '../../eval/metrics/rouge.ts';
import type { Seq2SeqBatch } from '../../model/inputs.ts';
import type { T5ForConditionalGeneration } from '../../model/t5.ts';
import type { Tokenizer } from '../../tokenizer/tokenizer.ts';
import { FormatError, UsageError } from '../../util/errors.ts';
import type { Row } from '../rows.ts';
import { fitted, type Task, type TaskTools } from '../task.ts';
import { textTraining, written } from './writing.ts';

export interface InstructionsOptions {
  /** Folder of the task files, NAME.json or NAME.json.gz; `tasks` beside the list's folder when left out. */
  tasks?: string | undefined;
  /** Instances taken of a task; held-out ones are the first. */
  instances: number;
  definition: boolean;
  positive_examples: number;
  negative_examples: number;
  explanations: boolean;
  num_beams: number;
  /** Of which instances and which of several right answers are trained on. */
  seed: number;
}

interface WorkedExample {
  input: string;
  output: string;
  explanation?: string;
}
interface TaskFile {
  Definition: string[];
  Categories: string[];
  'Positive Examples': WorkedExample[];
  'Negative Examples': WorkedExample[];
  Instances: { id?: string; input: string; output: string[] }[];
}

interface Example {
  source: number[];
  target: number[];
  references: string[];
  task: string;
  category: string;
}

/** What the random numbers of this file are for; data/random.ts has those of the data pipeline. */
const STREAM = 11;

/** An answer to each instance of the tasks that a list names. */
export function instructions(
  options: InstructionsOptions,
  tools: TaskTools,
): Task<Example, Seq2SeqBatch, T5ForConditionalGeneration> & {
  rows(sources: readonly string[], split: string, limit?: number): Promise<Row[]>;
} {
  const { tokenizer } = tools;
  return {
    ...textTraining(tools),
    columns: [],
    metric: 'rougeL',
    /** @param sources files that list task names, one a line */
    async rows(sources, split, limit) {
      const rows: Row[] = [];
      for (const list of sources)
        for (const name of namesIn(list)) {
          const file = await taskFile(options.tasks ?? join(dirname(dirname(dirname(list))), 'tasks'), name, list);
          const chosen = file.Instances.map((_, i) => i);
          if (split === 'train') shuffle(chosen, new Random().start(options.seed, STREAM, rows.length));
          for (const i of chosen.slice(0, options.instances))
            rows.push({ place: `${name}, instance ${i}`, values: { name, file, instance: file.Instances[i] } });
        }
      if (rows.length === 0) throw new UsageError(`${sources.join(', ')}: no instances, expected names of tasks`);
      return rows.slice(0, limit);
    },
    examples: (rows) =>
      rows.map(({ values, place }, i) => {
        const { name, file, instance } = values as unknown as {
          name: string;
          file: TaskFile;
          instance: TaskFile['Instances'][0];
        };
        const references = instance.output;
        const pick = references[new Random().start(options.seed, STREAM + 1, i).below(references.length)]!;
        return {
          source: fitted(tools, place, prompt(file, instance.input, options, tokenizer, tools.max_length)),
          target: fitted(tools, place, pick, 'max_target_length'),
          references,
          task: name,
          category: file.Categories[0] ?? 'unknown',
        };
      }),
    wanted: ({ references, task }) => ({ task, references }),
    predict: (model, examples) => written(model, tools, examples, options.num_beams),
    scores(examples, predictions) {
      const texts = predictions as string[];
      const { rougeL, exact_match, per_category, per_task } = instructionScores(
        examples.map(({ references, task, category }, i) => ({ prediction: texts[i]!, references, task, category })),
      );
      const parts = Object.entries({ ...per_category, ...per_task }).flatMap(([name, score]) => [
        [`rougeL_${name}`, score.rougeL],
        [`exact_match_${name}`, score.exact_match],
      ]);
      const wanted = examples.map(({ target }) => tokenizer.decode(target, { skip_special_tokens: true }).trim());
      const single = texts.map((text, i) => rouge(text, wanted[i]!, { types: ['rougeL'], use_stemmer: true }).rougeL!);
      const nanot5_rougeL = (100 * single.reduce((sum, { fmeasure }) => sum + fmeasure, 0)) / single.length;
      return { rougeL, exact_match, nanot5_rougeL, ...Object.fromEntries(parts) };
    },
  };
}

function namesIn(list: string): string[] {
  if (!existsSync(list))
    throw new UsageError(`${list}: not found, expected a file with the name of a task on every line`);
  return readFileSync(list, 'utf8').split(/\s+/).filter(Boolean);
}

async function taskFile(folder: string, name: string, list: string): Promise<TaskFile> {
  const path = ['.json', '.json.gz'].map((end) => join(folder, name + end)).find(existsSync);
  if (!path) throw new UsageError(`${join(folder, name)}.json: not found, expected because ${list} names it`);
  const parts: Buffer[] = [];
  for await (const part of openBytes(path, () => {})) parts.push(part);
  let file: TaskFile;
  try {
    file = JSON.parse(Buffer.concat(parts).toString('utf8')) as TaskFile;
  } catch (cause) {
    throw new FormatError(`${path}: not JSON: ${(cause as Error).message}`, { cause });
  }
  // Some copies of the collection have the only category as text.
  if (typeof file.Categories === 'string') file.Categories = [file.Categories];
  const missing = (['Definition', 'Categories', 'Positive Examples', 'Negative Examples', 'Instances'] as const).find(
    (key) => !Array.isArray(file[key]),
  );
  if (missing) throw new FormatError(`${path}: has no list "${missing}", expected a task of Super-NaturalInstructions`);
  const bad = file.Instances.findIndex(({ input, output }) => typeof input !== 'string' || !output?.length);
  if (bad >= 0) throw new FormatError(`${path}: instance ${bad} has no input or no output`);
  return file;
}

/** Ends a text with a full stop unless it ends with punctuation. */
const stopped = (text: string): string => (/[!-/:-@[-`{-~]$/.test(text) ? text : `${text}.`);

/** The prompt: as many worked examples as are wanted and fit into `maxLength` tokens. */
export function prompt(
  file: Pick<TaskFile, 'Definition' | 'Positive Examples' | 'Negative Examples'>,
  input: string,
  options: Omit<InstructionsOptions, 'tasks' | 'seed' | 'instances' | 'num_beams'>,
  tokenizer: Pick<Tokenizer, 'encode'>,
  maxLength: number,
): string {
  const definition = options.definition ? `Definition: ${stopped((file.Definition[0] ?? '').trim())}\n\n` : '';
  const question = `Now complete the following example -\nInput: ${stopped(input.trim())}\nOutput: `;
  const kept: string[] = [];
  const add = (kind: 'Positive' | 'Negative', examples: readonly WorkedExample[], wanted: number) => {
    for (const [i, example] of examples.slice(0, wanted).entries()) {
      const why =
        options.explanations && example.explanation ? ` Explanation: ${stopped(example.explanation.trim())}\n` : '';
      const text =
        ` ${kind} Example ${i + 1} -\nInput: ${stopped(example.input.trim())}\n` +
        ` Output: ${stopped(example.output.trim())}\n${why}\n`;
      if (tokenizer.encode([definition, ...kept, text, question].join(' ')).length > maxLength) return;
      kept.push(text);
    }
  };
  add('Positive', file['Positive Examples'], options.positive_examples);
  add('Negative', file['Negative Examples'], options.negative_examples);
  return definition + kept.join('') + question;
}

function shuffle(items: number[], random: Random): void {
  for (let i = items.length - 1; i > 0; i--) {
    const j = random.below(i + 1);
    [items[i], items[j]] = [items[j]!, items[i]!];
  }
}
