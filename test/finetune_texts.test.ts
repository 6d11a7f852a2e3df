/** Tasks that write text: references, cut texts, instructions of files. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { loadFinetuneConfig } from '../src/finetune/config.ts';
import { finetune } from '../src/finetune/finetune.ts';
import { textAnswers } from '../src/finetune/tasks/text_answers.ts';
import { textToText } from '../src/finetune/tasks/text_to_text.ts';
import { openTokenizer } from '../src/tokenizer/auto_tokenizer.ts';
import { makeFolder } from '../src/util/new_file.ts';
import { type SmallRun, smallRun } from './small_run.ts';

const nouns = ['cat', 'dog', 'cow', 'oak', 'fir', 'elm'];
const kindOf = (noun: string) => (nouns.indexOf(noun) < 3 ? 'animal' : 'plant');

let small: SmallRun;
before(async () => {
  small = await smallRun([...nouns.map((noun) => `say ${noun} what is it in question: what context:`), 'animal plant']);
});
after(() => small.remove());

const tools = (max_length = 32) => ({
  tokenizer: openTokenizer(small.at('model')),
  ...{ max_length, max_target_length: 8, rows: 8 },
});
const options = {
  input: ['question', 'context'],
  target: 'answers',
  prefix: '',
  separator: ' in ',
  use_stemmer: false,
};
const row = (place: string, values: Record<string, unknown>) => ({ place, values });
const asked = (answers: unknown, context = 'cat oak') => row('qa.jsonl:7', { question: 'animal', context, answers });

describe('what is to be written', () => {
  const squad = () => textToText({ ...options, metrics: ['squad'], num_beams: 1 }, tools());
  const found = (answers: unknown) => squad().examples([asked(answers)], 'train')[0]!;
  test("may be SQuAD's answers, none where there is none; the first is trained on", () => {
    const example = found({ text: ['cat', 'a cat'], answer_start: [0, 0] });
    assert.deepEqual(example.references, ['cat', 'a cat']);
    assert.equal(tools().tokenizer.decode(example.target, { skip_special_tokens: true }).trim(), 'cat');
    assert.equal(example.text, 'animal in cat oak');
    const none = found({ text: [], answer_start: [] });
    assert.deepEqual([none.references, none.target], [[], [tools().tokenizer.eos_token_id]]);
    assert.deepEqual(squad().scores([example, none], ['cat', '']), { exact_match: 100, f1: 100 });
    assert.deepEqual(squad().scores([example, none], ['', 'cat']), { exact_match: 0, f1: 0 });
  });
  test('leaves columns out that are empty', () => {
    assert.equal(squad().examples([asked('cat', '')], 'train')[0]!.text, 'animal');
  });
  test('is refused where it is empty, unless that means that there is no answer', () => {
    const task = textToText({ ...options, metrics: ['rouge'], num_beams: 1 }, tools());
    for (const empty of ['', ' ', [], ['cat', ''], { text: [], answer_start: [] }])
      assert.throws(
        () => task.examples([asked(empty)], 'held-out'),
        /^UsageError: qa\.jsonl:7: column "answers" has an empty text, expected what is to be written; remove the row/,
        JSON.stringify(empty),
      );
  });
});

test('of texts that are cut the first is named, with what keeps them whole', async () => {
  const data = {
    train: small.jsonl('long.jsonl', [
      { text: 'cat', target: 'animal' },
      { text: 'cat '.repeat(40), target: 'animal' },
      { text: 'oak '.repeat(30), target: 'plant '.repeat(20) },
    ]),
    test: small.jsonl('short.jsonl', [{ text: 'cat', target: 'animal' }]),
  };
  const settings = {
    task: { name: 'text_to_text', input: 'text', target: 'target' },
    ...{ runs_directory: small.at('runs'), model: small.at('model'), data },
    train: { epochs: 1, max_length: 16, max_target_length: 8 },
  };
  writeFileSync(small.at('long.yaml'), JSON.stringify(settings));
  const notes: string[] = [];
  const note = (line: string) => notes.push(line);
  const { signal } = new AbortController();
  await finetune(loadFinetuneConfig(small.at('long.yaml')), { note, progress: () => {}, signal });
  const [sources, targets, ...others] = notes.filter((line) => line.includes('longer'));
  assert.match(
    sources!,
    /^train: 2 texts are longer than 16 tokens and cut there, the first in .*long\.jsonl:2 \(\d+ tokens\); raise train\.max_length/,
  );
  assert.match(
    targets!,
    /^train: one text is longer than 8 tokens .*long\.jsonl:3 \(\d+ tokens\); raise train\.max_target_length/,
  );
  assert.deepEqual(others, []);
});

test('instructions of task files are learnt and scored as a whole, by category and by task', async () => {
  const file = (category: string, answer: (noun: string) => string[]) => ({
    Definition: ['what is it'],
    Categories: [category],
    'Positive Examples': [{ input: 'cat', output: answer('cat')[0], explanation: '' }],
    'Negative Examples': [],
    Instances: nouns.flatMap((noun) => [noun, noun]).map((noun) => ({ input: noun, output: answer(noun) })),
  });
  makeFolder(small.at('sni/tasks'));
  makeFolder(small.at('sni/splits/default'));
  const write = (name: string, content: unknown) =>
    writeFileSync(small.at(`sni/${name}`), typeof content === 'string' ? content : JSON.stringify(content));
  write(
    'tasks/task1_kind.json',
    file('Word Kind', (noun) => [kindOf(noun)]),
  );
  write(
    'tasks/task2_say.json',
    file('Echo', (noun) => [noun, `say ${noun}`]),
  );
  write('splits/default/all.txt', 'task1_kind\ntask2_say\n');
  const list = small.at('sni/splits/default/all.txt');
  const { test: scores } = (await small.run('sni', {
    task: { name: 'instructions', positive_examples: 0 },
    data: { train: list, test: list, limit: 24 },
    train: { epochs: 12, rows: 12, max_length: 48, max_target_length: 8 },
  }))!;
  assert.deepEqual(Object.keys(scores!), [
    ...['rougeL', 'exact_match', 'nanot5_rougeL'],
    ...['echo', 'word_kind', 'task1_kind', 'task2_say'].flatMap((name) => [`rougeL_${name}`, `exact_match_${name}`]),
  ]);
  assert.equal(scores!.rougeL_echo, scores!.rougeL_task2_say);
  assert.ok(Math.abs(scores!.rougeL! - (scores!.rougeL_echo! + scores!.rougeL_word_kind!) / 2) < 1e-9);
  assert.ok(scores!.nanot5_rougeL! <= scores!.rougeL!, 'one reference is no better than the best of all');
});

test('scores that sacreBLEU defines are kept with its signatures', async () => {
  const train = small.jsonl(
    'say.jsonl',
    nouns.map((noun) => ({ text: noun, target: [noun, `a ${noun}`] })),
  );
  const few = small.jsonl('say-one.jsonl', [
    { text: 'cat', target: 'cat' },
    { text: 'dog', target: ['dog', 'a dog'] },
  ]);
  const task = { name: 'text_to_text', input: 'text', target: 'target', metrics: ['chrf', 'bleu', 'rouge'] };
  const settings = { task, data: { train, test: train }, train: { epochs: 1, max_length: 8, max_target_length: 8 } };
  const { signatures } = (await small.run('signed', settings))!;
  assert.deepEqual(signatures, {
    bleu: 'nrefs:2|case:mixed|eff:no|tok:13a|smooth:exp',
    chrf: 'nrefs:2|case:mixed|eff:yes|nc:6|nw:0|space:no',
  });
  const varied = (await small.run('varied', { ...settings, data: { train, test: few } }))!;
  assert.match(varied.signatures!.bleu!, /^nrefs:var\|/);
});

describe('questions answered by writing', () => {
  const rowsOf = (count: number) =>
    Array.from({ length: count }, (_, i) => {
      const noun = nouns[i % 6]!;
      const filler = 'say what '.repeat(i % 3 === 0 ? 0 : 7);
      const context = i % 2 ? `${filler}it is ${noun} ${filler}` : `${noun} it is ${filler}`;
      const there = { text: [noun], answer_start: [context.indexOf(noun)] };
      return { question: 'what', context, answers: i % 4 === 3 ? { text: [], answer_start: [] } : there };
    }).map((one) =>
      one.answers.text.length ? one : { ...one, context: one.context.replace(/cat|dog|cow|oak|fir|elm/, 'it') },
    );
  const settings = {
    ...{ question: 'question', context: 'context', answers: 'answers', stride: 4, num_beams: 1 },
  };

  test('read windows of a long context: the one with the answer wants it, the others nothing', () => {
    const context = `${'say what '.repeat(12)}cat${' what say'.repeat(12)}`;
    const asked = row('qa.jsonl:1', {
      question: 'what',
      context,
      answers: { text: ['cat'], answer_start: [context.indexOf('cat')] },
    });
    const examples = textAnswers(settings, tools(24)).examples([asked], 'train');
    assert.ok(examples.length > 2);
    const { tokenizer } = tools();
    const decoded = (ids: readonly number[]) => tokenizer.decode(ids, { skip_special_tokens: true }).trim();
    for (const { windows } of examples) {
      assert.ok(windows[0]!.source.length <= 24);
      const source = decoded(windows[0]!.source);
      assert.ok(source.startsWith('question: what context:'), source);
      assert.equal(decoded(windows[0]!.target), source.includes('cat') ? 'cat' : '', source);
    }
    assert.equal(textAnswers(settings, tools(24)).examples([asked], 'held-out').length, 1);
  });

  test('are learnt, those without an answer too', async () => {
    const train = small.jsonl('answers.jsonl', rowsOf(96));
    const { test: scores } = (await small.run('answers', {
      task: { name: 'question_answering', kind: 'text', stride: 8 },
      data: { train, test: small.jsonl('answers-test.jsonl', rowsOf(12)) },
      train: { epochs: 24, rows: 16, max_length: 40, max_target_length: 6 },
      optim: { name: 'adamw', learning_rate: 5e-3, schedule: { name: 'linear', warmup_steps: 20 } },
    }))!;
    assert.ok(scores!.exact_match! > 90, JSON.stringify(scores));
    const lines = small.lines<{ wanted: string[]; prediction: string }>('runs/answers/predictions.jsonl');
    assert.equal(lines.length, 12);
    const right = lines.filter(({ wanted, prediction }) => prediction === (wanted[0] ?? '')).length;
    assert.equal((100 * right) / 12, scores!.exact_match);
  });

  test('are refused where an answer is not in its context, with where it is', () => {
    const wrong =
      (text: string, answer_start: number, context = 'a 😀 cat') =>
      () =>
        textAnswers(settings, tools()).examples(
          [row('qa.jsonl:3', { question: 'what', context, answers: { text: [text], answer_start: [answer_start] } })],
          'train',
        );
    assert.doesNotThrow(wrong('cat', 4));
    assert.throws(wrong('cat', 5), /qa\.jsonl:3: the context does not have "cat" at character 5, .*; it is at 4/);
    assert.throws(wrong('dog', 4), /; it is nowhere in it/);
    for (const start of [-1, 4.5, 99]) assert.throws(wrong('cat', start), /does not have "cat"/, String(start));
    assert.throws(wrong('', 0), /qa\.jsonl:3: an answer is empty, expected empty lists/);
  });
});

describe('a run that goes on is refused', () => {
  const settings = (rows: object[], more = {}) => ({
    task: { name: 'classification', input: 'text', target: 'label' },
    data: { train: small.jsonl('kinds.jsonl', rows) },
    train: { epochs: 1, rows: 2, max_length: 16, ...more },
  });
  const rows = nouns.map((noun) => ({ text: noun, label: kindOf(noun) }));
  test('with settings that would make it another run, but not with those that would not', async () => {
    await small.run('goes-on', settings(rows));
    await assert.rejects(
      small.run('goes-on', settings(rows, { rows: 3 })),
      /goes-on: was started with train\.rows 2, now it is 3; choose another name=, or pass .*config\.yaml to go on as it was/,
    );
    assert.ok(
      await small.run('goes-on', { ...settings(rows, { epochs: 2 }), evaluate: { rows: 4 }, log: { every: 2 } }),
    );
  });
  test('with rows of other classes', async () => {
    await small.run('classes', settings(rows));
    await assert.rejects(
      small.run('classes', settings([...rows, { text: 'it', label: 'stone' }])),
      /has the labels animal, plant, the training rows animal, plant, stone; they have changed since the run began/,
    );
  });
});
