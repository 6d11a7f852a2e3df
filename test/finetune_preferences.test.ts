import assert from 'node:assert/strict';
import { readFileSync, statSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { readMetrics } from '../src/train/metrics.ts';
import { type SmallRun, smallRun } from './small_run.ts';

const words = ['cat', 'dog', 'cow', 'oak', 'fir', 'elm'];
/** The politer answer is preferred. */
const pairs = (count: number, from = 0) =>
  Array.from({ length: count }, (_, i) => ({
    prompt: `say ${words[(i + from) % words.length]}`,
    chosen: `please ${words[(i + from) % words.length]}`,
    rejected: `no ${words[(i + from) % words.length]}`,
  }));

let small: SmallRun;
let data: { train: string; validation: string; test: string };
before(async () => {
  small = await smallRun(pairs(6).flatMap((pair) => Object.values(pair)));
  const [train, held] = [small.jsonl('train.jsonl', pairs(24)), small.jsonl('held.jsonl', pairs(6, 3))];
  data = { train, validation: held, test: held };
});
after(() => small.remove());
const task = { name: 'preferences', beta: 0.2 };
const train = { epochs: 4, rows: 8, max_length: 16, max_target_length: 8 };

describe('a run on preferences', () => {
  test('comes to prefer what is preferred; its reference is kept and read again', async () => {
    const { test: scores } = (await small.run('polite', { task, data, train }))!;
    assert.equal(scores!.accuracy, 100);
    assert.ok(scores!.margin! > 1, JSON.stringify(scores));
    assert.ok(Math.abs(scores!.margin! - (scores!.chosen_reward! - scores!.rejected_reward!)) < 1e-9);
    assert.equal(small.lines('runs/polite/reference.jsonl').length, 24 + 6 + 6);
    const [first] = small.lines<{ wanted: object; prediction: Record<string, number>; scores: object }>(
      'runs/polite/predictions.jsonl',
    );
    assert.deepEqual(first!.wanted, pairs(1, 3)[0]);
    assert.ok(first!.prediction.chosen_reward! > first!.prediction.rejected_reward!);
    const losses = readMetrics(small.at('runs/polite/metrics.jsonl')).flatMap((r) =>
      r.kind === 'step' ? [r.loss] : [],
    );
    assert.ok(Math.abs(losses[0]! - Math.LN2) < 1e-5, 'the first step starts at the reference');
  });

  test('with adapters starts at the reference, too, and learns', async () => {
    const lora = { rank: 4, alpha: 16, targets: ['q', 'v', 'wi'] };
    const { test: scores } = (await small.run('adapters', { task, data, train: { ...train, epochs: 8, lora } }))!;
    assert.ok(scores!.accuracy === 100 && scores!.margin! > 0.1, JSON.stringify(scores));
    const losses = readMetrics(small.at('runs/adapters/metrics.jsonl')).flatMap((r) =>
      r.kind === 'step' ? [r.loss] : [],
    );
    assert.ok(Math.abs(losses[0]! - Math.LN2) < 1e-5, `${losses[0]}`);
  });

  test('that is stopped goes on with the same bits and the same reference', async () => {
    for (let stops = 0; ; stops++) {
      const stop = new AbortController();
      setTimeout(() => stop.abort(), 0);
      if (await small.run('stopped', { task, data, train }, stop.signal)) {
        assert.ok(stops > 1, `stopped ${stops} times`);
        break;
      }
      if (stops === 1) assert.ok(statSync(small.at('runs/stopped/reference.jsonl')).size > 0);
    }
    for (const file of ['reference.jsonl', 'best/model.safetensors'])
      assert.deepEqual(
        readFileSync(small.at(`runs/stopped/${file}`)),
        readFileSync(small.at(`runs/polite/${file}`)),
        file,
      );
  });

  test('measures its reference again where the rows have changed', async () => {
    const rows = { ...data, train: small.jsonl('changing.jsonl', pairs(24)) };
    const read = () => readFileSync(small.at('runs/again/reference.jsonl'), 'utf8');
    await small.run('again', { task, data: rows, train: { ...train, epochs: 0.1 } });
    const before = read();
    small.jsonl('changing.jsonl', pairs(24, 1));
    await small.run('again', { task, data: rows, train: { ...train, epochs: 0.1 } });
    assert.notEqual(read(), before);
  });

  test('is refused for answers that do not differ', async () => {
    const same = [...pairs(2), { prompt: 'say cat', chosen: 'no', rejected: 'no' }];
    await assert.rejects(
      small.run('same', { task, data: { train: small.jsonl('same.jsonl', same) }, train }),
      /same\.jsonl:3: "chosen" and "rejected" are the same in their first 8 tokens, expected two answers/,
    );
  });

  test('is refused for a missing column and settings that make no sense', async () => {
    const rows = { train: small.jsonl('columns.jsonl', [{ prompt: 'a', chosen: 'b', worse: 'c' }]) };
    await assert.rejects(
      small.run('columns', { task, data: rows, train }),
      /columns\.jsonl:1: no column "rejected", it has prompt, chosen, worse/,
    );
    await assert.rejects(
      async () => small.run('half', { task: { ...task, label_smoothing: 0.5 }, data, train }),
      /task\.label_smoothing is 0\.5, expected a number in \[0, 0\.5\)/,
    );
  });
});
