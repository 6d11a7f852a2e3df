import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { readMetrics } from '../src/train/metrics.ts';
import { at } from './finetune_fixture.ts';

const main = fileURLToPath(new URL('../src/cli/main.js', import.meta.url));

/** Runs the command, which is killed at its nth line about a step; whether it came to its end. */
function finetuneUntil(line: number, name: string): Promise<boolean> {
  const child = spawn(process.execPath, [main, 'finetune', at('killed.yaml'), `name=${name}`]);
  let seen = '';
  const onData = (text: Buffer) => {
    seen += text.toString();
    if (seen.split('[train] step').length > line) child.kill('SIGKILL');
  };
  child.stdout.on('data', onData);
  child.stderr.on('data', onData);
  return new Promise((resolve, reject) =>
    child.on('close', (code, signal) => {
      if (signal !== 'SIGKILL' && code !== 0) reject(new Error(seen));
      else resolve(signal === null);
    }),
  );
}

test('a fine-tuning that is killed again and again ends with the bits of one that was not', async () => {
  const settings = {
    task: { name: 'token_classification', class_weights: 'balanced' },
    runs_directory: at('runs'),
    model: at('model'),
    data: { train: at('train.jsonl'), validation: at('held.jsonl'), test: at('held.jsonl') },
    optim: { name: 'adamw', learning_rate: 1e-2, schedule: { name: 'constant' } },
    train: { epochs: 2, rows: 8, layer_decay: 0.9, lora: { rank: 4, dropout: 0.1, targets: ['q', 'wo'] } },
    evaluate: { every: 0.34 },
    log: { every: 1 },
  };
  writeFileSync(at('killed.yaml'), JSON.stringify(settings));
  assert.ok(await finetuneUntil(Number.POSITIVE_INFINITY, 'whole'));
  let kills = 0;
  while (!(await finetuneUntil(4 + (kills % 2), 'killed'))) kills++;
  assert.ok(kills >= 2, `${kills} kills`);
  const steps = (name: string) =>
    readMetrics(at(`runs/${name}/metrics.jsonl`)).map((r) =>
      r.kind === 'step' ? [r.step, r.loss, r.grad_norm] : r.kind === 'score' ? [r.step, r.scores] : [],
    );
  assert.deepEqual(steps('killed'), steps('whole'));
  for (const file of ['best/adapter_model.safetensors', 'predictions.jsonl'])
    assert.deepEqual(readFileSync(at(`runs/killed/${file}`)), readFileSync(at(`runs/whole/${file}`)), file);
  assert.deepEqual(
    readdirSync(at('runs/killed')).filter((name) => /\.(tmp|old)$/.test(name)),
    [],
  );
});
