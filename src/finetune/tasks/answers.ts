/** What both ways of answering from a context share: rows in SQuAD's form, where an answer is in a window, scores. */
import { NO_ANSWER, trimmedOffsets, type Window } from '../../eval/answers.ts';
import { answerScores } from '../../eval/metrics/question_answering.ts';
import { UsageError } from '../../util/errors.ts';
import type { Row } from '../rows.ts';
import type { Scores } from '../task.ts';

/** Positions of the window where an answer begins and ends; "no answer" where the window does not have all of it. */
export function positions(
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
export function answersOf(
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
  const places = texts.map((answer, i) => placeOf(row, context, answer, answer_start[i] as number));
  return { texts, place: places[0] };
}

/** Characters [start, end) of an answer that begins at a code point. @throws UsageError if the context has another text there */
function placeOf({ place }: Row, context: string, answer: string, start: number): [number, number] {
  if (answer.trim() === '')
    throw new UsageError(`${place}: an answer is empty, expected empty lists where the context has no answer`);
  const isInside = Number.isInteger(start) && start >= 0 && start + [...answer].length <= [...context].length;
  const [found] = isInside ? trimmedOffsets(context, [[start, start + [...answer].length]]) : [];
  if (found && context.slice(...found) === answer.trim()) return found;
  const at = context.indexOf(answer);
  const where = at < 0 ? 'it is nowhere in it' : `it is at ${[...context.slice(0, at)].length}`;
  throw new UsageError(
    `${place}: the context does not have "${answer.slice(0, 80)}" at character ${start}, expected there by answer_start; ${where}`,
  );
}

/** SQuAD's scores; those of questions with and without answer where there are such. */
export function scoresOfAnswers(
  examples: readonly { texts: readonly string[] }[],
  predictions: readonly string[],
): Scores {
  const { exact_match, f1, has_answer, no_answer } = answerScores(
    predictions,
    examples.map(({ texts }) => texts),
  );
  return {
    exact_match,
    f1,
    ...(has_answer.count > 0 && { has_answer_exact_match: has_answer.exact_match, has_answer_f1: has_answer.f1 }),
    ...(no_answer.count > 0 && { no_answer_f1: no_answer.f1 }),
  };
}

/** Runs a function whose error shall name the row. */
export function inRow<R>(row: Row, run: () => R): R {
  try {
    return run();
  } catch (cause) {
    if (cause instanceof UsageError) throw new UsageError(`${row.place}: ${cause.message}`, { cause });
    throw cause;
  }
}
