/** fat5 tokenizer train and inspect as a user calls them. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

const main = fileURLToPath(new URL('../src/cli/main.js', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'fat5-cli-tokenizer-'));
after(() => rmSync(folder, { recursive: true }));

const english = 'the quick brown foxes jump over lazy dogs and the dogs sleep 12 hours\n'.repeat(40);
const french = 'les renards bruns sautent par-dessus les chiens paresseux et les chiens dorment\n'.repeat(40);

function fat5(args: readonly string[], input = '') {
  return spawnSync(process.execPath, [main, 'tokenizer', ...args], { cwd: folder, input, encoding: 'utf8' });
}

function output(...args: Parameters<typeof fat5>): string {
  const { status, stdout, stderr } = fat5(...args);
  assert.equal(status, 0, stderr);
  return stdout;
}

const small = ['--sentinels', '4', '--normalization', 'identity'];

before(() => {
  writeFileSync(join(folder, 'en.txt'), english);
  writeFileSync(join(folder, 'fr.txt'), french);
  const rows = french.trim().split('\n');
  const json = (key: string) => rows.map((text) => JSON.stringify({ [key]: text })).join('\n');
  writeFileSync(join(folder, 'fr.jsonl.gz'), gzipSync(json('body')));
  writeFileSync(join(folder, 'damaged.jsonl'), `${json('text')}\n{"text": 3}\n`);
  output(['train', 'en.txt', 'fr.txt', '--recipe', 't5', '--vocab-size', '120', '--output', 't5', ...small]);
});

test("T5's recipe writes both files, and text comes back", () => {
  assert.ok(existsSync(join(folder, 't5/spiece.model')));
  const ids = output(['encode', '--tokenizer', 't5', 'the lazy dogs']).trim();
  assert.match(ids, /^\d+( \d+)* 1$/);
  assert.equal(JSON.parse(output(['decode', '--tokenizer', 't5', '--skip-special-tokens', ids])), 'the lazy dogs');
});

test('globs, compressed JSON Lines, standard input and threads change nothing about the same text', () => {
  const train = (name: string, args: string[], input?: string) => {
    output(['train', '--recipe', 't5', '--vocab-size', '80', '--output', name, ...small, ...args], input);
    return ['tokenizer.json', 'spiece.model'].map((file) => readFileSync(join(folder, name, file), 'base64'));
  };
  const plain = train('a', ['fr.txt', '--threads', '1']);
  assert.deepEqual(train('b', ['*.jsonl.gz', '--field', 'body', '--threads', '3']), plain);
  assert.deepEqual(train('c', ['-'], french), plain);
  assert.deepEqual(train('d', ['damaged.jsonl', '--skip-bad']), plain);
});

test('flags reach the training', () => {
  output([
    ...['train', 'en.txt', 'fr.txt', '--output', 'bpe', '--vocab-size', '400', '--sentinels', '4'],
    ...['--special-tokens', '[Q]', '[A]', '--user-symbols', 'fox', '--pattern', 'english', '--max-token-length', '4'],
  ]);
  const { added_tokens, model, pre_tokenizer } = JSON.parse(readFileSync(join(folder, 'bpe/tokenizer.json'), 'utf8'));
  const added = added_tokens.map(({ content, special }: { content: string; special: boolean }) => [content, special]);
  assert.deepEqual(added.slice(-3), [
    ['[Q]', true],
    ['[A]', true],
    ['fox', false],
  ]);
  const learned = model.merges.map((merge: string[]) => merge.join(''));
  assert.ok(learned.length > 20 && learned.every((piece: string) => piece.length < 4), learned.join(' '));
  assert.match(pre_tokenizer.pretokenizers[0].pattern.Regex, /\\p\{N\}\{1,3\}/);
});

test('inspect shows pieces, and counts corpora against another tokenizer', () => {
  const corpus = ['--corpus', 'fr.jsonl.gz', '--field', 'body'];
  const shown = output(['inspect', '--tokenizer', 't5', 'the dogs', '--against', 'bpe', ...corpus]);
  const lines = shown.split('\n');
  assert.match(lines[0]!, /^t5: Unigram, \d+ pieces, 7 of them special \(4 sentinels\)$/);
  assert.match(lines[1]!, /^bpe: BPE, \d+ pieces/);
  assert.equal(lines[2], '2 pieces: ▁the | ▁dogs');
  const row = lines.find((line) => line.startsWith('fr.jsonl.gz'))!.split(/ {2,}/);
  const line = french.slice(0, french.indexOf('\n'));
  const tokens = 40 * output(['encode', '--tokenizer', 't5', '--no-special-tokens', line]).split(' ').length;
  const words = 40 * line.split(' ').length;
  assert.deepEqual(row.slice(0, 5), ['fr.jsonl.gz', '0.00', `${words}`, `${tokens}`, (tokens / words).toFixed(3)]);
  assert.match(shown, new RegExp(`^ {2}bpe +0\\.00 +${words} `, 'm'));
  assert.match(shown, /^fr\.jsonl\.gz: \d+ tokens against \d+, [\d.]+ % fewer$/m);
});

for (const [args, status, message] of [
  [['train', 'damaged.jsonl', '--output', 'x'], 3, /damaged\.jsonl:41: field "text" is not a string/],
  [['train', 'en.txt', '--output', 'x', '--vocab-size', '9999999999'], 2, /vocab_size/],
  [
    [
      'train',
      'en.txt',
      '--output',
      'x',
      '--recipe',
      't5',
      '--vocab-size',
      '110',
      '--sentinels',
      '90',
      ...small.slice(2),
    ],
    2,
    /alphabet/,
  ],
  [['train', 'en.txt', '--output', 'x', '--recipe', 'T5'], 2, /recipe: got "T5", did you mean "t5"/],
  [['train', 'none*.txt', '--output', 'x'], 2, /no file/],
  [['train', '-', '--output', 'x'], 2, /no text in 0 documents, expected a corpus/],
  [['inspect', '--tokenizer', 'nowhere'], 2, /nowhere: not found/],
] as const)
  test(`tokenizer ${args.join(' ')} ends with one line and status ${status}`, () => {
    const outcome = fat5(args);
    assert.equal(outcome.status, status, outcome.stderr);
    assert.match(outcome.stderr, message);
    assert.equal(outcome.stderr.trim().split('\n').length, 1, outcome.stderr);
  });

test('a vocabulary that the text cannot fill is as large as possible, with a note', () => {
  const { status, stderr, stdout } = fat5(['train', 'en.txt', '--output', 'full', '--recipe', 't5', ...small]);
  assert.equal(status, 0, stderr);
  assert.match(stderr, /^note: vocabulary of \d+ pieces instead of 32100: the largest/);
  assert.match(stdout, /^full: \d+ pieces from 1 documents/);
});
