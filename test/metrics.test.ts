/** Metrics against values of the official Python packages (test/golden/metrics.json says which). */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { bleu } from '../src/eval/metrics/bleu.ts';
import { chrf } from '../src/eval/metrics/chrf.ts';
import { classificationScores } from '../src/eval/metrics/classification.ts';
import { pearson, spearman } from '../src/eval/metrics/correlation.ts';
import { entitiesOf, entityScores, invalidTags } from '../src/eval/metrics/entities.ts';
import { instructionScores } from '../src/eval/metrics/instructions.ts';
import { porterStem } from '../src/eval/metrics/porter.ts';
import { answerF1, answerScores, exactMatch } from '../src/eval/metrics/question_answering.ts';
import { rouge } from '../src/eval/metrics/rouge.ts';

const golden = JSON.parse(readFileSync(new URL('../../test/golden/metrics.json', import.meta.url), 'utf8'));

function close(actual: number, expected: number, what: string): void {
  assert.ok(
    Math.abs(actual - expected) < 1e-9 * Math.max(1, Math.abs(expected)),
    `${what}: ${actual}, not ${expected}`,
  );
}

test('stems are those of the stemmer that defines ROUGE', () => {
  for (const [word, stem] of Object.entries(golden.stems)) assert.equal(porterStem(word), stem, word);
});

test('ROUGE-1, -2, -L and -Lsum agree, with and without stemmer', () => {
  for (const { prediction, reference, plain, stemmed } of golden.rouge)
    for (const [use_stemmer, expected] of [
      [false, plain],
      [true, stemmed],
    ] as const)
      for (const [type, { precision, recall, fmeasure }] of Object.entries(
        rouge(prediction, reference, { use_stemmer }),
      )) {
        const values = [precision, recall, fmeasure];
        values.forEach((value, i) => {
          close(value, expected[type][i], `${type} of ${JSON.stringify(prediction)}`);
        });
      }
});

test('ROUGE refuses an unknown type; scores of many texts refuse lists of unequal length', () => {
  assert.throws(() => rouge('a', 'a', { types: ['rouge0'] }), /rouge: type is "rouge0"/);
  assert.throws(() => chrf(['a'], []), /1 predictions for 0 references/);
});

test('BLEU and chrF agree with sacreBLEU, with one and two references', () => {
  const { predictions, references, second, ...expected } = golden.translation;
  const one = references.map((text: string) => [text]);
  const two = references.map((text: string, i: number) => [text, second[i]]);
  const score = bleu(predictions, one);
  close(score.score, expected.bleu, 'bleu');
  score.precisions.forEach((value, i) => {
    close(value, expected.precisions[i], `precision ${i + 1}`);
  });
  close(score.brevity_penalty, expected.brevity_penalty, 'brevity penalty');
  close(bleu(predictions, two).score, expected.bleu_two, 'bleu, two references');
  expected.sentence_bleu_smoothed.forEach((value: number, i: number) => {
    close(bleu([predictions[i]], [[second[i]]]).score, value, `smoothed bleu ${i}`);
  });
  assert.ok(expected.signature.startsWith(score.signature), expected.signature);
  close(chrf(predictions, one).score, expected.chrf, 'chrf');
  close(chrf(predictions, two).score, expected.chrf_two, 'chrf, two references');
  close(chrf(predictions, one, { word_order: 2 }).score, expected.chrfpp, 'chrf++');
  assert.ok(expected.chrf_signature.startsWith(chrf(predictions, one).signature), expected.chrf_signature);
});

test('accuracy and F1 agree with scikit-learn, single- and multi-label', () => {
  for (const { predictions, references, accuracy, macro, micro, weighted } of [golden.single, golden.multi]) {
    const scores = classificationScores(predictions.map(asList), references.map(asList));
    close(scores.accuracy, accuracy, 'accuracy');
    close(scores.macro_f1, macro, 'macro F1');
    close(scores.micro_f1, micro, 'micro F1');
    close(scores.weighted_f1, weighted, 'weighted F1');
  }
});

const asList = (labels: string | string[]) => (Array.isArray(labels) ? labels : [labels]);

test('correlations agree with SciPy, ties included', () => {
  const { predictions, references } = golden.correlation;
  close(pearson(predictions, references), golden.correlation.pearson, 'pearson');
  close(spearman(predictions, references), golden.correlation.spearman, 'spearman');
  assert.ok(Number.isNaN(pearson([1, 1], [1, 2])), 'a constant side has no correlation');
});

