/**
 * Answers as spans of a context: windows over long contexts, and the spans that a model's logits favour.
 *
 * A window holds question, end token, part of the context, end token. Position 0 stands for "no answer", as it does in
 * Hugging Face's scripts for tokenizers without a token for it. Scores are P(start) * P(end), each a softmax over one
 * window's context and position 0.
 *
 * T5 differs: FlashT5 leaves decoding to its users; taking the two likeliest ends apart can give an end before the start,
 * or a span of the question. Here only spans of the context count, in order and of bounded length.
 */
import type { T5ForQuestionAnswering } from '../model/heads.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { UsageError } from '../util/errors.ts';
import { inGroups, padded } from '../util/id_rows.ts';

/** Position of a window that stands for "no answer". */
export const NO_ANSWER = 0;

export interface Window {
  ids: number[];
  /** Positions [from, to) of the window that are context. */
  from: number;
  to: number;
  /** Characters [start, end) of the context for each of these positions, in UTF-16 code units as JavaScript counts. */
  offsets: [number, number][];
}

export interface WindowOptions {
  /** Tokens of a window at most. */
  max_length: number;
  /** Tokens that a window shares with the one before. */
  stride: number;
}

/** A question with its context in as many windows as it takes. @throws UsageError if the question leaves no room */
export function windowsOf(
  tokenizer: Tokenizer,
  question: string,
  context: string,
  { max_length, stride }: WindowOptions,
): Window[] {
  const asked = tokenizer.encode(question, { split_special_tokens: true });
  const { ids, offsets } = tokenizer.encodeText(context, true);
  const room = max_length - asked.length - 1;
  if (ids.length > room && room <= stride)
    throw new UsageError(
      `question answering: the question's ${asked.length} tokens leave ${Math.max(room, 0)} of ${max_length} for the ` +
        `context, expected more than the stride of ${stride}; ask a shorter question or raise the longest sequence`,
    );
  const characters = trimmedOffsets(context, offsets);
  const windows: Window[] = [];
  for (let start = 0; ; start += room - stride) {
    const end = Math.min(start + room, ids.length);
    windows.push({
      ids: [...asked, ...ids.slice(start, end), tokenizer.eos_token_id],
      from: asked.length,
      to: asked.length + end - start,
      offsets: characters.slice(start, end),
    });
    if (end === ids.length) return windows;
  }
}

/** Offsets in code points as offsets in UTF-16 code units, without the white space that pieces carry. */
export function trimmedOffsets(text: string, offsets: readonly (readonly [number, number])[]): [number, number][] {
  const isWide = /\p{Surrogate}|[\u{10000}-\u{10ffff}]/u.test(text);
  const units: number[] = [];
  if (isWide) {
    let at = 0;
    for (const character of text) {
      units.push(at);
      at += character.length;
    }
    units.push(at);
  }
  return offsets.map(([first, last]) => {
    let [start, end] = isWide ? [units[first]!, units[last]!] : [first, last];
    while (start < end && /\s/.test(text[start]!)) start++;
    while (end > start && /\s/.test(text[end - 1]!)) end--;
    return [start, end];
  });
}

export interface Answer {
  answer: string;
  /** Probability in its window. */
  score: number;
  /** Characters [start, end) of the context; both 0 where there is no answer. */
  start: number;
  end: number;
}

export interface AnswerOptions {
  /** Answers wanted, best first. */
  top_k: number;
  /** Tokens of an answer at most. */
  max_answer_len: number;
  /** Whether "no answer" ('') competes with the spans. */
  handle_impossible_answer: boolean;
}

/** Logits of one window's positions. */
export interface WindowLogits {
  start: ArrayLike<number>;
  end: ArrayLike<number>;
}

/** The likeliest answers of one context, from the logits of all its windows. Overlapping windows count a span once. */
export function bestAnswers(
  context: string,
  windows: readonly Window[],
  logits: readonly WindowLogits[],
  { top_k, max_answer_len, handle_impossible_answer }: AnswerOptions,
): Answer[] {
  const found = new Map<string, Answer>();
  let impossible = 1;
  for (const [w, window] of windows.entries()) {
    const starts = probabilities(logits[w]!.start, window);
    const ends = probabilities(logits[w]!.end, window);
    impossible = Math.min(impossible, starts.none * ends.none);
    for (const { first, last, score } of likelySpans(starts.of, ends.of, top_k, max_answer_len)) {
      const [start, end] = [window.offsets[first]![0], window.offsets[last]![1]];
      const place = `${start} ${end}`;
      if (start < end && score > (found.get(place)?.score ?? -1))
        found.set(place, { answer: context.slice(start, end), score, start, end });
    }
  }
  const answers = [...found.values()];
  if (handle_impossible_answer) answers.push({ answer: '', score: impossible, start: 0, end: 0 });
  return answers.sort((a, b) => b.score - a.score || a.start - b.start || a.end - b.end).slice(0, top_k);
}

/** Softmax over a window's context and "no answer". */
function probabilities(logits: ArrayLike<number>, { from, to }: Window): { none: number; of: number[] } {
  const values = [logits[NO_ANSWER]!];
  for (let i = from; i < to; i++) values.push(logits[i]!);
  const [none, ...of] = softmax(values);
  return { none: none!, of };
}

/** Probabilities of logits. */
export function softmax(logits: ArrayLike<number>): number[] {
  const values = Array.from(logits);
  const most = values.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const powers = values.map((x) => Math.exp(x - most));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((x) => x / sum);
}

interface Span {
  first: number;
  last: number;
  score: number;
}

/**
 * The best spans, best first. Four for each that is wanted: a piece that is only a space, at the start or behind the end,
 * gives another span of the same characters, and a few give none.
 */
function likelySpans(starts: readonly number[], ends: readonly number[], count: number, longest: number): Span[] {
  const kept = 4 * count + 20;
  let spans: Span[] = [];
  let least = -1;
  const best = () => spans.sort((a, b) => b.score - a.score || a.first - b.first || a.last - b.last).slice(0, kept);
  for (let first = 0; first < starts.length; first++)
    for (let last = first; last < Math.min(first + longest, ends.length); last++) {
      const score = starts[first]! * ends[last]!;
      if (score <= least) continue;
      spans.push({ first, last, score });
      if (spans.length >= 4 * kept) {
        spans = best();
        least = spans.at(-1)!.score;
      }
    }
  return best();
}

export interface Asked {
  context: string;
  windows: readonly Window[];
}

/** Answers of many questions, their windows in batches of `rows` of similar length. */
export async function answerAll(
  model: T5ForQuestionAnswering,
  asked: readonly Asked[],
  { rows, pad, ...options }: AnswerOptions & { rows: number; pad: number },
): Promise<Answer[][]> {
  const windows = asked.flatMap((one) => one.windows);
  const logits = await inGroups(
    windows,
    rows,
    ({ ids }) => ids.length,
    async (group) => {
      const { start_logits, end_logits } = await model.forward(
        padded(
          group.map(({ ids }) => ids),
          pad,
        ),
      );
      const columns = start_logits.dims[1]!;
      const row = ({ data }: { data: Float32Array | Int32Array }, i: number) =>
        data.subarray(i * columns, (i + 1) * columns);
      return group.map((_, i) => ({ start: row(start_logits, i), end: row(end_logits, i) }));
    },
  );
  let at = 0;
  return asked.map(({ context, windows: own }) => {
    const mine = logits.slice(at, at + own.length);
    at += own.length;
    return bestAnswers(context, own, mine, options);
  });
}
