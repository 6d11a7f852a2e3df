/** text-classification: the likeliest classes of a text. */
import { softmax } from '../eval/answers.ts';
import type { T5ForSequenceClassification } from '../model/heads.ts';
import { inGroups, padded } from '../util/id_rows.ts';
import { checkCount, checkOptions, encodeTexts, labelOf, type Parts, type Texts, textsOf } from './parts.ts';

export interface TextClassificationOptions {
  /** Classes wanted, the likeliest first; null: all. 1 by default. */
  top_k?: number | null;
}

export interface Classified {
  label: string;
  /** Probability; of a regression the number itself. */
  score: number;
}

/** One list for a text; for many texts a list of their best classes, or a list of lists where top_k is not 1. */
export interface TextClassification {
  (text: string, options?: TextClassificationOptions): Promise<Classified[]>;
  (texts: readonly string[], options?: { top_k?: 1 }): Promise<Classified[]>;
  (texts: readonly string[], options: TextClassificationOptions): Promise<Classified[][]>;
}

export const textClassification = (parts: Parts<T5ForSequenceClassification>): TextClassification => {
  const { model, task } = parts;
  const call = async (given: Texts, options: TextClassificationOptions = {}) => {
    const texts = textsOf(task, given);
    checkOptions(task, options, ['top_k']);
    const { top_k = 1 } = options;
    if (top_k !== null) checkCount(task, 'top_k', top_k);
    const rows = (await classLogits(parts, encodeTexts(parts, texts))).map((logits) => {
      const scores = scoresOf(model, logits);
      const all = scores.map((score, i) => ({ label: labelOf(model, i), score }));
      return all.sort((a, b) => b.score - a.score).slice(0, top_k ?? all.length);
    });
    if (typeof given === 'string') return rows[0]!;
    return top_k === 1 ? rows.map(([best]) => best!) : rows;
  };
  return call as TextClassification;
};

/** Probabilities by the model's problem type: independent ones, or one distribution; a number stays as it is. */
function scoresOf({ config }: T5ForSequenceClassification, logits: number[]): number[] {
  const { problem_type, num_labels } = config;
  if (problem_type === 'multi_label_classification') return logits.map((x) => 1 / (1 + Math.exp(-x)));
  return problem_type === 'regression' || num_labels === 1 ? logits : softmax(logits);
}

/** Logits [num_labels] of each row of ids. */
export function classLogits(
  { model, batch_size }: Parts<T5ForSequenceClassification>,
  rows: readonly number[][],
): Promise<number[][]> {
  return inGroups(
    rows,
    batch_size,
    (ids) => ids.length,
    async (group) => {
      const { logits } = await model.forward(padded(group, model.config.pad_token_id));
      return logits.tolist() as number[][];
    },
  );
}