test('entity scores agree with seqeval, invalid sequences included', () => {
  const { predictions, references, micro, report, accuracy } = golden.entities;
  const scores = entityScores(predictions, references);
  const values = ({ precision, recall, f1 }: { precision: number; recall: number; f1: number }) => [
    precision,
    recall,
    f1,
  ];
  const rows: Record<string, number[]> = Object.fromEntries(
    Object.entries(scores.per_type).map(([type, row]) => [type, [...values(row), row.support]]),
  );
  rows['micro avg'] = [...values(scores.micro), scores.micro.support];
  rows['macro avg'] = [...values(scores.macro), scores.macro.support];
  rows['weighted avg'] = [...values(scores.weighted), scores.weighted.support];
  assert.deepEqual(Object.keys(rows).sort(), Object.keys(report).sort());
  for (const [name, row] of Object.entries(rows))
    row.forEach((value, i) => {
      close(value, report[name][i], `${name} ${i}`);
    });
  values(scores.micro).forEach((value, i) => {
    close(value, micro[i], `micro ${i}`);
  });
  close(scores.accuracy, accuracy, 'accuracy');
});

test('tags outside the scheme are counted or refused', () => {
  assert.deepEqual(entitiesOf(['I-PER', 'I-PER', 'B-PER', 'I-LOC']), [
    { type: 'PER', start: 0, end: 1 },
    { type: 'PER', start: 2, end: 2 },
    { type: 'LOC', start: 3, end: 3 },
  ]);
  assert.equal(invalidTags(['I-PER', 'I-PER', 'B-PER', 'I-LOC', 'O', 'I-LOC']), 3);
  assert.throws(() => entitiesOf(['X-PER']), /tag is "X-PER"/);
  assert.throws(() => entityScores([['O']], [['O', 'O']]), /sentence 1 has 1 predicted tags, expected 2/);
});

test("answers score as in SQuAD 2.0's evaluation", () => {
  const rows = golden.answers as { prediction: string; answers: string[]; exact: number; f1: number }[];
  for (const { prediction, answers, exact, f1 } of rows) {
    const scores = answerScores([prediction], [answers]);
    close(scores.exact_match, 100 * exact, prediction);
    close(scores.f1, 100 * f1, prediction);
  }
  const all = answerScores(
    rows.map((row) => row.prediction),
    rows.map((row) => row.answers),
  );
  close(all.f1, (100 * rows.reduce((sum, row) => sum + row.f1, 0)) / rows.length, 'all');
  assert.equal(all.has_answer.count + all.no_answer.count, rows.length);
  assert.equal(exactMatch('The Seine.', 'seine'), 1);
  assert.equal(answerF1('', 'seine'), 0);
});

test('instructions: the best reference counts, by task and category', () => {
  const scores = instructionScores([
    { prediction: 'Yes.', references: ['no', 'yes'], task: 'task1', category: 'Textual Entailment' },
    { prediction: 'the cats ran', references: ['the cat runs'], task: 'task2', category: 'Title Generation' },
  ]);
  assert.equal(scores.per_category.textual_entailment!.exact_match, 100);
  close(scores.per_task.task2!.rougeL, (100 * 2) / 3, 'the, cats = cat'); // cats and cat have one stem, ran and runs not
  assert.equal(scores.exact_match, 50);
});

test('every score stays in its range and is full for equal texts', () => {
  const text = fc
    .array(fc.constantFrom('the', 'cat', 'sat', 'été', '3.5', '(x)', '.'), { maxLength: 12 })
    .map((w) => w.join(' '));
  fc.assert(
    fc.property(text, text, (a, b) => {
      for (const { fmeasure } of Object.values(rouge(a, b))) assert.ok(fmeasure >= 0 && fmeasure <= 1);
      for (const value of [bleu([a], [[b]]).score, chrf([a], [[b]]).score, 100 * answerF1(a, b)])
        assert.ok(value >= 0 && value <= 100 + 1e-9, `${value}`);
      if (/[a-z]/.test(a)) close(rouge(a, a).rougeLsum!.fmeasure, 1, a);
      if (a !== '') close(chrf([a], [[a]]).score, 100, a);
    }),
    { seed: 1 },
  );
});
