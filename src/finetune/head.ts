/** The head that a checkpoint has for a task, and whether the task's classes are its classes. */
import { configOf } from '../model/pretrained.ts';
import { openWeights } from '../model/weights.ts';
import { UsageError } from '../util/errors.ts';
import type { FinetuneConfig } from './config.ts';

/** What a checkpoint's head decides between. */
export interface Head {
  /** The checkpoint, for messages. */
  model: string;
  labels: readonly string[];
}

/** The last layer of each task's head. */
const lastLayers: Record<string, string> = {
  classification: 'classification_head.out_proj.weight',
  token_classification: 'classifier.weight',
};

/** The head that a run goes on training; undefined where it begins one. @throws FormatError for damaged files */
export function headOf({ model, weights, task }: FinetuneConfig): Head | undefined {
  const layer = lastLayers[task.name];
  if (layer === undefined || weights !== 'checkpoint') return undefined;
  const file = openWeights(model);
  try {
    const count = file.entries.get(layer)?.shape[0];
    if (count === undefined) return undefined;
    const names = configOf(model).id2label ?? {};
    return { model, labels: Array.from({ length: count }, (_, i) => names[i] ?? `LABEL_${i}`) };
  } finally {
    file.close();
  }
}

/** transformers' names for classes that have none. */
const isNameless = ({ labels }: Head): boolean => labels.every((label, i) => label === `LABEL_${i}`);

/**
 * The classes in the order of the head that goes on: those of the task, of which none may be new to it; the head may
 * know more. @param own in the order of a new head @throws UsageError for other classes than the head's
 */
export function labelsOf(own: readonly string[], head: Head | undefined): readonly string[] {
  if (!head) return own;
  if (isNameless(head) && own.length === head.labels.length) return own;
  if (!isNameless(head) && own.every((label) => head.labels.includes(label))) return head.labels;
  const shown = (labels: readonly string[]) =>
    `${labels.length} labels (${labels.slice(0, 6).join(', ')}${labels.length > 6 ? ', …' : ''})`;
  throw new UsageError(
    `${head.model}: its head has ${shown(head.labels)}, the task ${shown(own)}; expected the head's, or weights: backbone, which begins a new head`,
  );
}
