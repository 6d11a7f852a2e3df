/** What ends an answer. The classes are transformers.js's, so that criteria written for it work here. */
import { UsageError } from '../../util/errors.ts';
import type { Settings } from './options.ts';

/** What may end answers besides the settings; a list of them is one too. */
export class StoppingCriteria {
  /** For each row whether it ends with its newest token. To be overridden. */
  _call(input_ids: number[][], _scores?: unknown): boolean[] {
    return input_ids.map(() => false);
  }
}

/** Ends what any of them ends. */
export class StoppingCriteriaList extends StoppingCriteria {
  readonly criteria: StoppingCriteria[] = [];

  push(item: StoppingCriteria): void {
    this.criteria.push(item);
  }

  extend(items: StoppingCriteriaList | Iterable<StoppingCriteria>): void {
    this.criteria.push(...items);
  }

  override _call(input_ids: number[][], scores?: unknown): boolean[] {
    const ended = input_ids.map(() => false);
    for (const criterion of this.criteria)
      for (const [row, done] of criterion._call(input_ids, scores).entries()) ended[row] ||= done;
    return ended;
  }

  [Symbol.iterator](): Iterator<StoppingCriteria> {
    return this.criteria.values();
  }
}

/** Ends all answers once `interrupt` has been called. */
export class InterruptableStoppingCriteria extends StoppingCriteria {
  interrupted = false;

  interrupt(): void {
    this.interrupted = true;
  }

  reset(): void {
    this.interrupted = false;
  }

  override _call(input_ids: number[][]): boolean[] {
    return input_ids.map(() => this.interrupted);
  }
}

/** What stop strings need of a tokenizer. */
export interface Decoder {
  decode(ids: Iterable<number>, options?: { skip_special_tokens?: boolean }): string;
}

/** Which rows end with their newest token. */
export type Ended = (tokens: readonly number[][]) => boolean[];

export interface StoppingInputs {
  custom: Iterable<StoppingCriteria> | undefined;
  tokenizer: Decoder | undefined;
}

/** @throws UsageError for stop strings without a tokenizer */
export function stoppingOf(s: Settings & { max_length: number }, { custom, tokenizer }: StoppingInputs): Ended {
  const eos = new Set(s.eos);
  const strings = s.stop_strings === undefined ? [] : [s.stop_strings].flat();
  if (strings.length > 0 && !tokenizer)
    throw new UsageError('generate: stop_strings are given, but no tokenizer: pass the option tokenizer');
  const completes = strings.length > 0 ? stopStrings(strings, tokenizer!) : () => false;
  const deadline = s.max_time === undefined ? undefined : performance.now() + s.max_time * 1000;
  const criteria = [...(custom ?? [])];
  return (tokens) => {
    const late = deadline !== undefined && performance.now() > deadline;
    const ended = tokens.map(
      (row) => late || row.length >= s.max_length || eos.has(row[row.length - 1]!) || completes(row),
    );
    for (const criterion of criteria) {
      const more = criterion._call(tokens as number[][]);
      if (more.length !== tokens.length)
        throw new UsageError(
          `generate: ${criterion.constructor.name} answered for ${more.length} rows, expected ${tokens.length}`,
        );
      for (const [row, done] of more.entries()) ended[row] ||= Boolean(done);
    }
    return ended;
  };
}

/** Tokens without text, such as some special ones, that a stop string may have between its own. */
const SILENT = 8;

/** Whether the newest token completes one of the strings. */
function stopStrings(strings: readonly string[], tokenizer: Decoder): (row: readonly number[]) => boolean {
  const longest = Math.max(...strings.map((text) => text.length));
  return (row) => {
    const window = row.slice(-(longest + SILENT));
    const text = tokenizer.decode(window);
    const before = tokenizer.decode(window.slice(0, -1));
    return strings.some((stop) => text.indexOf(stop, Math.max(0, before.length - stop.length + 1)) >= 0);
  };
}
