import { heldOutLoss } from '../eval/held_out.ts';
import { loadTrainConfig, type Setting, settings } from '../train/config_file.ts';
import { pretrain } from '../train/pretrain.ts';
import { ConsoleReporter } from '../train/reporter.ts';
import { UsageError } from '../util/errors.ts';
import { defineCommand, SETTINGS, table } from './command.ts';
import { stopSignal } from './signals.ts';

export const pretrainCommand = defineCommand({
  name: 'pretrain',
  summary: 'Pre-train a model from token shards; goes on where an interrupted run stopped.',
  positionals: {
    usage: `CONFIG.yaml ${SETTINGS}`,
    doc: "a run's settings, and settings that replace the file's",
  },
  flags: {},
  details: () => `settings (null leaves an optional one out):\n${table(settings().map(settingRow)).join('\n')}`,
  async run(_, [path, ...overrides]) {
    if (path === undefined)
      throw new UsageError('pretrain: expected a config file, such as configs/fat5-fr-small.yaml');
    const config = loadTrainConfig(path, overrides);
    const signal = stopSignal();
    const end = await pretrain(config, { reporter: new ConsoleReporter(), evaluate: heldOutLoss, signal });
    if (end === 'interrupted') {
      console.log('interrupted; the same command goes on from here');
      process.exitCode = 130;
    }
  },
});

export function settingRow({ key, doc, choices, default: value }: Setting): [string, string] {
  const parts = [doc, choices && `[${choices.join('|')}]`, value !== undefined && `(default ${JSON.stringify(value)})`];
  return [key, parts.filter(Boolean).join(' ')];
}
