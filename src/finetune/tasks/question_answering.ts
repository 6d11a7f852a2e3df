/**
 * The part of a context that answers a question, or that there is none. Training reads every window of a long context;
 * in windows without the answer, "no answer" is right. Columns are SQuAD's.
 */
import { type Answer, answerAll, NO_ANSWER, trimmedOffsets, type Window, windowsOf } from '../../eval/answers.ts';
import { answerScores } from '../../eval/metrics/question_answering.ts';
import { type QuestionAnsweringBatch, T5ForQuestionAnswering } from '../../model/heads.ts';
import { UsageError } from '../../util/errors.ts';
import { padded } from '../../util/id_rows.ts';
import { type Row, textOf } from '../rows.ts';
import type { Scores, Task, TaskTools } from '../task.ts';

export interface QuestionAnsweringTaskOptions {
  /** Columns of the question, its context and its answers: {text: [...], answer_start: [...]}, empty where none is. */
  question: string;
  context: string;
  answers: string;
  /** Tokens that windows of a long context share. */
  stride: number;
  /** Longest predicted answer, tokens. */
  max_answer_length: number;
}

/** While training one window; else a question with all of them. */
interface Example {
  context: string;
  windows: Window[];
  /** Where the answer is in the first window. */
  first: number;
  last: number;
  /** The true answers; [] where there is none. */
  texts: string[];
}

/** A part of the context, or nothing, for each row. */
export function questionAnswering(
  options: QuestionAnsweringTaskOptions,
  tools: TaskTools,
): Task<Example, QuestionAnsweringBatch, T5ForQuestionAnswering> {
  const { tokenizer, max_length } = tools;
  let impossible = false;
  return {
    columns: [options.question, options.context, options.answers],
    metric: 'f1',
    model: T5ForQuestionAnswering,
    configuration: () => ({}),
    examples: (rows, split) =>
      rows.flatMap((row) => {
        const context = textOf(row, options.context);
        const { texts, place } = answersOf(row, context, options.answers);
        const windows = inRow(row, () =>
          windowsOf(tokenizer, textOf(row, options.question), context, { max_length, stride: options.stride }),
        );
        if (split !== 'train') return [{ context, windows, first: NO_ANSWER, last: NO_ANSWER, texts }];
        if (!place) impossible = true;
        return windows.map((window) => ({ context, windows: [window], texts, ...positions(window, place) }));
      }),
    lengthOf: ({ windows }) => Math.max(...windows.map(({ ids }) => ids.length)),
    wanted: ({ texts }) => texts,
    batch: (examples) => ({
      inputs: {
        ...padded(
          examples.map(({ windows }) => windows[0]!.ids),
          tokenizer.pad_token_id,
        ),
        start_positions: examples.map(({ first }) => first),
        end_positions: examples.map(({ last }) => last),
      },
      tokens: examples.length,
    }),
    async predict(model, examples) {
      const found = await answerAll(model, examples, {
        top_k: 1,
        max_answer_len: options.max_answer_length,
        handle_impossible_answer: impossible,
        rows: tools.rows,
        pad: tokenizer.pad_token_id,
      });
      return found.map(([best]) => textOfAnswer(best));
    },
    scores(examples, predictions): Scores {
      const { exact_match, f1, has_answer, no_answer } = answerScores(
        predictions as string[],
        examples.map(({ texts }) => texts),
      );
      return {
        exact_match,
        f1,
        ...(has_answer.count > 0 && { has_answer_exact_match: has_answer.exact_match, has_answer_f1: has_answer.f1 }),
        ...(no_answer.count > 0 && { no_answer_f1: no_answer.f1 }),
      };
    },
  };
}

const textOfAnswer = (answer: Answer | undefined): string => answer?.answer ?? '';

/** Positions of the window where an answer begins and ends; "no answer" where the window does not have all of it. */
function positions(
  { from, offsets }: Window,
  place: readonly [number, number] | undefined,
): { first: number; last: number } {
  const none = { first: NO_ANSWER, last: NO_ANSWER };
  if (!place) return none;
  const [start, end] = place;
  const first = offsets.findIndex(([, to]) => to > start);
  const last = offsets.findLastIndex(([at, to]) => at < end && to > at);
  const isWhole = first >= 0 && last >= first && offsets[first]![0] <= start && offsets[last]![1] >= end;
  return isWhole ? { first: from + first, last: from + last } : none;
}

/** The true answers and the characters of the first, without white space at its ends. @throws UsageError */
function answersOf(
  row: Row,
  context: string,
  column: string,
): { texts: string[]; place: [number, number] | undefined } {
  const { text, answer_start } = (row.values[column] ?? {}) as { text?: unknown; answer_start?: unknown };
  const isList = (value: unknown, type: string): value is unknown[] =>
    Array.isArray(value) && value.every((item) => typeof item === type);
  if (!isList(text, 'string') || !isList(answer_start, 'number') || text.length !== answer_start.length)
    throw new UsageError(
      `${row.place}: column "${column}" is ${JSON.stringify(row.values[column])?.slice(0, 80)}, expected ` +
        '{"text": [...], "answer_start": [...]} with as many of each, none where there is no answer',
    );
  const texts = text as string[];
  if (texts.length === 0) return { texts, place: undefined };
  const [answer, start] = [texts[0]!, answer_start[0] as number];
  const [place] = trimmedOffsets(context, [[start, start + [...answer].length]]);
  if (place === undefined || context.slice(...place) !== answer.trim())
    throw new UsageError(
      `${row.place}: the context does not have "${answer}" at character ${start}, expected there by answer_start`,
    );
  return { texts, place };
}

/** Runs a function whose error shall name the row. */
function inRow<R>(row: Row, run: () => R): R {
  try {
    return run();
  } catch (cause) {
    if (cause instanceof UsageError) throw new UsageError(`${row.place}: ${cause.message}`, { cause });
    throw cause;
  }
}
