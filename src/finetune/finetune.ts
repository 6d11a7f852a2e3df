/**
 * A fine-tuning run from its settings: rows, steps, scores on the validation rows, the best step kept, the test rows at
 * the end. A run that was stopped goes on from its last checkpoint with the same bits.
 *
 *   runs/NAME/config.yaml, metrics.jsonl     as a pre-training run
 *   runs/NAME/checkpoints/step-…             the last state: goes on from here
 *   runs/NAME/best/                          the model of the best step, with its tokenizer
 *   runs/NAME/scores.json                    what came out
 *   runs/NAME/predictions.jsonl              every test row's prediction beside what was wanted
 */
import { renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { stringify } from 'yaml';
import { configOf } from '../model/pretrained.ts';
import { openTokenizer } from '../tokenizer/auto_tokenizer.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { type Checkpoint, latestCheckpoint, pruneCheckpoints, saveCheckpoint } from '../train/checkpoint.ts';
import { EnergyMeter, MetricsFile } from '../train/metrics.ts';
import { copyTokenizer, restoreOptimizer, saveOptimizer, trainerOptions } from '../train/run_parts.ts';
import { Trainer } from '../train/trainer.ts';
import { UsageError } from '../util/errors.ts';
import { lockFolder } from '../util/lock.ts';
import { makeFolder, writeWhole } from '../util/new_file.ts';
import type { FinetuneConfig } from './config.ts';
import { epochBatches } from './order.ts';
import { allRows, type Row } from './rows.ts';
import type { AnyTask, Scores, TaskModel } from './task.ts';
import { createTask } from './tasks.ts';

type Model = TaskModel<{ tokens: number }>;

/** What a run tells and asks its caller. */
export interface FinetuneParts {
  /** One line about what happened. */
  note(line: string): void;
  /** What is going on now. */
  progress(line: string): void;
  /** Aborted to stop after the step in work, with a checkpoint. */
  signal: AbortSignal;
}

/** What scores.json holds. */
export interface FinetuneResult {
  task: string;
  model: string;
  weights: 'checkpoint' | 'random';
  seed: number;
  metric: string;
  best_step: number;
  steps: number;
  validation: Scores | undefined;
  test: Scores | undefined;
  seconds: number;
  joules: number | undefined;
  memory_bytes: number;
}

/** The best scores so far, and how many since were no better. */
interface Best {
  step: number;
  scores: Scores | undefined;
  worse: number;
}

/**
 * Fine-tunes a model and scores it. Undefined where the signal ended it before its last step.
 * @throws UsageError for settings, rows or labels that do not fit, naming file and row; FormatError for damaged files
 */
export async function finetune(config: FinetuneConfig, parts: FinetuneParts): Promise<FinetuneResult | undefined> {
  const directory = join(config.runs_directory, config.name);
  const unlock = lockFolder(directory, 'give this run another name=');
  try {
    return await runIn(directory, config, parts);
  } finally {
    unlock();
  }
}

async function runIn(
  directory: string,
  config: FinetuneConfig,
  parts: FinetuneParts,
): Promise<FinetuneResult | undefined> {
  const tokenizer = openTokenizer(config.tokenizer ?? config.model);
  const { max_length, max_target_length, seed } = config.train;
  const task = createTask(config, { tokenizer, max_length, max_target_length, rows: config.evaluate.rows });
  const rows = (split: 'train' | 'validation' | 'test') => splitRows(task, config, split);
  const training = task.examples((await rows('train'))!, 'train');
  const held = config.data.validation && task.examples((await rows('validation'))!, 'held-out');
  const test = config.data.test && task.examples((await rows('test'))!, 'held-out');

  const checkpoints = join(directory, 'checkpoints');
  const checkpoint = await latestCheckpoint(checkpoints, parts.note);
  const model = await openModel(config, task, tokenizer, checkpoint?.folder);
  const lengths = training.map(task.lengthOf);
  const perEpoch = Math.ceil(lengths.length / config.train.rows);
  const { accumulation } = config.train;
  const steps = Math.max(1, Math.ceil((config.train.epochs * perEpoch) / accumulation));
  const evaluateEvery = Math.max(1, Math.round((config.evaluate.every * perEpoch) / accumulation));
  const trainer = new Trainer(model, {
    ...trainerOptions(config, steps),
    trainable: (name) => !config.train.frozen.some((part) => name.includes(part)),
  });
  const metric = config.evaluate.metric ?? task.metric;
  let best: Best = { step: 0, scores: undefined, worse: 0 };
  if (checkpoint) best = resume(checkpoint, trainer, parts);

  makeFolder(checkpoints);
  writeWhole(join(directory, 'config.yaml'), stringify(config, { nullStr: 'null' }));
  const metrics = new MetricsFile(join(directory, 'metrics.jsonl'), checkpoint?.state.step ?? -1);
  const energy = new EnergyMeter();
  const before = checkpoint?.state.progress.seconds ?? 0;
  const started = performance.now();
  const seconds = () => before + (performance.now() - started) / 1000;

  const keep = async (folder: string) => {
    await model.save_pretrained(folder);
    copyTokenizer(config.tokenizer ?? config.model, folder);
  };
  const save = async () => {
    const progress = { label_tokens: 0, seconds: seconds(), window: {} };
    await saveCheckpoint(checkpoints, { step: trainer.steps, seed, data: best, progress }, async (into) => {
      await keep(into);
      await saveOptimizer(into, trainer.optimizer);
    });
    await pruneCheckpoints(checkpoints, 1, 0);
  };
  const score = async () => {
    if (!held) best = { step: trainer.steps, scores: undefined, worse: 0 };
    else {
      parts.progress(`step ${trainer.steps}/${steps}  predicting ${held.length} validation rows`);
      const scores = task.scores(held, await task.predict(model, held));
      if (scores[metric] === undefined)
        throw new UsageError(
          `evaluate.metric: "${metric}" is no score of this task, expected one of ${Object.keys(scores).join(', ')}`,
        );
      metrics.append({ kind: 'score', step: trainer.steps, scores, seconds: seconds() });
      parts.note(`[eval] step ${trainer.steps} of ${steps}  ${line(scores)}`);
      const better = !best.scores || scores[metric]! > best.scores[metric]!;
      best = better ? { step: trainer.steps, scores, worse: 0 } : { ...best, worse: best.worse + 1 };
    }
    if (best.step === trainer.steps) await replaceFolder(join(directory, 'best'), keep);
    await save();
  };
  const { patience } = config.evaluate;
  const done = () => trainer.steps >= steps || (patience > 0 && best.worse >= patience);

  try {
    let order: number[][] = [];
    let ordered = -1;
    while (!done()) {
      const batches: unknown[] = [];
      for (let i = trainer.steps * accumulation; i < (trainer.steps + 1) * accumulation; i++) {
        const epoch = Math.floor(i / perEpoch);
        if (epoch !== ordered) [order, ordered] = [epochBatches(lengths, config.train.rows, seed, epoch), epoch];
        const examples = order[i % perEpoch]!.map((k) => training[k]);
        batches.push(task.batch(examples, model.config));
      }
      const from = performance.now();
      const result = await trainer.stepOn(batches as { tokens: number }[]);
      if (!Number.isFinite(result.loss) || !Number.isFinite(result.grad_norm))
        throw new UsageError(
          `finetune: step ${trainer.steps}: loss ${result.loss}, gradient norm ${result.grad_norm}, expected finite ` +
            'numbers; run again under another name= with a lower optim.learning_rate',
        );
      const step = trainer.steps;
      const took = (performance.now() - from) / 1000;
      parts.progress(
        `step ${step}/${steps}  loss ${result.loss.toFixed(3)}  ${Math.round((steps - step) * took)} s left`,
      );
      if (step % config.log.every === 0 || step === steps) {
        const { loss, grad_norm, learning_rate } = result;
        const record = {
          loss,
          grad_norm,
          learning_rate,
          seconds_per_step: took,
          memory_bytes: process.memoryUsage.rss(),
        };
        metrics.append({ kind: 'step', step, ...record });
        parts.note(`[train] step ${step} of ${steps}  loss ${loss.toFixed(3)}  ${took.toFixed(2)} s a step`);
      }
      await setImmediate(); // lets signals in
      if (step % evaluateEvery === 0 || step === steps) await score();
      if (parts.signal.aborted && !done()) {
        if (step % evaluateEvery !== 0) await save();
        return undefined;
      }
    }
  } finally {
    metrics.close();
    trainer.dispose();
    model.dispose();
  }
  const result: FinetuneResult = {
    task: config.task.name,
    model: config.model,
    weights: config.weights,
    seed,
    metric,
    best_step: best.step,
    steps: trainer.steps,
    validation: best.scores,
    test: test && (await testScores(task, directory, test, config)),
    seconds: seconds(),
    joules: energy.joules(),
    memory_bytes: process.resourceUsage().maxRSS * 1024,
  };
  writeWhole(join(directory, 'scores.json'), `${JSON.stringify(result, null, 2)}\n`);
  return result;
}

/** Scores as a line: "f1 81.20  accuracy 95.03". */
export const line = (scores: Scores): string =>
  Object.entries(scores)
    .map(([name, value]) => `${name} ${value.toFixed(2)}`)
    .join('  ');

async function splitRows(
  task: AnyTask & { rows?: (sources: readonly string[], split: string) => Promise<Row[]> },
  { data }: FinetuneConfig,
  split: 'train' | 'validation' | 'test',
): Promise<Row[] | undefined> {
  const sources = data[split];
  if (!sources) return undefined;
  const rows = task.rows ? await task.rows(sources, split) : await allRows(sources, task.columns, data.limit);
  return rows.slice(0, data.limit);
}

async function openModel(
  config: FinetuneConfig,
  task: AnyTask,
  tokenizer: Tokenizer,
  checkpoint: string | undefined,
): Promise<Model> {
  const { device, dtype, seed, label_smoothing, dropout } = config.train;
  const settings = {
    ...task.configuration(),
    ...(label_smoothing !== undefined && { label_smoothing }),
    ...(dropout !== undefined && { dropout_rate: dropout, classifier_dropout: dropout }),
  };
  const written = configOf(config.model);
  if ((written.vocab_size ?? 0) < tokenizer.vocab_size)
    throw new UsageError(
      `${config.model}: vocab_size is ${written.vocab_size}, the tokenizer has ${tokenizer.vocab_size} ids; it belongs to another model`,
    );
  if (checkpoint) return task.model.from_pretrained(checkpoint, { device, dtype }) as Promise<Model>;
  if (config.weights === 'random')
    return task.model.from_config({ ...written, ...settings } as never, { device, dtype, seed }) as Model;
  return task.model.from_pretrained(config.model, { device, dtype, seed, config: settings }) as Promise<Model>;
}

function resume(checkpoint: Checkpoint, trainer: Trainer<Model>, parts: FinetuneParts): Best {
  restoreOptimizer(checkpoint, trainer.optimizer);
  parts.note(`goes on after step ${trainer.steps} (${checkpoint.folder})`);
  return checkpoint.state.data as Best;
}

/** Replaces a folder as a whole. */
async function replaceFolder(folder: string, write: (into: string) => Promise<void>): Promise<void> {
  const temporary = `${folder}.tmp`;
  rmSync(temporary, { recursive: true, force: true });
  await write(temporary);
  rmSync(folder, { recursive: true, force: true });
  renameSync(temporary, folder);
}

/** Scores of the best step's model on the test rows; writes predictions.jsonl. */
async function testScores(
  task: AnyTask,
  directory: string,
  examples: readonly unknown[],
  { train }: FinetuneConfig,
): Promise<Scores> {
  const model = await task.model.from_pretrained(join(directory, 'best'), { device: train.device, dtype: train.dtype });
  try {
    const predictions = await task.predict(model, examples);
    const lines = predictions.map((prediction, i) => {
      const one = { wanted: task.wanted(examples[i]), prediction };
      return JSON.stringify({ ...one, scores: task.scores([examples[i]], [prediction]) });
    });
    writeWhole(join(directory, 'predictions.jsonl'), `${lines.join('\n')}\n`);
    return task.scores(examples, predictions);
  } finally {
    model.dispose();
  }
}
