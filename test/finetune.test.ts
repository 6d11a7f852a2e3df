import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { loadFinetuneConfig } from '../src/finetune/config.ts';
import { epochBatches } from '../src/finetune/order.ts';
import { allRows } from '../src/finetune/rows.ts';
import { prompt } from '../src/finetune/tasks/instructions.ts';
import { trainTokenizer } from '../src/tokenizer/train.ts';
import { readMetrics } from '../src/train/metrics.ts';
import { animals, at, jsonl, run, sentences } from './finetune_fixture.ts';
import { readSafetensors } from './read_safetensors.ts';

describe('a fine-tuned model', () => {
  const tasks = {
    'classes of a text': [{ name: 'classification', input: 'text', target: 'label' }, 'accuracy'],
    'several classes of a text': [
      { name: 'classification', input: 'text', target: 'both', kind: 'multi_label' },
      'macro_f1',
    ],
    'the number of a pair': [
      { name: 'classification', input: ['text', 'label'], target: 'score', kind: 'regression' },
      'pearson',
    ],
    'classes of words': [{ name: 'token_classification' }, 'f1'],
    'answers in text': [
      {
        name: 'text_to_text',
        input: 'text',
        target: 'label',
        prefix: 'what: ',
        metrics: ['squad', 'rouge', 'bleu', 'chrf'],
      },
      'exact_match',
    ],
  } as const;
  for (const [what, [task, metric]] of Object.entries(tasks))
    test(`learns ${what}, and its files agree`, async () => {
      const name = what.replaceAll(' ', '-');
      const train = { epochs: metric === 'pearson' ? 16 : 8, rows: 8, max_length: 32, max_target_length: 6 };
      const result = (await run(name, task, { train, evaluate: { metric } }))!;
      assert.ok(result.test![metric]! > 95, `${metric} ${JSON.stringify(result.test)}`);
      assert.deepEqual(JSON.parse(readFileSync(at(`runs/${name}/scores.json`), 'utf8')).test, result.test);
      const predictions = readFileSync(at(`runs/${name}/predictions.jsonl`), 'utf8')
        .trimEnd()
        .split('\n');
      assert.equal(predictions.length, 12);
      assert.ok(predictions.every((line) => 'wanted' in JSON.parse(line) && 'prediction' in JSON.parse(line)));
    });

  test('learns where the answers of long contexts are, and that some have none', async () => {
    const rows = (count: number, from: number) =>
      sentences(count, from).map(({ words, noun }, i) => {
        const filler = ['it lies ', 'it sits ', ''][i % 3]!.repeat(6);
        const context = `😀 ${filler}${words.join(' ')} ${filler}`;
        const none = { text: [], answer_start: [] };
        const there = { text: [noun], answer_start: [[...context.slice(0, context.indexOf(noun))].length] };
        return animals.includes(noun)
          ? { id: `${i}`, question: 'animal', context, answers: there }
          : { id: `${i}`, question: 'animal', context, answers: none };
      });
    const data = { train: jsonl('qa.jsonl', rows(48, 0)), test: jsonl('qa-held.jsonl', rows(12, 3)) };
    const task = { name: 'question_answering', stride: 6 };
    const train = { epochs: 8, rows: 8, max_length: 24 };
    const { test: scores } = (await run('answers', task, { data, train }))!;
    assert.deepEqual(scores, {
      exact_match: 100,
      f1: 100,
      has_answer_exact_match: 100,
      has_answer_f1: 100,
      no_answer_f1: 100,
    });
    const lines = readFileSync(at('runs/answers/predictions.jsonl'), 'utf8').trimEnd().split('\n');
    const found = lines.map((line) => JSON.parse(line) as { wanted: string[]; prediction: string });
    for (const { wanted, prediction } of found) assert.equal(prediction, wanted[0] ?? '');
    assert.ok(new Set(found.map(({ prediction }) => prediction)).size === 4);
  });

  test('learns vectors of sentences by scores and by pairs', async () => {
    const kindOf = (noun: string) => (animals.includes(noun) ? 'animal' : 'plant');
    const pairs = (count: number, from: number) =>
      sentences(count, from).map(({ words, noun }, i) => {
        const sentence2 = ['animal', 'plant'][Math.floor(i / 6) % 2]!;
        return { sentence1: words.join(' '), sentence2, score: sentence2 === kindOf(noun) ? 5 : 0 };
      });
    const scored = { train: jsonl('pairs.jsonl', pairs(48, 0)), test: jsonl('pairs-held.jsonl', pairs(12, 3)) };
    const train = { epochs: 12, rows: 8, max_length: 16 };
    const input = ['sentence1', 'sentence2'];
    const alike = (await run('alike', { name: 'similarity', input, target: 'score' }, { data: scored, train }))!;
    assert.ok(alike.test!.pearson! > 95, JSON.stringify(alike.test));
    const partners = sentences(6).map(({ words, noun }) => ({
      sentence1: words.join(' '),
      sentence2: `${noun} ${noun}`,
    }));
    const data = { train: jsonl('partners.jsonl', Array(8).fill(partners).flat()), test: jsonl('six.jsonl', partners) };
    const found = (await run('partners', { name: 'similarity', input }, { data, train: { ...train, rows: 6 } }))!;
    assert.deepEqual(found.test, { accuracy: 100, mean_reciprocal_rank: 100 });
  });

  test('that starts from random weights is another than one from the checkpoint', async () => {
    const task = { name: 'classification', input: 'text', target: 'label' };
    const few = { train: { epochs: 0.2, rows: 8 } };
    await run('pretrained', task, few);
    await run('random', task, { ...few, weights: 'random' });
    const loss = (name: string) => (readMetrics(at(`runs/${name}/metrics.jsonl`))[0] as { loss: number }).loss;
    assert.notEqual(loss('pretrained'), loss('random'));
  });
});

