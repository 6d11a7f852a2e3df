import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { similarity } from '../src/finetune/tasks/similarity.ts';
import { openTokenizer } from '../src/tokenizer/auto_tokenizer.ts';
import { type SmallRun, smallRun } from './small_run.ts';

const nouns = ['cat', 'dog', 'cow', 'oak', 'fir', 'elm'];
/** Sentences of one noun belong together, of two do not. */
const pairs = nouns.flatMap((a, i) =>
  nouns.map((b, k) => ({
    sentence1: `the ${a} sits`,
    sentence2: `${b} ${b}`,
    score: i === k ? 5 : i % 2 === k % 2 ? 1 : 0,
  })),
);
let small: SmallRun;
before(async () => {
  small = await smallRun(pairs.flatMap(({ sentence1, sentence2 }) => [sentence1, sentence2]));
  small.jsonl('pairs.jsonl', pairs);
});
after(() => small.remove());

const task = { name: 'similarity', input: ['sentence1', 'sentence2'], target: 'score' };

test('a contrastive loss learns from the rows that belong together, and is scored on all of them', async () => {
  const options = {
    ...{ input: ['sentence1', 'sentence2'] as const, target: 'score', max_score: 5, temperature: 0.05 },
    ...{ loss: 'contrastive' as const, positive_from: 0.8 },
  };
  const tools = { tokenizer: openTokenizer(small.at('model')), max_length: 16, max_target_length: 8, rows: 8 };
  const rows = pairs.map((values, i) => ({ place: `pairs.jsonl:${i + 1}`, values }));
  const own = similarity(options, tools);
  assert.equal(own.examples(rows, 'train').length, 6);
  assert.equal(own.examples(rows, 'held-out').length, 36);
  const inputs = own.batch(own.examples(rows, 'train'), {} as never).inputs;
  assert.ok(!('scores' in inputs), 'the loss is of partners, not of scores');

  const { test: scores } = (await small.run('contrastive', {
    task: { ...task, loss: 'contrastive' },
    data: { train: small.at('pairs.jsonl'), test: small.at('pairs.jsonl') },
    train: { epochs: 60, rows: 6, max_length: 16 },
  }))!;
  assert.ok(scores!.pearson! > 80, JSON.stringify(scores));
});

test('a loss without what it needs is refused', async () => {
  const data = { train: small.at('pairs.jsonl') };
  await assert.rejects(
    small.run('cosine', { task: { name: 'similarity', input: task.input, loss: 'cosine' }, data }),
    /task\.target: is missing, expected the column of the cosines/,
  );
  await assert.rejects(
    small.run('none', { task: { ...task, loss: 'contrastive', max_score: 10 }, data }),
    /task\.positive_from: no training row has a "score" from 8 on, 0\.8 of 10/,
  );
  await assert.rejects(
    async () => small.run('half', { task, data, train: { dtype: 'bfloat16' } }),
    /train\.dtype: is bfloat16, expected float32 for vectors of sentences/,
  );
});
