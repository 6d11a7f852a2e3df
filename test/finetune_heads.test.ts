import assert from 'node:assert/strict';
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { wordWindows } from '../src/finetune/tasks/word_windows.ts';
import { at, jsonl, labelled, run } from './finetune_fixture.ts';

describe('windows over words', () => {
  test('share about stride tokens, keep words whole, and count every word once where it has most context', () => {
    const tokens = [2, 3, 1, 4, 2, 2, 1, 3, 2, 5];
    const windows = wordWindows(tokens, 8, 3);
    assert.deepEqual(
      windows.map(({ first, last }) => [first, last]),
      [
        [0, 3],
        [2, 5],
        [4, 8],
        [7, 9],
        [8, 10],
      ],
    );
    assert.deepEqual(
      windows.flatMap(({ counted }) => counted),
      tokens.map((_, i) => i),
    );
    // Word 2 ends the first window and begins the second: the same context, none. Word 4 likewise.
    assert.deepEqual(
      windows.map(({ counted }) => counted),
      [[0, 1, 2], [3, 4], [5, 6, 7], [8], [9]],
    );
    const even = wordWindows(new Array(20).fill(1), 10, 6);
    assert.deepEqual(
      even.map(({ first, last, counted }) => [first, last, counted[0], counted.at(-1)]),
      [
        [0, 10, 0, 6],
        [4, 14, 7, 10],
        [8, 18, 11, 14],
        [12, 20, 15, 19],
      ],
    );
  });
  test('are one where the text fits, none longer than the room, and come to an end whatever the stride', () => {
    assert.deepEqual(wordWindows([1, 2, 3], 6, 2), [{ first: 0, last: 3, counted: [0, 1, 2] }]);
    assert.deepEqual(wordWindows([], 6, 2), [{ first: 0, last: 0, counted: [] }]);
    const tokens = Array.from({ length: 200 }, (_, i) => 1 + ((i * 7) % 5));
    for (const stride of [0, 3, 9])
      for (const { first, last } of wordWindows(tokens, 10, stride))
        assert.ok(tokens.slice(first, last).reduce((a, b) => a + b, 0) <= 10 && last > first);
  });
});

/** Texts of many sentences: far longer than a window. */
const long = (count: number) =>
  Array.from({ length: count }, (_, k) => {
    const parts = labelled(12, k);
    return { tokens: parts.flatMap(({ tokens }) => tokens), tags: parts.flatMap(({ tags }) => tags) };
  });
const words = { name: 'token_classification' };

test('entities of long texts are found in every part of them', async () => {
  const data = { train: jsonl('long.jsonl', long(8)), test: jsonl('long-held.jsonl', long(3)) };
  const train = { epochs: 12, rows: 8, max_length: 16 };
  const result = (await run('long', words, { data, train }))!;
  assert.ok(result.test!.f1! > 95, JSON.stringify(result.test));
  const lines = readFileSync(at('runs/long/predictions.jsonl'), 'utf8').trimEnd().split('\n');
  for (const line of lines) {
    const { wanted, prediction } = JSON.parse(line) as { wanted: { tags: string[] }; prediction: string[] };
    assert.equal(prediction.length, 48);
    assert.ok(prediction.slice(-8).join() === wanted.tags.slice(-8).join());
  }
  await assert.rejects(
    run('wide', { ...words, stride: 15 }, { train }),
    /task\.stride: is 15, expected less than train\.max_length 16 - 1/,
  );
});

describe('a checkpoint with a head', () => {
  const texts = { name: 'classification', input: 'text', target: 'label' };
  const few = { epochs: 0.2, rows: 8, max_length: 32 };
  const head = (name: string) => at(`runs/${name}/best`);

  test('goes on with its classes in its order, also where the rows have not all of them', async () => {
    const whole = (await run('head', { ...texts, labels: ['plant', 'animal'] }, { train: { ...few, epochs: 6 } }))!;
    assert.ok(whole.test!.accuracy! > 90, JSON.stringify(whole.test));
    const optim = { name: 'adamw', learning_rate: 1e-6, schedule: { name: 'constant' } };
    const again = (await run('head-again', texts, { model: head('head'), train: few, optim }))!;
    assert.deepEqual(again.test, whole.test);
    const only = jsonl('animals.jsonl', labelled(3));
    await run('head-part', texts, { model: head('head'), train: few, data: { train: only, test: only } });
    for (const name of ['head-again', 'head-part']) {
      const config = JSON.parse(readFileSync(`${head(name)}/config.json`, 'utf8')) as { id2label: object };
      assert.deepEqual(config.id2label, { 0: 'plant', 1: 'animal' });
    }
  });

  test('with other classes is refused, unless a new head is asked for', async () => {
    const third = jsonl('third.jsonl', [...labelled(12), { ...labelled(1)[0]!, label: 'stone' }]);
    const other = { model: head('head'), train: few, data: { train: third, test: third } };
    await assert.rejects(
      run('head-other', texts, other),
      /runs\/head\/best: its head has 2 labels \(plant, animal\), the task 3 labels \(animal, plant, stone\); expected the head's, or weights: backbone/,
    );
    const result = (await run('head-new', texts, { ...other, weights: 'backbone' }))!;
    assert.equal(result.weights, 'backbone');
    const config = JSON.parse(readFileSync(`${head('head-new')}/config.json`, 'utf8')) as { id2label: object };
    assert.deepEqual(config.id2label, { 0: 'animal', 1: 'plant', 2: 'stone' });
  });

  test('without names serves as many classes', async () => {
    cpSync(head('head'), at('nameless'), { recursive: true });
    const config = JSON.parse(readFileSync(at('nameless/config.json'), 'utf8')) as Record<string, unknown>;
    writeFileSync(at('nameless/config.json'), JSON.stringify({ ...config, id2label: { 0: 'LABEL_0', 1: 'LABEL_1' } }));
    const own = { model: at('nameless'), train: few };
    await run('head-nameless', texts, own);
    const several = { ...texts, target: 'both', kind: 'multi_label', labels: ['a', 'alive', 'moves'] };
    await assert.rejects(
      run('head-three', several, own),
      /nameless: its head has 2 labels \(LABEL_0, LABEL_1\), the task 3 labels \(a, alive, moves\)/,
    );
  });
});

test('labels that only held-out rows have are refused with what to do', async () => {
  const data = { train: at('train.jsonl'), test: jsonl('new-tag.jsonl', [{ tokens: ['a'], tags: ['B-STONE'] }]) };
  await assert.rejects(
    run('new-tag', words, { data }),
    /new-tag\.jsonl:1: tag "B-STONE" is unknown, expected one of B-ANIMAL, B-PLANT, O; name it in task\.labels or/,
  );
});
