/** Text to text: summarisation, translation, answers, any pair of columns. Scored by the metrics that are asked for. */
import { bleu, bleuSignature } from '../../eval/metrics/bleu.ts';
import { chrf, chrfSignature } from '../../eval/metrics/chrf.ts';
import { answerScores } from '../../eval/metrics/question_answering.ts';
import { type RougeScore, rouge } from '../../eval/metrics/rouge.ts';
import type { Seq2SeqBatch } from '../../model/inputs.ts';
import type { T5ForConditionalGeneration } from '../../model/t5.ts';
import { UsageError } from '../../util/errors.ts';
import { listOf, type Row, textOf } from '../rows.ts';
import { fitted, type Scores, type Task, type TaskTools } from '../task.ts';
import { type Teacher, taught } from './teacher.ts';
import { textTraining, written } from './writing.ts';

/** What texts may be scored by. */
export const textMetrics = ['rouge', 'bleu', 'chrf', 'squad'] as const;

export interface TextToTextOptions {
  /** Column of the source; several are joined by `separator`. */
  input: readonly string[];
  /** Column of the target: a text, a list of texts that are all right (the first is trained on), or SQuAD's answers. */
  target: string;
  /** Put in front of every source, as T5's "summarize: ". */
  prefix: string;
  separator: string;
  metrics: readonly (typeof textMetrics)[number][];
  use_stemmer: boolean;
  num_beams: number;
  /** A model whose texts are the targets while training. */
  teacher?: Teacher | undefined;
}

interface Example {
  text: string;
  source: number[];
  target: number[];
  references: string[];
}

/** A text for each row. */
export function textToText(
  options: TextToTextOptions,
  tools: TaskTools,
): Task<Example, Seq2SeqBatch, T5ForConditionalGeneration> {
  const example = (row: Row): Example => {
    const references = referencesOf(row, options);
    const parts = options.input.map((column) => textOf(row, column)).filter((part) => part !== '');
    const text = options.prefix + parts.join(options.separator);
    return {
      text,
      source: fitted(tools, row.place, text),
      target: fitted(tools, row.place, references[0] ?? '', 'max_target_length'),
      references,
    };
  };
  return {
    ...textTraining(tools),
    columns: [...options.input, options.target],
    metric: { rouge: 'rougeL', bleu: 'bleu', chrf: 'chrf', squad: 'f1' }[options.metrics[0]!],
    examples: (rows) => rows.map(example),
    ...(options.teacher && { prepare: (preparation) => taught(options.teacher!, tools, preparation) }),
    wanted: ({ references }) => (references.length === 1 ? references[0] : references),
    predict: (model, examples) => written(model, tools, examples, options.num_beams),
    signatures(examples) {
      const references = examples.map((example) => example.references);
      return {
        ...(options.metrics.includes('bleu') && { bleu: bleuSignature(references) }),
        ...(options.metrics.includes('chrf') && { chrf: chrfSignature(references) }),
      };
    },
    scores: (examples, predictions) =>
      textScores(
        predictions as string[],
        examples.map(({ references }) => references),
        options,
      ),
  };
}

/**
 * A row's right texts: the column's text or list, or the texts of SQuAD's answers, which may be none where that metric
 * counts it. @throws UsageError for empty ones
 */
function referencesOf(row: Row, { target, metrics }: TextToTextOptions): string[] {
  const value = row.values[target] as { text?: unknown } | null;
  const isAnswers = typeof value === 'object' && Array.isArray(value?.text);
  const references = isAnswers ? listOf({ ...row, values: { [target]: value.text } }, target) : listOf(row, target);
  const empty = references.length === 0 || references.some((reference) => reference.trim() === '');
  if (empty && !metrics.includes('squad'))
    throw new UsageError(
      `${row.place}: column "${target}" has an empty text, expected what is to be written; remove the row, or score by ` +
        'squad if it means that there is no answer',
    );
  return references;
}

function textScores(
  predictions: readonly string[],
  references: readonly (readonly string[])[],
  { metrics, use_stemmer }: TextToTextOptions,
): Scores {
  const scores: Scores = {};
  if (metrics.includes('rouge')) {
    const best = predictions.map((prediction, i) => bestRouge(prediction, references[i]!, use_stemmer));
    for (const type of Object.keys(best[0]!))
      scores[type] = (100 * best.reduce((sum, row) => sum + row[type]!.fmeasure, 0)) / best.length;
  }
  if (metrics.includes('bleu')) scores.bleu = bleu(predictions, references).score;
  if (metrics.includes('chrf')) scores.chrf = chrf(predictions, references).score;
  if (metrics.includes('squad')) {
    const { exact_match, f1 } = answerScores(predictions, references);
    Object.assign(scores, { exact_match, f1 });
  }
  return scores;
}

/** Each type's score against the reference that fits best. */
function bestRouge(
  prediction: string,
  references: readonly string[],
  use_stemmer: boolean,
): Record<string, RougeScore> {
  const [first, ...others] = references.map((reference) => rouge(prediction, reference, { use_stemmer }));
  const best = first ?? rouge(prediction, '');
  for (const other of others)
    for (const [type, score] of Object.entries(other)) if (score.fmeasure > best[type]!.fmeasure) best[type] = score;
  return best;
}
