/**
 * Beam search (Graves 2012, arXiv:1211.3711) as transformers 5 has it: for every source `beams` open answers, of which
 * each step tries the best continuations, and the best ended answers so far. What happens to one source does not depend
 * on the others.
 */
import { OUT } from '../../ops/beam_step/beam_step.ts';
import type { Ended } from './stopping.ts';

/** A continuation: the number of the open answer that it prolongs, its token, and the sum of log-probabilities. */
export interface Candidate {
  beam: number;
  token: number;
  score: number;
}

/** An answer with the rows that its new tokens were computed in. */
interface Answer {
  tokens: readonly number[];
  rows: readonly number[];
  score: number;
}

export interface Finished extends Answer {
  ended: boolean;
}

export interface BeamOptions {
  beams: number;
  /** Tokens of the prompt. */
  prompt: number;
  max_length: number;
  length_penalty: number;
  early_stopping: boolean | 'never';
  ended: Ended;
}

const { fround } = Math;

/** Places of the `count` largest, equal ones in order. */
const best = (scores: readonly number[], count: number): number[] =>
  scores
    .map((score, i) => ({ score, i }))
    .sort((a, b) => b.score - a.score || a.i - b.i)
    .slice(0, count)
    .map(({ i }) => i);

/** The beams of one source (or of one group of its beams). `firstRow` is the row of its first beam. */
export class Beams {
  open: Answer[];
  finished: Finished[];
  /** For each open answer which of those before it it prolongs, after `step`. */
  parents: number[] = [];
  done = false;
  private hopeful = true;
  private readonly o: BeamOptions;
  private readonly firstRow: number;

  constructor(prompt: readonly number[], firstRow: number, options: BeamOptions) {
    this.o = options;
    this.firstRow = firstRow;
    // Only the first beam counts at the start: all are the same.
    this.open = Array.from({ length: options.beams }, (_, i) => ({
      tokens: prompt,
      rows: [],
      score: i === 0 ? 0 : OUT,
    }));
    this.finished = this.open.map(() => ({ tokens: prompt, rows: [], score: OUT, ended: false }));
  }

  /** Takes the best candidates, best first. */
  step(candidates: readonly Candidate[]): void {
    const { beams, ended } = this.o;
    const answers = candidates.map(({ beam, token, score }) => {
      const { tokens, rows } = this.open[beam]!;
      return { tokens: [...tokens, token], rows: [...rows, this.firstRow + beam], score };
    });
    const ends = ended(answers.map(({ tokens }) => tokens as number[]));
    this.keepFinished(answers, ends);
    const scores = answers.map(({ score }, i) => (ends[i] ? fround(score + OUT) : score));
    const next = best(scores, beams);
    this.open = next.map((i) => ({ ...answers[i]!, score: scores[i]! }));
    this.parents = next.map((i) => candidates[i]!.beam);
    this.hopeful &&= this.canImprove();
    const full = this.o.early_stopping === true && this.finished.every((answer) => answer.ended);
    this.done = !this.hopeful || full || ends.every(Boolean);
  }

  /** The best of what has ended, now or before. Candidates beyond the number of beams are only there to go on with. */
  private keepFinished(answers: readonly Answer[], ends: readonly boolean[]): void {
    const { beams, prompt, length_penalty, early_stopping } = this.o;
    const full = early_stopping === true && this.finished.every((answer) => answer.ended);
    const scored = answers.map((answer, i) => {
      const ended = i < beams && ends[i]!;
      const length = answer.tokens.length - prompt;
      let score = fround(answer.score / fround(length ** length_penalty));
      for (const out of [full, !this.hopeful, !ended]) if (out) score = fround(score + OUT);
      return { ...answer, score, ended };
    });
    const ended = (answer: Finished) => answer.ended; // before those that only fill up the list
    const all = [...this.finished.filter(ended), ...scored, ...this.finished.filter((answer) => !ended(answer))];
    this.finished = best(
      all.map(({ score }) => score),
      beams,
    ).map((i) => all[i]!);
  }

  /** Whether an open answer may still become better than the worst that has ended. */
  private canImprove(): boolean {
    const { prompt, max_length, length_penalty, early_stopping } = this.o;
    const { tokens, score } = this.open[0]!;
    const longest = early_stopping === 'never' && length_penalty > 0 ? max_length : tokens.length;
    const reachable = fround(score / fround((longest - prompt) ** length_penalty));
    const worst = Math.min(...this.finished.map((answer) => answer.score));
    return this.finished.some((answer) => reachable > (answer.ended ? worst : fround(OUT)));
  }
}
