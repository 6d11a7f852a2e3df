import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { heldOutLoss } from '../eval/held_out.ts';
import { T5ForConditionalGeneration } from '../model/t5.ts';
import { openTokenizer } from '../tokenizer/auto_tokenizer.ts';
import { evaluationBatches } from '../train/batches.ts';
import { loadTrainConfig } from '../train/config_file.ts';
import { modelFolder } from '../train/model_folder.ts';
import { runDirectory } from '../train/run_directory.ts';
import { UsageError } from '../util/errors.ts';
import { choice, defineCommand, optional, path, SETTINGS, text, toggle } from './command.ts';
import { evaluateSuite } from './evaluate_suite.ts';
import { modelAt } from './places.ts';

export const evaluateCommand = defineCommand({
  name: 'evaluate',
  summary:
    'Measure a model on held-out shards; with --suite fine-tune every checkpoint of a run on tasks and compare them.',
  positionals: {
    usage: `RUN|CONFIG.yaml ${SETTINGS}`,
    doc: "a run's directory or settings, and settings that replace them; --suite: runs, models, random, the suite's settings",
  },
  flags: {
    suite: optional(text('tasks to fine-tune on: a name in configs/suites, such as fat5, or a file like those')),
    config: optional(path("suite: a file of one's own in place of the named one")),
    output: optional(path('suite: folder of the results, runs/RUN-SUITE when left out; finished ones in it are kept')),
    model: optional(
      path("folder of a model or of a run, or a name on the hub; the run's newest checkpoint when left out"),
    ),
    dtype: optional(
      choice('type of the weights; as in training when left out', ['float32', 'bfloat16', 'float16', 'int8', 'float8']),
    ),
    json: toggle('print one JSON line; suite: one a run'),
  },
  async run(flags, positionals) {
    const isSuite = flags.suite !== undefined || flags.config !== undefined;
    const foreign = (isSuite ? (['model', 'dtype'] as const) : (['output'] as const)).find((name) => flags[name]);
    if (foreign)
      throw new UsageError(
        `evaluate: --${foreign} means nothing ${isSuite ? 'to a suite, which takes settings such as settings.train.dtype=bfloat16' : 'without --suite'}`,
      );
    if (isSuite) return evaluateSuite(flags, positionals);
    const [given, ...overrides] = positionals;
    if (given === undefined) throw new UsageError('evaluate: expected a run such as runs/NAME, or a config file');
    const isRun = existsSync(given) && statSync(given).isDirectory();
    const config = loadTrainConfig(isRun ? join(given, 'config.yaml') : given, overrides);
    const folder =
      flags.model === undefined
        ? modelFolder(isRun ? given : runDirectory(config).directory)
        : await modelAt(flags.model);
    const { device, dtype } = config.train;
    const model = await T5ForConditionalGeneration.from_pretrained(folder, { device, dtype: flags.dtype ?? dtype });
    const held = evaluationBatches({ ...config, model: model.config }, openTokenizer(config.tokenizer));
    const { nll, accuracy, tokens } = await heldOutLoss(model, held);
    const perplexity = Math.exp(nll);
    if (flags.json) console.log(JSON.stringify({ model: folder, nll, perplexity, accuracy, tokens }));
    else
      console.log(
        `${folder}: NLL ${nll.toFixed(4)}  perplexity ${perplexity.toFixed(3)}  accuracy ${(100 * accuracy).toFixed(2)} %  (${tokens} masked tokens)`,
      );
  },
});
