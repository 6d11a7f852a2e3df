/** How large a model and how many steps fit into the minutes that are left, from measured speed. */
import { t5Config } from '../../model/config.ts';
import { T5ForConditionalGeneration } from '../../model/t5.ts';
import type { Tokenizer } from '../../tokenizer/tokenizer.ts';
import { trainingBatches } from '../../train/batches.ts';
import type { TrainConfig } from '../../train/config.ts';
import { checkTrainConfig, loadTrainConfig } from '../../train/config_file.ts';
import { stepFlops } from '../../train/flops.ts';
import { Trainer } from '../../train/trainer.ts';

/** Widths to choose from, the largest first; d_ff is three times as much, a head 32 wide. */
const widths = [256, 192, 128, 64] as const;
/** Small models learn by the number of steps: where they are fewer, a narrower one ends at a lower loss. */
const FEWEST_STEPS = 6000;
/** Steps that are timed, if they do not take more than this share of the time. */
const MEASURED_STEPS = 50;
const MEASURED_SHARE = 0.02;
const EVALUATIONS = 8;
const SAVES = 10;
const RECORDS = 100;
/** Share of the time for evaluations and checkpoints. */
const OVERHEAD = 0.08;

/** The settings of quickstart's run: those of configs/tiny.yaml with a width and steps that this machine can do. */
export async function planRun(
  file: string,
  folders: Record<'name' | 'runs_directory' | 'tokenizer' | 'data.folder', string>,
  tokenizer: Tokenizer,
  seconds: number,
): Promise<TrainConfig> {
  const paths = Object.entries(folders).map(([key, value]) => `${key}=${JSON.stringify(value)}`);
  const settings = (width: number) =>
    loadTrainConfig(file, [
      ...paths,
      `model.vocab_size=${Math.ceil(tokenizer.vocab_size / 64) * 64}`,
      `model.pad_token_id=${tokenizer.pad_token_id}`,
      `model.eos_token_id=${tokenizer.eos_token_id}`,
      `model.decoder_start_token_id=${tokenizer.decoder_start_token_id}`,
      `model.d_model=${width}`,
      `model.d_ff=${3 * width}`,
      `model.num_heads=${width / 32}`,
    ]);
  const started = performance.now();
  const stepsIn = (perStep: number) =>
    Math.max(1, Math.floor(((seconds - (performance.now() - started) / 1000) * (1 - OVERHEAD)) / perStep));
  const limit = MEASURED_SHARE * seconds;
  const [widest, narrowest] = [settings(widths[0]), settings(widths.at(-1)!)];
  const perStep = await secondsPerStep(widest, tokenizer, limit);
  if (stepsIn(perStep) >= FEWEST_STEPS) return withSteps(widest, stepsIn(perStep));
  // Narrower models are slower for their FLOPs; the one that looks right is measured as well.
  const expected = (config: TrainConfig) => (perStep * flopsOf(config)) / flopsOf(widest);
  const config = widths.map(settings).find((c) => stepsIn(expected(c)) >= FEWEST_STEPS) ?? narrowest;
  return withSteps(config, stepsIn(await secondsPerStep(config, tokenizer, limit)));
}

const flopsOf = ({ model, train, data }: TrainConfig): number =>
  stepFlops(t5Config(model), train.rows, data.max_length, data.max_labels_length!);

function withSteps(config: TrainConfig, steps: number): TrainConfig {
  const every = (parts: number) => Math.max(1, Math.ceil(steps / parts));
  const { schedule } = config.optim;
  return checkTrainConfig(
    {
      ...config,
      optim: { ...config.optim, schedule: { ...schedule, warmup_steps: Math.ceil(steps / 20) } },
      train: { ...config.train, steps },
      evaluate: { ...config.evaluate, every: every(EVALUATIONS) },
      checkpoint: { ...config.checkpoint, every: every(SAVES) },
      log: { every: every(RECORDS) },
    },
    'quickstart',
  );
}

/**
 * Measured on a throw-away model with the run's own batches: the median of some steps, or of as many as `limit` seconds
 * allow, after a first one that warms up.
 */
async function secondsPerStep(config: TrainConfig, tokenizer: Tokenizer, limit: number): Promise<number> {
  const { device, dtype, seed } = config.train;
  const model = T5ForConditionalGeneration.from_config(config.model, { device, dtype, seed });
  const trainer = new Trainer(model, { optimizer: { name: 'adamw_scale' }, max_grad_norm: config.train.max_grad_norm });
  const source = trainingBatches(config, tokenizer, null);
  try {
    const times: number[] = [];
    for (let spent = 0; times.length === 0 || (times.length <= MEASURED_STEPS && spent < limit); ) {
      const batch = await source.next();
      const started = performance.now();
      await trainer.stepOn([batch]);
      times.push((performance.now() - started) / 1000);
      spent += times.at(-1)!;
    }
    const warm = times.length > 1 ? times.slice(1) : times;
    return warm.sort((a, b) => a - b)[warm.length >> 1]!;
  } finally {
    await source.close();
    trainer.dispose();
    model.dispose();
  }
}
