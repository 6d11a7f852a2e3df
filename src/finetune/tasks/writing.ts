/** What the tasks that write text have in common: their batches, and the texts that a model writes. */
import { batchOf } from '../../model/inputs.ts';
import { T5ForConditionalGeneration } from '../../model/t5.ts';
import { IGNORED } from '../../util/batch.ts';
import { inGroups, padded } from '../../util/id_rows.ts';
import { sourcesOf, type TaskTools } from '../task.ts';

/** A text as tokens and what is to be written about it. */
export interface Written {
  source: number[];
  target: number[];
}

/** Model and batches of such a task. */
export function textTraining({ tokenizer }: TaskTools) {
  return {
    model: T5ForConditionalGeneration,
    configuration: () => ({}),
    lengthOf: ({ source, target }: Written) => source.length + target.length,
    batch(examples: readonly Written[], config: T5ForConditionalGeneration['config']) {
      const target = padded(
        examples.map((e) => e.target),
        IGNORED,
      );
      return batchOf({ ...sourcesOf(examples, tokenizer), labels: target.input_ids }, config);
    },
  };
}

/** What the model writes for each example. */
export function written(
  model: T5ForConditionalGeneration,
  { tokenizer, rows, max_target_length }: TaskTools,
  examples: readonly Pick<Written, 'source'>[],
  num_beams: number,
): Promise<string[]> {
  const lengthOf = ({ source }: Pick<Written, 'source'>) => source.length;
  return inGroups(examples, rows, lengthOf, async (group) => {
    const beams = num_beams > 1 ? { num_beams } : {};
    const ids = await model.generate({ ...sourcesOf(group, tokenizer), max_new_tokens: max_target_length, ...beams });
    return ids.map((row) => tokenizer.decode(row, { skip_special_tokens: true }).trim());
  });
}
