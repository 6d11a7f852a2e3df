/** Tasks that write text: references, cut texts, instructions of files. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { loadFinetuneConfig } from '../src/finetune/config.ts';
import { finetune } from '../src/finetune/finetune.ts';
import { textToText } from '../src/finetune/tasks/text_to_text.ts';
import { openTokenizer } from '../src/tokenizer/auto_tokenizer.ts';
import { makeFolder } from '../src/util/new_file.ts';
import { type SmallRun, smallRun } from './small_run.ts';

const nouns = ['cat', 'dog', 'cow', 'oak', 'fir', 'elm'];
const kindOf = (noun: string) => (nouns.indexOf(noun) < 3 ? 'animal' : 'plant');

let small: SmallRun;
before(async () => {
  small = await smallRun([...nouns.map((noun) => `say ${noun} what is it in`), 'animal plant']);
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
