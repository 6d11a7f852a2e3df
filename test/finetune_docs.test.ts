import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { finetuneConfigSchema } from '../src/finetune/config.ts';
import { settings } from '../src/train/config_file.ts';

test('every key in the tables of docs/finetune.md is a setting', () => {
  const keys = new Set(settings(finetuneConfigSchema).map(({ key }) => key));
  const text = readFileSync(new URL('../../docs/finetune.md', import.meta.url), 'utf8');
  const rows = text.split('\n').filter((line) => line.startsWith('| `'));
  const named = rows.flatMap((row) => {
    const [first, ...more] = [...row.split('|')[1]!.matchAll(/`([^`]+)`/g)].map(([, key]) => key!);
    return [first!, ...more.map((key) => (key.startsWith('.') ? first!.replace(/\.[^.]*$/, key) : key))];
  });
  assert.ok(named.length >= 15, `${named.length} keys`);
  assert.deepEqual(
    named.filter((key) => !keys.has(key)),
    [],
  );
});
