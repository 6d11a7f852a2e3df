import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { t5Config } from '../src/model/config.ts';
import { optimizerDefaults } from '../src/optim/options.ts';
import { scheduleDefaults } from '../src/optim/schedule.ts';
import { objectiveDefaults } from '../src/train/config.ts';
import { checkTrainConfig, loadTrainConfig, printTrainConfig, settings } from '../src/train/config_file.ts';

const folder = mkdtempSync(join(tmpdir(), 'fat5-config-'));
after(() => rmSync(folder, { recursive: true }));

const minimal = 'tokenizer: tok\nmodel: { d_model: 64 }\ndata: { folder: shards }\n';
const file = (text: string, name = 'small.yaml') => {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
};

describe("a run's settings", () => {
  test('get defaults, a name from their file, and overrides', () => {
    const overrides = [
      'optim.learning_rate=2e-2',
      'train.max_grad_norm=null',
      'model.id2label={0: no}',
      'evaluate.every=7',
    ];
    const config = loadTrainConfig(file(minimal), overrides);
    assert.equal(config.name, 'small');
    assert.equal(config.optim.learning_rate, 0.02);
    assert.equal(config.train.max_grad_norm, null);
    assert.deepEqual(config.model.id2label, { 0: 'no' });
    assert.equal(config.evaluate.every, 7);
    assert.deepEqual(config.optim.schedule, {
      name: 'cosine',
      warmup_steps: 10000,
      warmup_start: 0.5,
      final_learning_rate: 1e-5,
    });
    assert.equal(config.data.denoisers?.length, 7);
    assert.deepEqual(config.data.denoisers?.[2], { mean_span: 4, noise_density: 0, prefix: '[S]', proportion: 0.34 });
    assert.equal(config.data.max_labels_length, 512);
    assert.deepEqual(config.optim.betas, [0.9, 0.999]);
    assert.equal(config.model.d_model, 64);
  });

  test('that are optional are left out by null: the objective, optimizer and schedule can be switched by overrides', () => {
    const tiny = fileURLToPath(new URL('../../configs/tiny.yaml', import.meta.url));
    const spans = ['data.objective=span_corruption'];
    assert.throws(() => loadTrainConfig(tiny, spans), {
      name: 'UsageError',
      message:
        /data\.\w+ means nothing to "span_corruption", remove it or set it to null; expected only noise_density, mean_span$/,
    });
    const nothing = ['data.max_labels_length=null', 'data.denoisers=null'];
    assert.deepEqual(loadTrainConfig(tiny, [...spans, ...nothing]).data, {
      folder: 'runs/quickstart/shards',
      objective: 'span_corruption',
      max_length: 128,
      noise_density: 0.15,
      mean_span: 3,
    });
    assert.equal(loadTrainConfig(tiny, ['data.max_labels_length=null']).data.max_labels_length, 128);
    const betas = `${minimal}optim: { betas: [0.8, 0.9], schedule: { warmup_steps: 5 } }\n`;
    const other = ['optim.name=adafactor', 'optim.betas=null', 'optim.schedule.name=legacy'];
    const { optim } = loadTrainConfig(file(betas), [...other, 'optim.schedule.warmup_steps=null']);
    assert.deepEqual(optim.schedule, { name: 'legacy' });
    assert.ok(!('betas' in optim) && optim.decay_rate === -0.8);
    const denoiser = 'data.denoisers=[{mean_span: 3, noise_density: 0.15, proportion: 1, max_spans: null}]';
    assert.deepEqual(loadTrainConfig(file(minimal), [denoiser]).data.denoisers, [
      { mean_span: 3, noise_density: 0.15, prefix: '', proportion: 1 },
    ]);
  });

  test('written out and read again are the same', () => {
    const config = loadTrainConfig(file(minimal), ['optim.schedule.final_learning_rate=1e-5', "name='1e5'"]);
    assert.deepEqual(loadTrainConfig(file(printTrainConfig(config), 'other.yaml')), config);
  });

  const cases: [string, string[], RegExp][] = [
    [minimal, ['optim.lerning_rate=1'], /unknown key "optim\.lerning_rate", did you mean "learning_rate"\?/],
    [minimal, ['optim.schedule.warmup=1'], /unknown key "optim\.schedule\.warmup", did you mean "warmup_steps"\?/],
    [minimal, ['model.d_modle=1'], /unknown key "model\.d_modle", did you mean "d_model"\?/],
    [minimal, ['trian.steps=1'], /unknown key "trian", did you mean "train"\?/],
    [minimal, ['train.steps=0'], /train\.steps is 0, expected a whole number from 1/],
    [minimal, ['train.steps=many'], /train\.steps is "many", expected a whole number from 1/],
    [minimal, ['optim.name=adam'], /optim\.name is "adam", expected one of adamw_scale, adamw, adafactor, muon/],
    [minimal, ['train.seed'], /"train\.seed": expected key\.path=value/],
    [minimal, ['model.num_layers=x'], /model\.num_layers is "x", expected a positive integer/],
    [
      minimal,
      ['data.denoisers=[{mean_span: 3, noise_density: 0.15, prefix: "[R]", proportion: 1, max_span: 2}]'],
      /unknown key "data\.denoisers\.0\.max_span", did you mean "max_spans"\?/,
    ],
    [
      minimal,
      ['optim.name=adafactor', 'optim.betas=[0.9, 0.99]'],
      /optim\.betas means nothing to "adafactor", remove it or set it to null; expected only name, /,
    ],
    [
      minimal,
      ['optim.schedule.name=legacy', 'optim.schedule.warmup_steps=1'],
      /warmup_steps means nothing to "legacy"/,
    ],
    [
      minimal,
      ['data.mean_span=3'],
      /data\.mean_span means nothing to "ul2", remove it or set it to null; expected only /,
    ],
    [minimal, ['train.steps=null'], /train\.steps is null, expected a whole number from 1/],
    [minimal, ['model.d_model=null'], /model\.d_model is null, expected a positive integer/],
    [minimal, ['data.max_lenght=null'], /unknown key "data\.max_lenght", did you mean "max_length"\?/],
    ['tokenizer: t\nmodel: {}\n', [], /data is missing, expected a map of settings/],
    [minimal, ['data=runs/x'], /data is "runs\/x", expected a map of settings/],
    ['a: [', [], /not YAML/],
    ['- 1', [], /expected a map of settings/],
  ];
  for (const [text, overrides, message] of cases)
    test(`${overrides.join(' ') || JSON.stringify(text)} is refused: ${message.source}`, () => {
      assert.throws(() => loadTrainConfig(file(text), overrides), { name: 'UsageError', message });
    });

  test('a missing file is one clear line', () => {
    assert.throws(() => loadTrainConfig(join(folder, 'none.yaml')), {
      name: 'UsageError',
      message: /none\.yaml: not found/,
    });
  });

  test('are all documented, model fields aside, whose names are Hugging Face’s', () => {
    const undocumented = settings().filter(({ key, doc }) => !key.startsWith('model.') && doc === '');
    assert.deepEqual(undocumented, []);
    assert.ok(settings().some(({ key }) => key === 'optim.schedule.warmup_steps'));
  });

  test('are all used: by the loop and its parts, or by the optimizer, schedule, objective or model that has them', () => {
    const folder = new URL('../../src/train/', import.meta.url);
    const source = readdirSync(folder)
      .filter((name) => name.endsWith('.ts') && !name.startsWith('config'))
      .map((name) => readFileSync(new URL(name, folder), 'utf8'))
      .join('\n');
    const taken: Record<string, readonly string[]> = {
      'optim.schedule': ['decay_steps', ...Object.values(scheduleDefaults).flatMap((o) => Object.keys(o))],
      optim: Object.values(optimizerDefaults).flatMap((o) => Object.keys(o)),
      data: Object.values(objectiveDefaults).flatMap((defaults) => Object.keys(defaults(512))),
      model: Object.keys(t5Config({})),
    };
    const unused = settings().filter(({ key }) => {
      const [section, name] = [key.split('.').slice(0, -1).join('.'), key.split('.').at(-1)!];
      return !taken[section]?.includes(name) && !new RegExp(`\\b${name}\\b`).test(source);
    });
    assert.deepEqual(
      unused.map(({ key }) => key),
      [],
    );
  });

  test('that are not an object are refused', () => {
    assert.throws(() => checkTrainConfig(3, 'test'), { name: 'UsageError' });
  });
});
