import { devices } from '../backend/devices.ts';
import { fillMasks, hasMask } from '../eval/fill.ts';
import { modes, writeTexts } from '../eval/texts.ts';
import { T5ForConditionalGeneration } from '../model/t5.ts';
import { openTokenizer } from '../tokenizer/auto_tokenizer.ts';
import { UsageError } from '../util/errors.ts';
import { choice, defineCommand, integer, optional, path, toggle } from './command.ts';
import { modelFolder } from './model_folder.ts';
import { inputLines } from './tokenizer.ts';

export const generateCommand = defineCommand({
  name: 'generate',
  summary: 'Let a model write: one answer for each text. Masks such as <extra_id_0> are filled in.',
  positionals: {
    usage: 'MODEL [TEXT …]',
    doc: "a model's folder or a run's, then texts; the lines of standard input when there are none",
  },
  flags: {
    model: optional(path('folder of a model or of a run; every argument is a text then')),
    tokenizer: optional(path("folder with tokenizer.json; the model's own when left out")),
    'max-new-tokens': integer('tokens of an answer at most', 64),
    mode: choice('how UL2 reads: R and X fill masks, S goes on after the text', modes, 'auto'),
    batch: integer('texts at a time', 16),
    json: toggle('print JSON lines with input, output and the filled text'),
    device: choice('where the model runs', devices, 'auto'),
  },
  details: () => 'example: fat5 generate runs/quickstart "The license <extra_id_0> under the terms of <extra_id_1>."',
  async run(flags, given) {
    if (flags.batch < 1) throw new UsageError(`generate: --batch: expected a number from 1, got ${flags.batch}`);
    const [place, ...texts] = flags.model === undefined ? given : [flags.model, ...given];
    if (place === undefined)
      throw new UsageError("generate: expected a model's folder or a run's, such as runs/quickstart, then texts");
    const folder = modelFolder(place);
    const tokenizer = openTokenizer(flags.tokenizer ?? folder);
    const model = await T5ForConditionalGeneration.from_pretrained(folder, { device: flags.device });
    const answer = async (inputs: readonly string[]) => {
      const options = { max_new_tokens: flags['max-new-tokens'], mode: flags.mode };
      const outputs = await writeTexts(model, tokenizer, inputs, options);
      for (const [i, input] of inputs.entries()) {
        const output = outputs[i]!;
        const filled = hasMask(input) ? fillMasks(input, output) : undefined;
        console.log(flags.json ? JSON.stringify({ input, output, filled }) : (filled ?? output));
      }
    };
    let waiting: string[] = [];
    for await (const line of inputLines(texts)) {
      waiting.push(line);
      if (waiting.length < flags.batch) continue;
      await answer(waiting);
      waiting = [];
    }
    if (waiting.length > 0) await answer(waiting);
  },
});
