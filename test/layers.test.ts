/** Arrows point down: a file may import its own layer's folder and lower layers, never higher ones or siblings. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const source = fileURLToPath(new URL('../../src/', import.meta.url));

/** Lowest first; folders of one row may not import each other, except as `allowed` says. */
const layers = [
  ['util'],
  ['backend', 'hub'],
  ['tensor'],
  ['ops'],
  ['model', 'optim', 'data', 'tokenizer'],
  ['train', 'eval', 'bench'],
  ['finetune', 'pipelines'],
  ['cli'],
];
/** Data preparation encodes text; a benchmark of training takes the trainer's own steps. */
const allowed = new Set(['data -> tokenizer', 'bench -> train']);

const levelOf = (folder: string) => layers.findIndex((row) => row.includes(folder));

function* imports(): Generator<{ file: string; from: string; to: string }> {
  for (const file of readdirSync(source, { recursive: true }) as string[]) {
    if (!file.endsWith('.ts') || !file.includes('/')) continue; // src/index.ts is the public face and may import all
    const text = readFileSync(join(source, file), 'utf8');
    for (const [, path] of text.matchAll(/(?:from|import)\s*\(?\s*'(\.[^']+)'/g)) {
      const target = relative(source, resolve(source, dirname(file), path!));
      yield { file, from: file.split('/')[0]!, to: target.split('/')[0]! };
    }
  }
}

test('every folder of src has a place in the layers', () => {
  for (const { from } of imports()) assert.ok(levelOf(from) >= 0, `src/${from} is in no layer`);
});

test('no import points upward or sideways', () => {
  const wrong = [...imports()].filter(({ from, to }) => {
    if (from === to || allowed.has(`${from} -> ${to}`)) return false;
    return levelOf(to) >= levelOf(from);
  });
  assert.deepEqual(
    wrong.map(({ file, to }) => `${file} imports ${to}`),
    [],
  );
});
