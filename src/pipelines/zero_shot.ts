/**
 * zero-shot-classification: classes that are only named in the call. Each becomes a hypothesis, and a model of natural
 * language inference says whether the text entails it.
 *
 * A text-to-text model is asked in the words of T5's own MNLI task; the log-probabilities of its three answers are the
 * logits. Source: Raffel et al. 2020, arXiv:1910.10683, appendix D; Yin et al. 2019, arXiv:1909.00161.
 */
import { softmax } from '../eval/answers.ts';
import { T5ForSequenceClassification } from '../model/heads.ts';
import type { T5ForConditionalGeneration } from '../model/t5.ts';
import { UsageError } from '../util/errors.ts';
import { inGroups, padded } from '../util/id_rows.ts';
import { checkOptions, type Each, encodeTexts, type Parts, type Texts, textsOf } from './parts.ts';
import { classLogits } from './text_classification.ts';

export interface ZeroShotOptions {
  /** Sentence that a class is put into, at {}. "This example is {}." by default. */
  hypothesis_template?: string;
  /** Whether several classes may hold: each has a probability of its own then. */
  multi_label?: boolean;
}

export interface ZeroShotResult {
  sequence: string;
  /** The classes, the likeliest first. */
  labels: string[];
  scores: number[];
}

export type ZeroShot = <T extends Texts>(
  texts: T,
  candidate_labels: Texts,
  options?: ZeroShotOptions,
) => Promise<Each<T, ZeroShotResult>>;

/** Logits of entailment and contradiction for pairs of a text and a hypothesis. */
type Judge = (pairs: readonly Pair[]) => Promise<{ entails: number; contradicts: number }[]>;

interface Pair {
  premise: string;
  hypothesis: string;
}

export const zeroShot = (parts: Parts<T5ForSequenceClassification | T5ForConditionalGeneration>): ZeroShot => {
  const { model, task } = parts;
  const judge =
    model instanceof T5ForSequenceClassification
      ? classifierJudge({ ...parts, model })
      : writerJudge({ ...parts, model });
  const call = async (given: Texts, candidates: Texts, options: ZeroShotOptions = {}) => {
    const texts = textsOf(task, given);
    const labels = textsOf(task, candidates, 'a label');
    checkOptions(task, options, ['hypothesis_template', 'multi_label']);
    const { hypothesis_template = 'This example is {}.', multi_label = false } = options;
    if (!hypothesis_template.includes('{}'))
      throw new UsageError(`${task}: hypothesis_template is "${hypothesis_template}", expected {} where a label goes`);
    const hypotheses = labels.map((label) => hypothesis_template.split('{}').join(label));
    const verdicts = await judge(texts.flatMap((premise) => hypotheses.map((hypothesis) => ({ premise, hypothesis }))));
    const results = texts.map((sequence, i) => {
      const own = verdicts.slice(i * labels.length, (i + 1) * labels.length);
      const scores =
        multi_label || labels.length === 1
          ? own.map(({ entails, contradicts }) => softmax([contradicts, entails])[1]!)
          : softmax(own.map(({ entails }) => entails));
      const order = labels.map((_, k) => k).sort((a, b) => scores[b]! - scores[a]!);
      return { sequence, labels: order.map((k) => labels[k]!), scores: order.map((k) => scores[k]!) };
    });
    return typeof given === 'string' ? results[0]! : results;
  };
  return call as ZeroShot;
};

function classifierJudge(parts: Parts<T5ForSequenceClassification>): Judge {
  const { model, task, tokenizer } = parts;
  const names = Object.entries(model.config.id2label ?? {}).map(([i, label]) => [label.toLowerCase(), Number(i)]);
  const idOf = Object.fromEntries(names) as Record<string, number>;
  const yes = idOf.entailment;
  const no = idOf.contradiction ?? idOf.not_entailment;
  if (yes === undefined || no === undefined)
    throw new UsageError(
      `${task}: the model's classes are ${Object.keys(idOf).join(', ') || 'without names'}, expected entailment and ` +
        'contradiction among them: a model of natural language inference, or one that writes text',
    );
  return async (pairs) => {
    const rows = pairs.map(({ premise, hypothesis }) => {
      const { input_ids } = tokenizer(premise, { text_pair: hypothesis, truncation: true, return_tensor: false });
      return input_ids as number[];
    });
    return (await classLogits(parts, rows)).map((row) => ({ entails: row[yes]!, contradicts: row[no]! }));
  };
}

function writerJudge(parts: Parts<T5ForConditionalGeneration>): Judge {
  const { tokenizer } = parts;
  const answers = ['entailment', 'contradiction'].map((word) => tokenizer.encode(word));
  return async (pairs) => {
    const sources = encodeTexts(
      parts,
      pairs.map(({ premise, hypothesis }) => `mnli hypothesis: ${hypothesis} premise: ${premise}`),
    );
    const [yes, no] = [
      await answerScores(parts, sources, answers[0]!),
      await answerScores(parts, sources, answers[1]!),
    ];
    return yes.map((entails, i) => ({ entails, contradicts: no[i]! }));
  };
}

/** Log-probability of one answer to each source. */
function answerScores(
  { model, batch_size }: Parts<T5ForConditionalGeneration>,
  sources: readonly number[][],
  answer: readonly number[],
): Promise<number[]> {
  return inGroups(
    sources,
    batch_size,
    (ids) => ids.length,
    async (group) => {
      const labels = group.map(() => [...answer]);
      const { logits } = await model.forward({ ...padded(group, model.config.pad_token_id), labels });
      const [, length, vocab] = logits.dims as [number, number, number];
      return group.map((_, row) => {
        let sum = 0;
        for (const [i, id] of answer.entries()) {
          const at = (row * length + i) * vocab;
          sum += logProbability(logits.data.subarray(at, at + vocab), id);
        }
        return sum;
      });
    },
  );
}

function logProbability(logits: Float32Array | Int32Array, id: number): number {
  let most = Number.NEGATIVE_INFINITY;
  for (const x of logits) most = Math.max(most, x);
  let sum = 0;
  for (const x of logits) sum += Math.exp(x - most);
  return logits[id]! - most - Math.log(sum);
}
