/** What a person sees of a run. */
import { type EvaluationRecord, evaluationLine, type TrainRecord, trainLine } from './metrics.ts';

/** Where the loop says what happens. */
export interface Reporter {
  /** After every step, what is going on now. */
  progress(text: string): void;
  train(record: TrainRecord, steps: number): void;
  evaluation(record: EvaluationRecord, steps: number): void;
  saved(folder: string): void;
  /** Something the user should know. */
  note(text: string): void;
  /** The run has ended, somehow. */
  done(): void;
}

/** Lines that stay, and on a terminal one line below them that is rewritten. */
export class LiveLine {
  private readonly stream: NodeJS.WriteStream;
  private live = '';

  constructor(stream: NodeJS.WriteStream = process.stdout) {
    this.stream = stream;
  }

  line(text: string): void {
    if (this.live) this.stream.write('\r\x1b[K');
    this.stream.write(`${text}\n${this.live}`);
  }

  /** Replaces the live line; nothing on a pipe or in a file. */
  progress(text: string): void {
    if (!this.stream.isTTY) return;
    this.live = text.slice(0, (this.stream.columns ?? 80) - 1);
    this.stream.write(`\r\x1b[K${this.live}`);
  }

  /** Removes the live line. */
  done(): void {
    if (this.live) this.stream.write('\r\x1b[K');
    this.live = '';
  }
}

/** nanoT5's lines, and a live one on a terminal. */
export class ConsoleReporter implements Reporter {
  private readonly out = new LiveLine();

  progress(text: string): void {
    this.out.progress(text);
  }
  train(record: TrainRecord, steps: number): void {
    this.out.line(trainLine(record, steps));
  }
  evaluation(record: EvaluationRecord, steps: number): void {
    this.out.line(evaluationLine(record, steps));
  }
  saved(folder: string): void {
    this.out.line(`saved ${folder}`);
  }
  note(text: string): void {
    this.out.line(text);
  }
  done(): void {
    this.out.done();
  }
}
