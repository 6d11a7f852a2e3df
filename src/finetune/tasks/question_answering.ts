/**
 * The part of a context that answers a question, or that there is none. Training reads every window of a long context;
 * in windows without the answer, "no answer" is right. Columns are SQuAD's.
 */
import { type Answer, answerAll, NO_ANSWER, type Window, windowsOf } from '../../eval/answers.ts';
import { type QuestionAnsweringBatch, T5ForQuestionAnswering } from '../../model/heads.ts';
import { padded } from '../../util/id_rows.ts';
import { textOf } from '../rows.ts';
import type { Task, TaskTools } from '../task.ts';
import { answersOf, inRow, positions, scoresOfAnswers } from './answers.ts';

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
    scores: (examples, predictions) => scoresOfAnswers(examples, predictions as string[]),
  };
}

const textOfAnswer = (answer: Answer | undefined): string => answer?.answer ?? '';