test('a stopped run goes on with the same bits', async () => {
  const task = { name: 'classification', input: 'text', target: 'label' };
  const losses = (name: string) =>
    readMetrics(at(`runs/${name}/metrics.jsonl`)).map((r) =>
      r.kind === 'step' ? [r.step, r.loss, r.grad_norm] : [r.step],
    );
  const settings = { train: { epochs: 2, rows: 8, accumulation: 2, max_length: 32 } };
  await run('whole', task, settings);
  for (let stops = 0; ; stops++) {
    const stop = new AbortController();
    setTimeout(() => stop.abort(), 0);
    if (await run('stopped', task, settings, stop.signal)) {
      assert.ok(stops > 1, `stopped ${stops} times`);
      break;
    }
  }
  assert.deepEqual(losses('stopped'), losses('whole'));
  assert.deepEqual(
    readFileSync(at('runs/stopped/best/model.safetensors')),
    readFileSync(at('runs/whole/best/model.safetensors')),
  );
});

test('patience ends a run that does not get better, and the best step is kept', async () => {
  const task = { name: 'classification', input: 'text', target: 'label' };
  const more = { evaluate: { every: 1, patience: 1 }, train: { epochs: 40, rows: 8, max_length: 32 } };
  const result = (await run('patient', task, more))!;
  assert.ok(result.steps < 240, `${result.steps} steps`);
  assert.ok(result.best_step < result.steps);
  assert.equal(result.validation!.accuracy, result.test!.accuracy); // the same rows, so it is the best step's model
});

test('a run that was stopped loses no patience', async () => {
  const task = { name: 'classification', input: 'text', target: 'label' };
  const more = { evaluate: { every: 0.5, patience: 2 }, train: { epochs: 40, rows: 8, max_length: 32 } };
  const whole = (await run('patience-whole', task, more))!;
  for (let stops = 0; ; stops++) {
    const stop = new AbortController();
    setTimeout(() => stop.abort(), 20);
    const result = await run('patience-stopped', task, more, stop.signal);
    if (!result) continue;
    assert.ok(stops > 0);
    assert.deepEqual([result.steps, result.best_step], [whole.steps, whole.best_step]);
    break;
  }
});

