/** One line on standard error that shows how far a stage is; plain lines, far apart, where nobody watches. */
import { duration } from '../train/metrics.ts';

const WIDTH = 24;
/** Milliseconds between two states of the line, on a terminal and elsewhere. */
const often = 100;
const seldom = 15_000;

export class ProgressBar {
  private readonly label: string;
  private readonly started = performance.now();
  private shown = 0;
  private isOpen = false;

  constructor(label: string) {
    this.label = label;
  }

  /** `share` of the work done, 0 to 1, or undefined where nobody knows; `text` says what has been done. */
  update(share: number | undefined, text: string): void {
    const now = performance.now();
    if (now - this.shown < (process.stderr.isTTY ? often : seldom)) return;
    this.shown = now;
    const seconds = (now - this.started) / 1000;
    const left = share && seconds > 1 ? `  ${duration((seconds * (1 - share)) / share)} left` : '';
    if (!process.stderr.isTTY) {
      process.stderr.write(
        `${this.label}: ${share === undefined ? '' : `${Math.floor(100 * share)} %  `}${text}${left}\n`,
      );
      return;
    }
    const filled = Math.round(WIDTH * Math.min(1, share ?? 0));
    const bar =
      share === undefined
        ? ''
        : `${'█'.repeat(filled)}${'░'.repeat(WIDTH - filled)} ${String(Math.floor(100 * share)).padStart(3)} %  `;
    process.stderr.write(
      `\r\x1b[K${`${this.label} ${bar}${text}${left}`.slice(0, (process.stderr.columns ?? 80) - 1)}`,
    );
    this.isOpen = true;
  }

  /** Removes the line. */
  done(): void {
    if (this.isOpen) process.stderr.write('\r\x1b[K');
    this.isOpen = false;
  }
}
