import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { t5Config } from '../src/model/config.ts';
import { parameterCount } from '../src/model/parameter_table.ts';
import { loadTrainConfig } from '../src/train/config_file.ts';

const folder = fileURLToPath(new URL('../../configs/', import.meta.url));

/** Counted from the architectures: 2Vd + encoder and decoder blocks + final norms + two bias tables. */
const parameters: Record<string, number> = {
  'fat5-fr-small.yaml': 146_832_896,
  'fat5-base.yaml': 305_184_000,
  'fat5-large.yaml': 973_204_480,
  'tiny.yaml': 1_509_120,
  'small.yaml': 29_896_320,
  'minipile.yaml': 109_084_160,
  'flan-small.yaml': 76_961_152,
  'flan-base.yaml': 247_577_856,
  'flan-large.yaml': 783_150_080,
  'flan-xl.yaml': 2_849_757_184,
  'nanot5.yaml': 247_577_856,
  'nanot5-adafactor.yaml': 247_577_856,
};

describe('configs/', () => {
  test('holds exactly the configurations that are listed here', () => {
    const files = readdirSync(folder).filter((name) => name.endsWith('.yaml'));
    assert.deepEqual(files.sort(), Object.keys(parameters).sort());
  });

  for (const [file, count] of Object.entries(parameters))
    test(`${file} is valid and describes ${count.toLocaleString('en')} parameters`, () => {
      const { model } = loadTrainConfig(join(folder, file));
      assert.equal(parameterCount(t5Config(model)), count);
    });
});
