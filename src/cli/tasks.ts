/** embed, classify, ner, qa: a pipeline over rows, one JSON line each. */
import { readFileSync } from 'node:fs';
import type { Answer } from '../eval/answers.ts';
import type { Row } from '../finetune/rows.ts';
import { poolings } from '../pipelines/features.ts';
import { type Pipeline, pipeline, type Tasks } from '../pipelines/pipeline.ts';
import { aggregationStrategies } from '../pipelines/token_classification.ts';
import { UsageError } from '../util/errors.ts';
import { choice, defineCommand, integer, many, optional, path, text, toggle } from './command.ts';
import { answerRows, fieldOf, inputFlags, inputUsage, type Opened, openInput, printRow } from './input_rows.ts';

/** Opens a pipeline, answers all rows, and frees it. */
async function runTask<Task extends keyof Tasks>(
  task: Task,
  opened: Opened,
  answer: (run: Pipeline<Task>, rows: readonly Row[]) => Promise<readonly object[]>,
): Promise<void> {
  const { folder, tokenizer, batch, options } = opened;
  const run = (await pipeline(task, folder, { ...options, tokenizer, batch_size: batch })) as Pipeline<Task>;
  try {
    await answerRows(opened, (rows) => answer(run, rows), printRow);
  } finally {
    await run.dispose();
  }
}

export const embedCommand = defineCommand({
  name: 'embed',
  summary: 'Turn texts into vectors: JSON lines with the field "embedding".',
  positionals: inputUsage,
  flags: {
    ...inputFlags,
    pooling: choice("how the vectors of a text's tokens become one; none: one for each token", poolings, 'mean'),
    normalize: toggle('scale vectors to length 1'),
  },
  async run(flags, given) {
    const { pooling, normalize, column } = flags;
    await runTask('feature-extraction', await openInput('embed', flags, given), async (extract, rows) => {
      const texts = rows.map((row) => fieldOf(row, column));
      if (pooling !== 'none') {
        const vectors = (await extract(texts, { pooling, normalize })).tolist() as number[][];
        return vectors.map((embedding) => ({ embedding }));
      }
      const found = []; // texts of different length have different numbers of vectors
      for (const one of texts) {
        const [embedding] = (await extract(one, { pooling, normalize })).tolist() as number[][][];
        found.push({ embedding });
      }
      return found;
    });
  },
});

export const classifyCommand = defineCommand({
  name: 'classify',
  summary: 'Classify texts: JSON lines with "label" and "score". With --labels the classes need no training.',
  positionals: inputUsage,
  flags: {
    ...inputFlags,
    'top-k': integer('classes of each text, the likeliest first, as a list "classes"; 0: all', 1),
    labels: many(text('classes for a model of natural language inference, or one that writes text')),
    'hypothesis-template': text('sentence that a class is put into', 'This example is {}.'),
    'multi-label': toggle('several of --labels may hold'),
  },
  async run(flags, given) {
    const { labels, column, 'top-k': count } = flags;
    if (count < 0) throw new UsageError(`classify: --top-k: expected a number from 0, got ${count}`);
    const opened = await openInput('classify', flags, given);
    const shape = (classes: { label: string; score: number }[]) => {
      const kept = count === 0 ? classes : classes.slice(0, count);
      return count === 1 ? kept[0]! : { classes: kept };
    };
    const textsOf = (rows: readonly Row[]) => rows.map((row) => fieldOf(row, column));
    if (labels.length === 0)
      return runTask('text-classification', opened, async (classify, rows) =>
        (await classify(textsOf(rows), { top_k: null })).map(shape),
      );
    const options = { hypothesis_template: flags['hypothesis-template'], multi_label: flags['multi-label'] };
    return runTask('zero-shot-classification', opened, async (classify, rows) =>
      (await classify(textsOf(rows), labels, options)).map((found) =>
        shape(found.labels.map((label, i) => ({ label, score: found.scores[i]! }))),
      ),
    );
  },
});

export const nerCommand = defineCommand({
  name: 'ner',
  summary: 'Find entities: JSON lines with a list "entities" of classes, scores, words and characters [start, end).',
  positionals: inputUsage,
  flags: {
    ...inputFlags,
    strategy: choice(
      'none: tokens; simple: tokens of one entity together; others: words, by first, mean or surest token',
      aggregationStrategies,
      'simple',
    ),
    ignore: many(text('classes that are left out; O when left out')),
  },
  async run(flags, given) {
    const { strategy: aggregation_strategy, ignore, column } = flags;
    const options = { aggregation_strategy, ...(ignore.length > 0 && { ignore_labels: ignore }) };
    await runTask('token-classification', await openInput('ner', flags, given), async (classify, rows) => {
      const texts = rows.map((row) => fieldOf(row, column));
      return (await classify(texts, options)).map((entities) => ({ entities }));
    });
  },
});

export const qaCommand = defineCommand({
  name: 'qa',
  summary: 'Answer questions by parts of a text: JSON lines with "answer", "score" and characters [start, end).',
  positionals: {
    usage: 'MODEL [QUESTION …]',
    doc: 'as for embed, with questions; JSON lines have a question and, without --context, a context',
  },
  flags: {
    ...inputFlags,
    column: text('field of the question in JSON lines and tables', 'question'),
    'context-column': text('field of the context', 'context'),
    context: optional(path('file with the text that all questions are about')),
    'top-k': integer('answers of each question, the likeliest first, as a list "answers"', 1),
    'max-answer-length': integer('tokens of an answer at most', 15),
    'max-length': optional(integer('tokens of question and context that are read at a time')),
    stride: optional(integer('tokens that the parts of a long context share')),
    'no-answer': toggle('the answer may be "": the context has none'),
  },
  async run(flags, given) {
    const { column, 'max-length': max_seq_len, stride } = flags;
    const context = flags.context === undefined ? undefined : contextFile(flags.context);
    const options = {
      top_k: flags['top-k'],
      max_answer_len: flags['max-answer-length'],
      handle_impossible_answer: flags['no-answer'],
      ...(max_seq_len !== undefined && { max_seq_len }),
      ...(stride !== undefined && { doc_stride: stride }),
    };
    await runTask('question-answering', await openInput('qa', flags, given), async (answer, rows) => {
      const questions = rows.map((row) => fieldOf(row, column));
      const contexts = rows.map((row) => context ?? contextOf(row, flags['context-column']));
      const found: (Answer | Answer[])[] = await answer(questions, contexts, options);
      return found.map((one) => (Array.isArray(one) ? { answers: one } : one));
    });
  },
});

function contextFile(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throw new UsageError(`qa: --context: ${file} cannot be read: ${(cause as Error).message}`, { cause });
  }
}

function contextOf({ place, values }: Row, column: string): string {
  const value = values[column];
  if (typeof value === 'string') return value;
  throw new UsageError(`${place}: no text in "${column}", expected the context there or a file in --context`);
}
