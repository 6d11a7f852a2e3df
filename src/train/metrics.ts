/**
 * What a run says about itself: one JSON object per line in metrics.jsonl, nanoT5's line for the console.
 * The keys of a record are those of metrics.jsonl; `quickstart` reads them.
 */
import { closeSync, existsSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs';
import { writeError } from '../util/new_file.ts';

/** One training record: means since the one before it, unless said otherwise. */
export interface TrainRecord {
  kind: 'train';
  step: number;
  /** What is minimised: cross entropy plus z-loss, nats per label token. */
  loss: number;
  z_loss: number;
  /** Share of label tokens that are the most likely one. */
  accuracy: number;
  /** Global L2 norm of the gradient before clipping. */
  grad_norm: number;
  /** Global L2 norm of all weights, now. */
  weight_norm: number;
  /** Of the step just taken. */
  learning_rate: number;
  seconds_per_step: number;
  /** Source and target positions that are not padding. */
  tokens_per_second: number;
  /** 10^9 model FLOPs a second (flops.ts), padding included. */
  gflops: number;
  /** gflops as a share of what the device's data sheet promises; absent where none is known. */
  mfu?: number;
  /** Share of source and target positions that are padding. */
  padding: number;
  /** Resident memory of the process, now; largest device memory of the model and its step. */
  memory_bytes: number;
  device_bytes: number;
  /** Label tokens trained on since the first step of the run. */
  label_tokens: number;
  /** Seconds of training since the first step of the run, evaluations and saves included. */
  seconds: number;
  /** Energy of the processor packages; absent where the machine does not tell. */
  joules?: number;
}

/** Means over the held-out batches. */
export interface EvaluationRecord {
  kind: 'evaluation';
  step: number;
  /** Cross entropy in nats per label token, without z-loss. */
  nll: number;
  accuracy: number;
  tokens: number;
  seconds: number;
}

/** One step of a fine-tuning run. */
export interface StepRecord {
  kind: 'step';
  step: number;
  loss: number;
  grad_norm: number;
  learning_rate: number;
  seconds_per_step: number;
  memory_bytes: number;
}

/** A fine-tuning run's scores on its validation rows. */
export interface ScoreRecord {
  kind: 'score';
  step: number;
  scores: Record<string, number>;
  seconds: number;
}

/** A line of metrics.jsonl. */
export type MetricsRecord = TrainRecord | EvaluationRecord | StepRecord | ScoreRecord;

/** The records of a metrics.jsonl, damaged lines left out. */
export function readMetrics(path: string): MetricsRecord[] {
  return lines(path).map(({ record }) => record);
}

function lines(path: string): { record: MetricsRecord; end: number }[] {
  if (!existsSync(path)) return [];
  const bytes = readFileSync(path);
  const found: { record: MetricsRecord; end: number }[] = [];
  for (let start = 0, end: number; (end = bytes.indexOf(10, start)) >= 0; start = end + 1) {
    try {
      found.push({ record: JSON.parse(bytes.toString('utf8', start, end)) as MetricsRecord, end: end + 1 });
    } catch {
      // Damaged: the records after it still count.
    }
  }
  return found;
}

/** metrics.jsonl, open for appending. */
export class MetricsFile {
  private readonly path: string;
  private readonly file: number;

  /** Continues after `step`: records of later steps are cut off, since those steps will be taken again. */
  constructor(path: string, step: number) {
    const kept = lines(path).filter(({ record }) => record.step <= step);
    this.path = path;
    this.file = openSync(path, 'a');
    ftruncateSync(this.file, kept.at(-1)?.end ?? 0);
  }

  /** @throws UsageError for a full disk */
  append(record: MetricsRecord): void {
    const line = Buffer.from(`${JSON.stringify(record)}\n`);
    try {
      for (let done = 0; done < line.length; ) done += writeSync(this.file, line, done);
    } catch (cause) {
      throw writeError(this.path, cause);
    }
  }

  close(): void {
    closeSync(this.file);
  }
}

/** Three decimals as nanoT5 prints them; three digits where that would show nothing. */
const digits = (x: number): string => (x !== 0 && Math.abs(x) < 1e-3 ? x.toExponential(2) : x.toFixed(3));

/** nanoT5's line, with what we know beyond it. */
export function trainLine(r: TrainRecord, steps: number): string {
  const shown: [string, string][] = [
    ['Loss', digits(r.loss)],
    ['Grad_l2', digits(r.grad_norm)],
    ['Weights_l2', digits(r.weight_norm)],
    ['Lr', digits(r.learning_rate)],
    ['Seconds_per_step', digits(r.seconds_per_step)],
    ['Accuracy', digits(r.accuracy)],
    ['Tokens_per_second', r.tokens_per_second.toFixed(0)],
    ['Gflops', r.gflops.toFixed(1)],
    ...(r.mfu === undefined ? [] : [['Mfu', digits(r.mfu)] as [string, string]]),
    ['Memory_gb', digits(r.device_bytes / 1e9)],
    ['Padding', digits(r.padding)],
    ['Time_left', duration((steps - r.step) * r.seconds_per_step)],
  ];
  return `[train] Step ${r.step} out of ${steps} | ${shown.map(([key, value]) => `${key} --> ${value} | `).join('')}`;
}

/** An evaluation as one line of the log. */
export function evaluationLine(r: EvaluationRecord, steps: number): string {
  return `[eval] Step ${r.step} out of ${steps} | Loss --> ${digits(r.nll)} | Accuracy --> ${digits(r.accuracy)} | Time --> ${digits(r.seconds)} | `;
}

/** Seconds as h:mm:ss or m:ss. */
export function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return '?';
  const s = Math.max(0, Math.round(seconds));
  const two = (n: number) => String(n).padStart(2, '0');
  const hours = Math.floor(s / 3600);
  return hours > 0 ? `${hours}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}` : `${Math.floor(s / 60)}:${two(s % 60)}`;
}
