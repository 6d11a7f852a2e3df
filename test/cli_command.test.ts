import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  choice,
  defineCommand,
  help,
  integer,
  many,
  number,
  optional,
  parseArguments,
  path,
  text,
  toggle,
} from '../src/cli/command.ts';

const command = defineCommand({
  name: 'bake',
  summary: 'Bake a cake.',
  positionals: { usage: '[FRUIT …]', doc: 'what goes in' },
  flags: {
    tin: path('where it is baked'),
    'max-minutes': integer('baking time', 40),
    heat: number('oven, degrees Celsius', 180.5),
    icing: optional(text('on top')),
    kind: choice('how', ['round', 'square'], 'round'),
    layers: many(integer('heights')),
    quiet: toggle('say nothing'),
  },
  async run() {},
});
const parse = (...argv: string[]) => parseArguments(command, argv);

describe('flags', () => {
  test('have their types and defaults', () => {
    assert.deepEqual(parse('--tin', 't').values, {
      tin: 't',
      'max-minutes': 40,
      heat: 180.5,
      icing: undefined,
      kind: 'round',
      layers: [],
      quiet: false,
    });
  });

  test('are read as --name value, --name=value, with underscores, in lists and as switches', () => {
    const { values, positionals } = parse(
      'apple',
      '--tin=a=b',
      '--max_minutes',
      '-5',
      '--layers',
      '1',
      '2',
      '--quiet',
      'pear',
    );
    assert.equal(values.tin, 'a=b');
    assert.equal(values['max-minutes'], -5);
    assert.deepEqual(values.layers, [1, 2]);
    assert.equal(values.quiet, true);
    assert.deepEqual(positionals, ['apple', 'pear']);
  });

  test('everything after -- is an argument', () => {
    assert.deepEqual(parse('--tin', 't', '--', '--quiet', '-x').positionals, ['--quiet', '-x']);
  });

  for (const [argv, message] of [
    [['--tin', 't', '--max-minutes', 'x'], 'bake: --max-minutes: expected a whole number, got "x"'],
    [['--tin', 't', '--heat', ''], 'bake: --heat: expected a number, got ""'],
    [['--tin', 't', '--kind', 'rond'], 'bake: --kind: got "rond", did you mean "round"?'],
    [['--tni', 't'], 'bake: unknown flag --tni, did you mean "--tin"?'],
    [[], 'bake: --tin is required (where it is baked)'],
    [['--tin'], 'bake: --tin needs a value (where it is baked)'],
  ] as const)
    test(`${argv.join(' ') || 'nothing'} gives: ${message}`, () => {
      assert.throws(() => parse(...argv), { name: 'UsageError', message });
    });

  test('help shows every flag with its default', () => {
    const shown = help(command);
    assert.match(shown, /usage: fat5 bake \[FRUIT …\] \[flags\]/);
    assert.match(shown, /--tin PATH +where it is baked \(required\)/);
    assert.match(shown, /--max-minutes N +baking time \(default 40\)/);
    assert.match(shown, /--kind round\|square +how \(default round\)/);
    assert.match(shown, /--layers N… +heights$/m);
  });
});
