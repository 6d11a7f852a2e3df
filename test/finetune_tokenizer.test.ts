import assert from 'node:assert/strict';
import { cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { trainTokenizer } from '../src/tokenizer/train.ts';
import { type SmallRun, smallRun } from './small_run.ts';

let small: SmallRun;
const task = { name: 'classification', input: 'text', target: 'label' };
before(async () => {
  small = await smallRun(['the cat sits', 'the oak stands']);
  const { tokenizer } = await trainTokenizer({ vocab_size: 300, sentinels: 4 }, ['un chat est assis', 'un arbre']);
  tokenizer.save(small.at('other'));
  small.jsonl('rows.jsonl', [
    { text: 'the cat', label: 'a' },
    { text: 'the oak', label: 'b' },
  ]);
});
after(() => small.remove());

const run = (name: string, more: object) =>
  small.run(name, { task, data: { train: small.at('rows.jsonl') }, train: { epochs: 1 }, ...more });

describe('a tokenizer is refused', () => {
  test('that has other pieces than the one beside the model', async () => {
    await assert.rejects(
      run('pieces', { tokenizer: small.at('other') }),
      /model: piece \d+ is ".+" in its tokenizer, ".+" in .*other; the tokenizer belongs to another model: leave tokenizer out/,
    );
  });
  test('whose end is not the one that the model knows', async () => {
    cpSync(small.at('model'), small.at('ends'), { recursive: true });
    const config = JSON.parse(readFileSync(small.at('ends/config.json'), 'utf8')) as Record<string, number>;
    writeFileSync(small.at('ends/config.json'), JSON.stringify({ ...config, eos_token_id: 7 }));
    await assert.rejects(
      run('ends', { model: small.at('ends') }),
      /ends: eos_token_id is 7, the tokenizer's is \d+; .* name its own in tokenizer/,
    );
  });
});

test('a copy of the own tokenizer elsewhere, one for a model that has none, and any for random weights are taken', async () => {
  cpSync(small.at('model'), small.at('copy'), { recursive: true });
  assert.ok(await run('copied', { tokenizer: small.at('copy') }));
  cpSync(small.at('model'), small.at('bare'), { recursive: true });
  for (const name of ['tokenizer.json', 'tokenizer_config.json']) rmSync(small.at(`bare/${name}`), { force: true });
  rmSync(small.at('bare/spiece.model'), { force: true });
  assert.ok(await run('bare-model', { model: small.at('bare'), tokenizer: small.at('copy') }));
  assert.ok(await run('random', { weights: 'random', tokenizer: small.at('other') }));
});
