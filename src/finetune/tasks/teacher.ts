/**
 * Distillation by texts: a teacher writes the targets that the model is trained on. They are made once and kept in
 * runs/NAME/teacher.jsonl, JSON Lines with "input" and "target".
 *
 * Source: Kim and Rush 2016, arXiv:1606.07947, sequence-level knowledge distillation.
 */
import { join } from 'node:path';
import { T5ForConditionalGeneration } from '../../model/t5.ts';
import { openTokenizer } from '../../tokenizer/auto_tokenizer.ts';
import { findModel } from '../../train/model_folder.ts';
import { madeOnce } from '../once.ts';
import { encoded, type Preparation, type TaskTools } from '../task.ts';
import { type Written, written } from './writing.ts';

export interface Teacher {
  /** Folder of a model or of a run; it may have a tokenizer of its own. */
  model: string;
  num_beams: number;
}

/** Groups of texts of similar length that are written before anything is kept. */
const GROUPS = 8;

/** Replaces the targets of the training examples by the teacher's. False where the signal ended it. @throws UsageError */
export async function taught<E extends Written & { text: string }>(
  teacher: Teacher,
  tools: TaskTools,
  { directory, train, options, ...parts }: Preparation<E, unknown>,
): Promise<boolean> {
  const { max_length, max_target_length } = tools;
  const folder = await findModel(teacher.model);
  let opened: { model: T5ForConditionalGeneration; tools: TaskTools } | undefined;
  try {
    const found = await madeOnce<{ input: string; target: string }>({
      ...parts,
      path: join(directory, 'teacher.jsonl'),
      about: [folder, teacher.num_beams, max_length, max_target_length, train.map(({ text }) => text)],
      count: train.length,
      part: tools.rows * GROUPS,
      what: "the teacher's targets",
      async make(from, to) {
        opened ??= {
          model: await T5ForConditionalGeneration.from_pretrained(folder, { ...options, complete: true }),
          tools: { ...tools, tokenizer: openTokenizer(folder) },
        };
        const { model, tools: its } = opened;
        const texts = train.slice(from, to).map(({ text }) => text);
        const examples = texts.map((text) => ({ source: encoded(its.tokenizer, text, max_length) }));
        const targets = await written(model, its, examples, teacher.num_beams);
        return targets.map((target, i) => ({ input: texts[i]!, target }));
      },
    });
    for (const [i, example] of train.entries())
      if (found) example.target = encoded(tools.tokenizer, found[i]!.target, max_target_length);
    return found !== undefined;
  } finally {
    opened?.model.dispose();
  }
}
