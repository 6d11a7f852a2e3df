import { finetuneConfigSchema, loadFinetuneConfig } from '../finetune/config.ts';
import { finetune } from '../finetune/finetune.ts';
import { scoresLine } from '../finetune/run.ts';
import { settings } from '../train/config_file.ts';
import { findModel } from '../train/model_folder.ts';
import { LiveLine } from '../train/reporter.ts';
import { UsageError } from '../util/errors.ts';
import { defineCommand, table } from './command.ts';
import { settingRow } from './pretrain.ts';
import { stopSignal } from './signals.ts';

export const finetuneCommand = defineCommand({
  name: 'finetune',
  summary: 'Train a model on a task, keep the best step, score it on the test rows; goes on where it was interrupted.',
  positionals: {
    usage: 'CONFIG.yaml [key.path=value …]',
    doc: "a task's settings, and settings that replace the file's",
  },
  flags: {},
  details: () => `settings:\n${table(settings(finetuneConfigSchema).map(settingRow)).join('\n')}`,
  async run(_, [path, ...overrides]) {
    if (path === undefined) throw new UsageError('finetune: expected a config file, such as configs/finetune/ner.yaml');
    const config = loadFinetuneConfig(path, overrides);
    const out = new LiveLine();
    const parts = {
      note: (text: string) => out.line(text),
      progress: (text: string) => out.progress(text),
      signal: stopSignal(),
    };
    const model = await findModel(config.model);
    const result = await finetune({ ...config, model }, parts).finally(() => out.done());
    if (!result) {
      console.log('interrupted; the same command goes on from here');
      process.exitCode = 130;
      return;
    }
    const { validation, test, best_step, steps } = result;
    console.log(`best step ${best_step} of ${steps}${validation ? `: validation ${scoresLine(validation)}` : ''}`);
    if (test) console.log(`test: ${scoresLine(test)}`);
  },
});
