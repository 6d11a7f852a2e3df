import { t5Config } from '../model/config.ts';
import { parameterCount } from '../model/parameter_table.ts';
import { targetLength } from '../train/batches.ts';
import { loadTrainConfig } from '../train/config_file.ts';
import { stepFlops } from '../train/flops.ts';
import { UsageError } from '../util/errors.ts';
import { defineCommand, number, optional, SETTINGS, table } from './command.ts';
import { gemmSpeed } from './gemm_speed.ts';

const flopUnits = [' FLOP', ' kFLOP', ' MFLOP', ' GFLOP', ' TFLOP', ' PFLOP', ' EFLOP', ' ZFLOP'];

/** A number with three figures in the largest unit that leaves it 1 or more. */
function scaled(n: number, step: number, units: readonly string[]): string {
  const place = Math.min(units.length - 1, Math.max(0, Math.floor(Math.log(n) / Math.log(step))));
  return `${Number((n / step ** place).toPrecision(3))}${units[place]}`;
}

export const estimate = defineCommand({
  name: 'estimate',
  summary: 'Say what a run will take: parameters, memory, FLOPs and hours.',
  positionals: {
    usage: `CONFIG.yaml ${SETTINGS}`,
    doc: "a run's settings, and settings that replace the file's",
  },
  flags: {
    gflops: optional(number('10^9 operations a second of the machine; measured here with one GEMM when left out')),
    share: number('share of that speed which a training step reaches', 0.7),
  },
  async run(flags, [path, ...overrides]) {
    if (path === undefined)
      throw new UsageError('estimate: expected a config file, such as configs/fat5-fr-small.yaml');
    const config = loadTrainConfig(path, overrides);
    const { train, data } = config;
    const model = t5Config(config.model, path);
    const parameters = parameterCount(model);
    const target = targetLength(config);
    const rows = train.rows * train.accumulation;
    const flops = stepFlops(model, rows, data.max_length, target);
    const gflops = flags.gflops ?? gemmSpeed();
    const seconds = flops / (gflops * 1e9 * flags.share);
    const hours = (seconds * train.steps) / 3600;
    const bytes = 16 * parameters; // values (bfloat16: and Kahan's remainder), float32 gradients, two moments
    const tokens = rows * (data.max_length + target);
    const count = (n: number) => Math.round(n).toLocaleString('en');
    const words = ['', ' thousand', ' million', ' billion', ' trillion'];
    const about = (n: number) => scaled(n, 1000, words);
    console.log(
      table([
        ['parameters', count(parameters)],
        [
          'weights, gradients, moments',
          `${scaled(bytes, 1024, [' bytes', ' KiB', ' MiB', ' GiB', ' TiB'])}, activations aside`,
        ],
        ['a step', `${rows} rows of ${data.max_length} + ${target} tokens, ${scaled(flops, 1000, flopUnits)}`],
        [
          'the run',
          `${count(train.steps)} steps, ${about(tokens * train.steps)} tokens, ${scaled(flops * train.steps, 1000, flopUnits)}`,
        ],
        [
          'speed',
          `${(flags.share * 100).toFixed(0)} % of ${gflops.toFixed(0)} GFLOP/s${flags.gflops === undefined ? ' (measured: one GEMM, all threads)' : ''}`,
        ],
        [
          'time',
          `${Number(seconds.toPrecision(3))} s a step, ${hours < 1 ? `${(hours * 60).toFixed(1)} minutes` : hours < 48 ? `${hours.toFixed(1)} hours` : `${(hours / 24).toFixed(1)} days`}`,
        ],
      ]).join('\n'),
    );
  },
});
