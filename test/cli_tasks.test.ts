/** fat5 generate, embed, classify, ner and qa: text or JSON lines in, JSON lines out, in the same order. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import {
  T5EncoderModel,
  T5ForConditionalGeneration,
  T5ForQuestionAnswering,
  T5ForTokenClassification,
} from '../src/index.ts';
import type { PretrainedT5 } from '../src/model/pretrained.ts';
import { lookupConfig, makeLookup, saveTokenizer, tokenizerOf } from './lookup_model.ts';

const main = fileURLToPath(new URL('../src/cli/main.js', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'fat5-cli-tasks-'));
after(() => rmSync(folder, { recursive: true }));
const device = 'cpu';

function fat5(args: readonly string[], input: string | Buffer = '') {
  const env = { ...process.env, FAT5_THREADS: '1' };
  return spawnSync(process.execPath, [main, ...args, '--device', device], {
    cwd: folder,
    env,
    input,
    encoding: 'utf8',
  });
}

/** The rows that a call must print. */
function rows(args: readonly string[], input?: string): Record<string, unknown>[] {
  const { status, stdout, stderr } = fat5(args, input);
  assert.equal(status, 0, stderr);
  return stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}
const lines = (values: readonly unknown[]) => values.map((value) => `${JSON.stringify(value)}\n`).join('');

before(async () => {
  const save = async (name: string, model: PretrainedT5) => {
    saveTokenizer(join(folder, name));
    await model.save_pretrained(join(folder, name));
    model.dispose();
  };
  const names = { num_labels: 2, id2label: { 0: 'O', 1: 'B-PER' } };
  const ner = T5ForTokenClassification.from_config({ ...lookupConfig, ...names }, { device });
  makeLookup(ner, 'classifier', { '▁Ada': [0, 9] }, [9, 0]);
  await save('ner', ner);
  const qa = T5ForQuestionAnswering.from_config(lookupConfig, { device });
  makeLookup(qa, 'qa_outputs', { '▁New': [9, 0], '▁York': [0, 9], '▁Ada': [5, 5] }, [0, 0]);
  await save('qa', qa);
  await save('encoder', T5EncoderModel.from_config(lookupConfig, { device, seed: 2 }));
  await save('writer', T5ForConditionalGeneration.from_config(lookupConfig, { device, seed: 2 }));
});

test('ner finds entities in arguments, in lines of text and in JSON lines', () => {
  const entity = { entity_group: 'PER', word: 'Ada' };
  const check = (found: Record<string, unknown>[], starts: (number | undefined)[]) => {
    for (const [i, start] of starts.entries()) {
      const [first, ...more] = found[i]!.entities as { score: number }[];
      assert.equal(more.length, 0);
      if (start === undefined) assert.equal(first, undefined);
      else {
        assert.ok(first!.score > 0.99);
        assert.deepEqual({ ...first, score: 0 }, { ...entity, score: 0, start, end: start + 3 });
      }
    }
    assert.equal(found.length, starts.length);
  };
  check(rows(['ner', 'ner', 'who lives in Ada', 'Ada']), [13, 0]);
  check(rows(['ner', 'ner', '--batch', '1'], 'who lives in Ada\n\nAda\n'), [13, undefined, 0]);
  const given = [
    { id: 7, body: 'who lives in Ada' },
    { id: 8, body: 'Ada' },
  ];
  const found = rows(['ner', 'ner', '--column', 'body'], lines(given));
  check(found, [13, 0]);
  assert.deepEqual(
    found.map(({ id, body }) => ({ id, body })),
    given,
  );
});

test('qa answers questions about each row, or about a file', () => {
  const question = 'where';
  const given = [
    { question, context: 'Ada in New York' },
    { question, context: 'in Ada' },
  ];
  writeFileSync(join(folder, 'rows.jsonl'), lines(given));
  const found = rows(['qa', 'qa', '--input', 'rows.jsonl']);
  assert.deepEqual(
    found.map(({ answer, start, end }) => [answer, start, end]),
    [
      ['New York', 7, 15],
      ['Ada', 3, 6],
    ],
  );
  writeFileSync(join(folder, 'context.txt'), 'who lives in New York');
  const [about] = rows(['qa', 'qa', 'where', '--context', 'context.txt', '--top-k', '2']);
  const answers = about!.answers as { answer: string }[];
  assert.deepEqual([answers.length, answers[0]!.answer], [2, 'New York']);
});

test('embed and classify give each row its vector and its class', async () => {
  const texts = ['Ada lives in London', 'who', 'New York'];
  const found = rows(['embed', 'encoder', '--normalize', '--batch', '2'], `${texts.join('\n')}\n`);
  assert.deepEqual(
    found.map(({ text }) => text),
    texts,
  );
  for (const { embedding } of found)
    assert.ok(Math.abs((embedding as number[]).reduce((sum, x) => sum + x * x, 0) - 1) < 1e-5);
  const [whole] = rows(['embed', 'encoder', 'who', '--pooling', 'none']);
  assert.equal((whole!.embedding as number[][]).length, 2);
  const [classified] = rows(['classify', 'writer', 'Ada', '--labels', 'good', 'bad', '--top-k', '0']);
  const classes = classified!.classes as { label: string; score: number }[];
  assert.deepEqual(classes.map(({ label }) => label).sort(), ['bad', 'good']);
  assert.ok(Math.abs(classes[0]!.score + classes[1]!.score - 1) < 1e-6);
});

