import { convertFormats, convertModel, convertTypes } from '../model/convert.ts';
import { copyTokenizer } from '../train/run_parts.ts';
import { UsageError } from '../util/errors.ts';
import { choice, defineCommand } from './command.ts';
import { modelAt } from './places.ts';

export const convertCommand = defineCommand({
  name: 'convert',
  summary:
    "Write a model's folder again: from pytorch_model.bin or shards, to flashT5's names or back, in another type.",
  positionals: { usage: 'FROM TO', doc: "a model's folder or a run's, and the folder to write" },
  flags: {
    to: choice("names and configuration: transformers', or FAT5's flashT5", convertFormats, 'huggingface'),
    dtype: choice('type of the weights', convertTypes, 'keep'),
  },
  details: () => 'example: fat5 convert runs/quickstart exported --dtype bfloat16',
  async run({ to: format, dtype }, [from, to, ...more]) {
    if (from === undefined || to === undefined || more.length > 0)
      throw new UsageError('convert: expected two folders, the model and where to write it');
    const folder = await modelAt(from);
    const count = await convertModel(folder, to, { format, dtype });
    copyTokenizer(folder, to);
    console.log(`${to}: ${count} tensors from ${folder}`);
  },
});
