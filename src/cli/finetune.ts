import { type FinetuneConfig, finetuneConfigSchema, loadFinetuneConfig } from '../finetune/config.ts';
import { finetune } from '../finetune/finetune.ts';
import { scoresLine } from '../finetune/run.ts';
import { seedTable } from '../finetune/seeds.ts';
import { settings } from '../train/config_file.ts';
import { LiveLine } from '../train/reporter.ts';
import { UsageError } from '../util/errors.ts';
import { defineCommand, integer, optional, SETTINGS, table } from './command.ts';
import { modelAt } from './places.ts';
import { settingRow } from './pretrain.ts';
import { stopSignal } from './signals.ts';

export const finetuneCommand = defineCommand({
  name: 'finetune',
  summary: 'Train a model on a task, keep the best step, score it on the test rows; goes on where it was interrupted.',
  positionals: {
    usage: `CONFIG.yaml ${SETTINGS}`,
    doc: "a task's settings, and settings that replace the file's",
  },
  flags: { seeds: optional(integer('several runs with seeds from train.seed on, each in its own folder')) },
  details: () => `settings:\n${table(settings(finetuneConfigSchema).map(settingRow)).join('\n')}`,
  async run({ seeds }, [path, ...overrides]) {
    if (path === undefined) throw new UsageError('finetune: expected a config file, such as configs/finetune/ner.yaml');
    const config = withSeeds(loadFinetuneConfig(path, overrides), seeds);
    const out = new LiveLine();
    const parts = {
      note: (text: string) => out.line(text),
      progress: (text: string) => out.progress(text),
      signal: stopSignal(),
    };
    const model = await modelAt(config.model);
    const result = await finetune({ ...config, model }, parts).finally(() => out.done());
    if (!result) {
      console.log('interrupted; the same command goes on from here');
      process.exitCode = 130;
      return;
    }
    const { validation, test, best_step, steps, over_seeds } = result;
    if (over_seeds) {
      console.log(seedTable(over_seeds).join('\n'));
      return;
    }
    console.log(`best step ${best_step} of ${steps}${validation ? `: validation ${scoresLine(validation)}` : ''}`);
    if (test) console.log(`test: ${scoresLine(test)}`);
  },
});

function withSeeds(config: FinetuneConfig, count: number | undefined): FinetuneConfig {
  if (count === undefined) return config;
  if (count < 2) throw new UsageError(`finetune: --seeds is ${count}, expected 2 or more runs`);
  const { seed } = config.train;
  return { ...config, train: { ...config.train, seeds: Array.from({ length: count }, (_, i) => seed + i) } };
}
