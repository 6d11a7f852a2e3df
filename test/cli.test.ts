import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { markdownProse } from '../src/cli/quickstart/corpus.ts';

const main = fileURLToPath(new URL('../src/cli/main.js', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'fat5-cli-'));
after(() => rmSync(folder, { recursive: true }));

const commands = [
  'quickstart',
  'tokenizer train',
  'tokenizer encode',
  'tokenizer decode',
  'tokenizer inspect',
  'data prepare',
  'pretrain',
  'evaluate',
  'generate',
  'embed',
  'classify',
  'ner',
  'qa',
  'doctor',
  'bench',
  'estimate',
];

interface Outcome {
  status: number | null;
  stdout: string;
  stderr: string;
}

function fat5(args: readonly string[], options: { input?: string; env?: Record<string, string> } = {}): Outcome {
  const env = { ...process.env, FAT5_THREADS: '1', ...options.env };
  const input = options.input ?? '';
  return spawnSync(process.execPath, [main, ...args], { cwd: folder, env, input, encoding: 'utf8' });
}

/** Standard output of a call that must succeed. */
function output(...args: Parameters<typeof fat5>): string {
  const { status, stdout, stderr } = fat5(...args);
  assert.equal(status, 0, stderr);
  return stdout;
}

describe('fat5', () => {
  test('without a command lists every command', () => {
    const shown = output([]);
    for (const name of commands) assert.match(shown, new RegExp(`^  ${name} {2,}\\S`, 'm'));
    assert.equal(output(['--help']), shown);
  });

  for (const name of commands)
    test(`${name} --help says what it takes`, () => {
      assert.match(output([...name.split(' '), '--help']), new RegExp(`^usage: fat5 ${name}`, 'm'));
    });

  test('says its version, and helps in either order', () => {
    const { version } = JSON.parse(readFileSync(fileURLToPath(new URL('../../package.json', import.meta.url)), 'utf8'));
    assert.equal(output(['--version']), `${version}\n`);
    assert.equal(output(['help', 'tokenizer', 'train']), output(['tokenizer', 'train', '--help']));
  });

  test('a group lists its commands', () => {
    assert.match(output(['tokenizer', '--help']), /tokenizer train[\s\S]*tokenizer decode/);
  });

  test('pretrain --help documents every setting', () => {
    const shown = output(['pretrain', '--help']);
    assert.match(shown, /optim\.schedule\.warmup_steps +steps until the full learning rate/);
    assert.match(shown, /train\.dtype +type of weights and activations \[float32\|bfloat16\] \(default "float32"\)/);
    assert.match(output(['finetune', '--help']), /task\.name +\S.* \[text_to_text\|classification\|.*\|mixture\]/);
  });

  const mistakes: [string[], number, RegExp][] = [
    [['pretrian'], 2, /^fat5: unknown command "pretrian", did you mean "pretrain"\?\n$/],
    [['zzzzzzzz'], 2, /^fat5: unknown command "zzzzzzzz", "fat5 --help" lists what there is\n$/],
    [['--foo'], 2, /^fat5: unknown flag --foo, expected a command first, --help or --version\n$/],
    [
      ['pretrain', 'x.yaml', '--steps', '4'],
      2,
      /unknown flag --steps, settings are written without "--", as train\.rows/,
    ],
    [['pretrain', '.'], 2, /^fat5: \.: is no file, expected a YAML file with a run's settings\n$/],
    [
      ['tokenizer', 'decode', '--tokenizer', 'tok', '5 400'],
      2,
      /line 1: "400" is not a token id, expected .* below 3\d\d/,
    ],
    [['tokenizer', 'trian'], 2, /unknown command "tokenizer trian", did you mean "tokenizer train"\?/],
    [['tokenizer', 'encode', '--tokeniser', 'x'], 2, /unknown flag --tokeniser, did you mean "--tokenizer"\?/],
    [['tokenizer', 'encode', '--tokenizer', 'nowhere', 'a'], 2, /nowhere: not found/],
    [['tokenizer', 'decode', '--tokenizer', 'broken', '1'], 3, /broken\/tokenizer\.json/],
    [['doctor', 'twice'], 2, /unexpected argument "twice"/],
    [['bench', 'gem'], 2, /unknown "gem", did you mean "gemm"\?/],
    [['pretrain'], 2, /expected a config file/],
    [['pretrain', 'none.yaml'], 2, /none\.yaml: not found/],
    [['generate'], 2, /generate: expected a model's folder or a run's, such as runs\/quickstart, then texts/],
    [['generate', 'nowhere', 'a'], 2, /nowhere: not found, expected a model's folder/],
    [['generate', '--model', 'nowhere', 'a'], 2, /nowhere: not found, expected a model's folder/],
    [['data', 'prepare', '--tokenizer', 'tok', '--output', 'o', 'nowhere.txt'], 2, /nowhere\.txt: not found/],
    [['tokenizer', 'train', '--output', 'o', 'empty.txt'], 2, /without text|no text/],
    [['quickstart', '--corpus', 'empty.txt', '--output', 'q'], 2, /expected at least 20000; name more files/],
    [['quickstart', '--minutes', '0', '--output', 'q'], 2, /--minutes: expected more than 0/],
  ];
  before(() => {
    writeFileSync(join(folder, 'empty.txt'), '');
    mkdirSync(join(folder, 'broken'));
    writeFileSync(join(folder, 'broken/tokenizer.json'), '{"model": 3}');
    writeFileSync(
      join(folder, 'text.txt'),
      `${'the quick brown fox jumps over the lazy dog '.repeat(300)}\n`.repeat(3),
    );
    output(['tokenizer', 'train', '--output', 'tok', '--vocab-size', '400', '--sentinels', '8', 'text.txt']);
  });
  for (const [args, status, message] of mistakes)
    test(`${args.join(' ')} ends with one line and status ${status}`, () => {
      const outcome = fat5(args);
      assert.equal(outcome.status, status, outcome.stderr);
      assert.match(outcome.stderr, message);
      assert.equal(outcome.stderr.trim().split('\n').length, 1, outcome.stderr);
    });

  test('output that has no room is one line', { skip: !existsSync('/dev/full') }, () => {
    const full = openSync('/dev/full', 'w');
    const { status, stderr } = spawnSync(process.execPath, [main, '--help'], { stdio: ['ignore', full, 'pipe'] });
    closeSync(full);
    assert.match(stderr.toString(), /^fat5: standard output: cannot be written: ENOSPC.*\n$/);
    assert.equal(status, 2);
  });

  test('DEBUG=1 shows where an error comes from', () => {
    assert.match(fat5(['pretrain', 'none.yaml'], { env: { DEBUG: '1' } }).stderr, /UsageError: .*\n +at /);
  });

  test('tokenizer encode and decode are each other’s inverse, on arguments and on standard input', () => {
    const text = 'the lazy fox: “çà”';
    const ids = output(['tokenizer', 'encode', '--tokenizer', 'tok', text]).trim();
    assert.match(ids, /^\d+( \d+)* 2$/);
    assert.equal(output(['tokenizer', 'encode', '--tokenizer', 'tok'], { input: `${text}\n` }).trim(), ids);
    const decoded = output(['tokenizer', 'decode', '--tokenizer', 'tok', '--skip-special-tokens'], {
      input: `${ids}\n`,
    });
    assert.equal(JSON.parse(decoded), text);
    assert.deepEqual(JSON.parse(output(['tokenizer', 'encode', '--tokenizer', 'tok', '--pieces', ' fox'])), [
      ' fox',
      '</s>',
    ]);
  });

  test('doctor tries every backend', () => {
    const shown = output(['doctor']);
    assert.match(shown, /cpu backend +works/);
    assert.match(shown, /reference backend +works/);
    assert.match(shown, /instruction sets +\S+.*; uses \S+/);
  });

  test('estimate knows the size of a run', () => {
    const config = fileURLToPath(new URL('../../configs/nanot5.yaml', import.meta.url));
    const shown = output(['estimate', config, '--gflops', '1000', '--share', '0.5']);
    assert.match(shown, /parameters +247,577,856/);
    assert.match(shown, /128 rows of 512 \+ 114 tokens, 54\.4 TFLOP/);
    assert.match(shown, /65,536 steps, 5\.25 billion tokens, 3\.57 EFLOP/);
    assert.match(shown, /109 s a step/);
  });
});

describe('the corpus of quickstart', () => {
  test('is prose without code, tables, images and link targets', () => {
    const markdown =
      '# Title\n\nSome **bold** words\nand a [link](http://x.y/z).\n\n```js\ncode();\n```\n\n| a | b |\n\n![i](p.png)\n<br>\n- one\n- two\n';
    assert.equal(markdownProse(markdown).replace(/\n+/g, '|'), 'Title|Some bold words and a link.|- one|- two');
  });
});

describe('quickstart', () => {
  const sentence = (i: number) =>
    `The package number ${i} has a long description, which says what it does and how it is used. `;

  test('goes from text to a report, and does nothing twice', () => {
    const corpus = Array.from({ length: 400 }, (_, i) => sentence(i)).join('\n\n');
    writeFileSync(join(folder, 'prose.md'), corpus);
    const args = ['quickstart', '--corpus', 'prose.md', '--minutes', '0.15', '--output', 'runs/q'];
    const first = output(args);
    assert.match(first, /held-out NLL \d+\.\d+ before, \d+\.\d+ after training/);
    const page = readFileSync(join(folder, 'runs/q/report.html'), 'utf8');
    assert.match(page, /<svg[\s\S]*<path class="line one"/);
    assert.ok(!/https?:\/\//.test(page), 'the report loads something');
    const made = () =>
      (readdirSync(join(folder, 'runs/q'), { recursive: true }) as string[])
        .filter((name) => name !== 'report.html')
        .map((name) => ({ name, modified: statSync(join(folder, 'runs/q', name)).mtimeMs }))
        .filter(({ name }) => statSync(join(folder, 'runs/q', name)).isFile());
    const before = made();
    assert.equal(output(args).replace(/^ +step.*\n/gm, ''), first.replace(/^ +step.*\n/gm, ''));
    assert.deepEqual(made(), before, 'stages were done again');
    const mask = 'The package <extra_id_0> has a description.';
    const written = output(['generate', 'runs/q', mask, mask]);
    const inputs = written
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line).text);
    assert.deepEqual(inputs, [mask, mask]);
    assert.equal(output(['generate', '--model', 'runs/q', mask, mask]), written);
    assert.equal(output(['generate', 'runs/q'], { input: `${mask}\n${mask}\n` }), written);
    const other = fat5([...args, '--minutes', '7']);
    assert.equal(other.status, 2);
    assert.match(other.stderr, /was begun with --corpus prose\.md and --minutes 0\.15/);
  });
});