test('generate takes the settings of generate as flags', async () => {
  const model = await T5ForConditionalGeneration.from_pretrained(join(folder, 'writer'), { device });
  const tokenizer = tokenizerOf(join(folder, 'writer'));
  const settings = { num_beams: 3, num_return_sequences: 2, max_new_tokens: 5, no_repeat_ngram_size: 1 };
  const texts = ['Ada lives in London', 'who'];
  const wanted = [];
  for (const text of texts) {
    const outputs = (await model.generate({ input_ids: [tokenizer.encode(text)], ...settings })) as number[][];
    const special = { skip_special_tokens: true };
    wanted.push({ text, outputs: outputs.map((ids) => tokenizer.decode(ids, special).trim()) });
  }
  model.dispose();
  const flags = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, String(value)]);
  assert.deepEqual(rows(['generate', 'writer', ...flags], `${texts.join('\n')}\n`), wanted);
  const bare = fat5(['generate', 'writer', 'who', '--text', ...flags])
    .stdout.split('\n')
    .slice(0, 2);
  assert.deepEqual(bare, wanted[1]!.outputs);
});

test('what is drawn for a line depends on the seed and the line number, not on the batch', () => {
  const call = ['generate', 'writer', '--do-sample', '--seed', '3', '--max-new-tokens', '4'];
  const input = 'who\n'.repeat(7);
  const found = rows([...call, '--batch', '7'], input);
  assert.deepEqual(rows([...call, '--batch', '2'], input), found);
  assert.ok(new Set(found.map(({ output }) => output)).size > 5, JSON.stringify(found));
});

test('lines of Windows are read as those of others: without byte order mark and carriage returns', () => {
  const mark = '\ufeff';
  const texts = (input: string) => rows(['embed', 'encoder'], input).map(({ text }) => text);
  assert.deepEqual(texts(`${mark}who\r\nAda\r\n`), ['who', 'Ada']);
  assert.deepEqual(texts(`${mark}{"text":"who"}\r\n\r\n{"text":"Ada"}\r\n`), ['who', 'Ada']);
  const files = { 'w.jsonl': '{"text":"who"}\r\n', 'w.txt': 'who\r\n', 'w.csv': '"text"\r\n"who"\r\n' };
  for (const [name, content] of Object.entries(files)) {
    writeFileSync(join(folder, name), mark + content);
    assert.deepEqual(
      rows(['embed', 'encoder', '--input', name]).map(({ text }) => text),
      ['who'],
      name,
    );
  }
});

test('a line is answered while the next one is waited for', async () => {
  const child = spawn(process.execPath, [main, 'embed', 'encoder', '--device', device], { cwd: folder });
  for (const text of ['who', 'Ada']) {
    child.stdin.write(`${text}\n`);
    const [answer] = (await once(child.stdout, 'data')) as [Buffer];
    assert.equal((JSON.parse(answer.toString()) as { text: string }).text, text);
  }
  child.stdin.end();
  assert.deepEqual(await once(child, 'exit'), [0, null]);
});

const mistakes: [string, string[], string | Buffer, number, RegExp][] = [
  ['a setting', ['generate', 'writer', 'a', '--num-beams', 'x'], '', 2, /generate: num_beams is "x", expected a whole/],
  ['a head', ['qa', 'ner', 'a'], '', 2, /has no "qa_outputs.weight", expected the head of a model for question/],
  ['a context', ['qa', 'qa', 'where'], '', 2, /argument 1: no text in "context", expected the context there or a file/],
  ['a field', ['embed', 'encoder'], '{"a":1,"b":2}\n', 2, /standard input:1: no text in "text", the row has a, b/],
  ['a line', ['embed', 'encoder'], '{"text":"a"}\n{"te\n', 3, /standard input:2: invalid JSON/],
  ['bytes', ['ner', 'ner'], Buffer.from('a\n\nb\xff\n', 'latin1'), 3, /standard input:3: invalid UTF-8/],
  ['no lines', ['embed', 'encoder'], '', 2, /embed: standard input is empty, expected lines of text or JSON/],
  ['a model', ['embed', 'rows.jsonl', 'a'], '', 2, /rows\.jsonl: is no folder, expected a model's folder or a run's/],
  ['a short flag', ['embed', 'encoder', '-n', '3'], '', 2, /embed: unknown flag -n, expected --name; a text that/],
];
for (const [what, args, input, status, message] of mistakes)
  test(`a mistake in ${what} is one line`, () => {
    const outcome = fat5(args, input);
    assert.equal(outcome.status, status, outcome.stderr);
    assert.match(outcome.stderr, message);
    assert.equal(outcome.stderr.trimEnd().split('\n').length, 1);
  });