test('frozen parameters stay as they are', async () => {
  await run(
    'frozen',
    { name: 'classification', input: 'text', target: 'label' },
    { train: { epochs: 1, rows: 8, frozen: ['shared', 'encoder.block.0'] } },
  );
  const [before, now] = ['model', 'runs/frozen/best'].map((name) => readSafetensors(at(`${name}/model.safetensors`)));
  for (const [name, bytes] of now!)
    if (before!.has(name)) {
      const frozen = name.includes('shared') || name.includes('encoder.block.0');
      assert.equal(bytes.equals(before!.get(name)!), frozen, name);
    }
});

describe('rows', () => {
  test('are the same from JSON Lines, CSV, TSV and gzip', async () => {
    const wanted = [
      { text: 'a "quoted", text', label: '1' },
      { text: 'two\nlines', label: '0' },
    ];
    jsonl('rows.jsonl', wanted);
    writeFileSync(at('rows.csv'), 'text,label\r\n"a ""quoted"", text",1\r\n"two\nlines",0\r\n');
    writeFileSync(at('rows.tsv'), 'text\tlabel\n"a ""quoted"", text"\t1\n"two\nlines"\t0\n');
    writeFileSync(at('rows.jsonl.gz'), gzipSync(readFileSync(at('rows.jsonl'))));
    for (const name of ['rows.jsonl', 'rows.csv', 'rows.tsv', 'rows.jsonl.gz'])
      assert.deepEqual(
        (await allRows([at(name)], ['text', 'label'])).map(({ values }) => ({ ...values })),
        wanted,
        name,
      );
  });

  test('are sentences in CoNLL files', async () => {
    writeFileSync(at('rows.conll'), '-DOCSTART- O\n\n# a comment\nRome NNP B-LOC\nfell VBD O\n\n\n1\tHe\t_\tO\n');
    const rows = await allRows([at('rows.conll')], ['tokens', 'tags']);
    assert.deepEqual(
      rows.map(({ values }) => values),
      [
        { tokens: ['Rome', 'fell'], tags: ['B-LOC', 'O'] },
        { tokens: ['He'], tags: ['O'] },
      ],
    );
  });

  const bad: [name: string, content: string, message: RegExp][] = [
    ['missing.jsonl', '{"texte": "a", "label": "x"}\n', /missing\.jsonl:1: no column "text", it has texte, label/],
    ['null.jsonl', '{"text": "a", "label": null}\n', /null\.jsonl:1: column "label" is null, expected a value/],
    ['broken.jsonl', '{"text": "a", "label": "x"}\n{"text"', /broken\.jsonl:2: invalid JSON/],
    ['list.jsonl', '[1]\n', /list\.jsonl:1: not a JSON object/],
    ['empty.jsonl', '\n', /no rows, expected at least one/],
    ['ragged.csv', 'text,label\na,b,c\n', /ragged\.csv: not a table/],
    ['rows.xml', '<a/>', /rows\.xml: unknown kind of file, expected one of/],
  ];
  for (const [name, content, message] of bad)
    test(`${name} is refused in one line`, async () => {
      writeFileSync(at(name), content);
      await assert.rejects(allRows([at(name)], ['text', 'label']), message);
    });
});

describe('a run is refused', () => {
  const task = { name: 'classification', input: 'text', target: 'label' };
  test('for a label that training does not know', async () => {
    const data = { train: at('train.jsonl'), test: jsonl('new.jsonl', [{ text: 'a', label: 'stone' }]) };
    await assert.rejects(
      run('new-label', task, { data }),
      /new\.jsonl:1: label "stone" is unknown, expected one of animal, plant/,
    );
  });
  test('for rows that are all of one class', async () => {
    const rows = ['a', 'b'].map((text) => ({ text, label: 'animal' }));
    await assert.rejects(
      run('one-class', task, { data: { train: jsonl('one.jsonl', rows) } }),
      /one\.jsonl:1: every row has "animal" in "label", expected two classes or more/,
    );
  });
  test('for words without tags', async () => {
    const data = { train: jsonl('short.jsonl', [{ tokens: ['a', 'b'], tags: ['O'] }]) };
    await assert.rejects(
      run('short', { name: 'token_classification' }, { data }),
      /short\.jsonl:1: 2 words with 1 tags/,
    );
  });
  test('for answers that are not where they are said to be', async () => {
    const row = { question: 'q', context: 'a cat', answers: { text: ['cat'], answer_start: [3] } };
    const wrong = (name: string, answers: object | string) =>
      assert.rejects(
        run(name, { name: 'question_answering' }, { data: { train: jsonl(`${name}.jsonl`, [{ ...row, answers }]) } }),
        name === 'place'
          ? /place\.jsonl:1: the context does not have "cat" at character 3/
          : /form\.jsonl:1: column "answers" is "cat", expected \{"text"/,
      );
    await wrong('place', row.answers);
    await wrong('form', 'cat');
  });
  test('for a metric that the task does not have', async () => {
    await assert.rejects(
      run('metric', task, { evaluate: { metric: 'bleu' } }),
      /"bleu" is no score of this task, expected one of accuracy, macro_f1, micro_f1/,
    );
  });
  test('for a tokenizer of another model', async () => {
    const { tokenizer } = await trainTokenizer({ vocab_size: 500, sentinels: 100 }, [
      'some more words of another text',
    ]);
    tokenizer.save(at('other'));
    await assert.rejects(
      run('other', task, { tokenizer: at('other') }),
      /vocab_size is \d+, the tokenizer has \d+ ids/,
    );
  });
  test('for a setting that does not exist', async () => {
    await assert.rejects(
      async () => run('typo', { ...task, inputs: 'text' }),
      /unknown key "task\.inputs", did you mean "input"/,
    );
  });
});

describe('configs/finetune/', () => {
  const configs = fileURLToPath(new URL('../../configs/finetune/', import.meta.url));
  for (const name of readdirSync(configs))
    test(`${name} is complete`, () => {
      const { task } = loadFinetuneConfig(join(configs, name));
      assert.ok(task.name.length > 0);
    });
});

test('batches of an epoch hold every example once, another order each epoch, similar lengths together', () => {
  const lengths = Array.from({ length: 1000 }, (_, i) => (i * 37) % 100);
  const batches = epochBatches(lengths, 8, 1, 0);
  assert.deepEqual(
    batches.flat().sort((a, b) => a - b),
    lengths.map((_, i) => i),
  );
  assert.notDeepEqual(batches, epochBatches(lengths, 8, 1, 1));
  assert.deepEqual(batches, epochBatches(lengths, 8, 1, 0));
  const spread = batches.map(
    (batch) => Math.max(...batch.map((i) => lengths[i]!)) - Math.min(...batch.map((i) => lengths[i]!)),
  );
  assert.ok(spread.reduce((a, b) => a + b) / spread.length < 10, 'padding');
});

test("an instruction's prompt has the examples that fit", () => {
  const file = {
    Definition: [' Say yes'],
    'Positive Examples': [
      { input: 'a', output: 'yes', explanation: 'because' },
      { input: 'b', output: 'no', explanation: 'so' },
    ],
    'Negative Examples': [{ input: 'c', output: 'maybe' }],
  };
  const options = { definition: true, positive_examples: 2, negative_examples: 1, explanations: false };
  const letters = { encode: (text: string) => [...text].map(() => 0) };
  const whole = prompt(file, 'x', options, letters, 1000);
  assert.equal(
    whole,
    'Definition: Say yes.\n\n Positive Example 1 -\nInput: a.\n Output: yes.\n\n Positive Example 2 -\nInput: b.\n Output: no.\n\n' +
      ' Negative Example 1 -\nInput: c.\n Output: maybe.\n\nNow complete the following example -\nInput: x.\nOutput: ',
  );
  const short = prompt(file, 'x', { ...options, explanations: true, negative_examples: 0 }, letters, 150);
  assert.ok(short.includes(' Explanation: because.\n') && !short.includes('Example 2'), short);
});
