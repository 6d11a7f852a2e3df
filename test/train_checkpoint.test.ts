import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import * as fc from 'fast-check';
import { latestCheckpoint, pruneCheckpoints, saveCheckpoint, verifyCheckpoint } from '../src/train/checkpoint.ts';
import { FormatError } from '../src/util/errors.ts';

let directory: string;
const warnings: string[] = [];
const latest = () => latestCheckpoint(directory, (line) => warnings.push(line));
const state = (step: number) => ({
  step,
  progress: { label_tokens: 10 * step, seconds: 1.5, window: { loss: 0.1 + step } },
  seed: 42,
  data: { next: step },
});
const save = (step: number) =>
  saveCheckpoint(directory, state(step), async (folder) => {
    writeFileSync(join(folder, 'model.safetensors'), Buffer.alloc(1000, step));
    writeFileSync(join(folder, 'config.json'), '{}');
  });
const flip = (path: string, at: number) => {
  const bytes = readFileSync(path);
  bytes[at] = bytes[at]! ^ 1;
  writeFileSync(path, bytes);
};

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'fat5-checkpoint-'));
  warnings.length = 0;
});
afterEach(() => rmSync(directory, { recursive: true }));

describe('checkpoints', () => {
  test('the newest is found with what was saved', async () => {
    assert.equal(await latest(), undefined);
    await save(5);
    await save(100);
    const found = await latest();
    assert.equal(found?.folder, join(directory, 'step-0000100'));
    assert.deepEqual(found?.state, state(100));
  });

  for (const name of ['model.safetensors', 'config.json', 'trainer.json'])
    test(`one flipped bit in ${name} is reported and the checkpoint before is used`, async () => {
      await save(1);
      const folder = await save(2);
      flip(join(folder, name), name === 'trainer.json' ? readFileSync(join(folder, name)).indexOf('10') + 15 : 1);
      assert.equal((await latest())?.state.step, 1);
      assert.equal(warnings.length, 1);
      assert.match(warnings[0]!, new RegExp(`step-0000002/${name}: .*trying the checkpoint before`));
    });

  test('a truncated or missing file is reported with its path', async () => {
    const folder = await save(2);
    writeFileSync(join(folder, 'model.safetensors'), 'short');
    await assert.rejects(latest(), {
      name: 'FormatError',
      message: /has 5 bytes, expected 1000 .*no intact checkpoint/,
    });
    rmSync(join(folder, 'model.safetensors'));
    assert.throws(() => verifyCheckpoint(folder), { name: 'FormatError', message: /model\.safetensors: missing/ });
  });

  test('what a killed process leaves is not a checkpoint and is removed', async () => {
    await save(1);
    mkdirSync(join(directory, 'step-0000002.tmp'));
    writeFileSync(join(directory, 'step-0000002.tmp', 'trainer.json'), '{}');
    mkdirSync(join(directory, 'step-0000003'));
    assert.equal((await latest())?.state.step, 1);
    assert.deepEqual(readdirSync(directory).sort(), ['step-0000001', 'step-0000003']);
  });

  test('a full disk is one clear line, and what was saved stays', async () => {
    await save(1);
    const full = saveCheckpoint(directory, state(2), async () => {
      throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
    });
    await assert.rejects(full, {
      name: 'UsageError',
      message:
        /step-0000002: the disk is full; step-0000001 is complete; free some space and run the same command again/,
    });
    assert.deepEqual(readdirSync(directory), ['step-0000001']);
    assert.equal((await latest())?.state.step, 1);
  });

  test('the newest stay, and every so many for ever', async () => {
    for (const step of [10, 15, 20, 25, 30]) await save(step);
    await pruneCheckpoints(directory, 2, 10);
    assert.deepEqual(readdirSync(directory).sort(), ['step-0000010', 'step-0000020', 'step-0000025', 'step-0000030']);
    await pruneCheckpoints(directory, 1, 0);
    assert.deepEqual(readdirSync(directory), ['step-0000030']);
  });

  test('any damage to trainer.json is a FormatError or harmless, never a crash', async () => {
    const folder = await save(3);
    const path = join(folder, 'trainer.json');
    const good = readFileSync(path);
    const damage = fc.record({ at: fc.nat(good.length - 1), byte: fc.nat(255), cut: fc.boolean() });
    await fc.assert(
      fc.asyncProperty(damage, async ({ at, byte, cut }) => {
        const bytes = Buffer.from(good);
        bytes[at] = byte;
        writeFileSync(path, cut ? bytes.subarray(0, at) : bytes);
        try {
          assert.deepEqual(verifyCheckpoint(folder), state(3));
        } catch (error) {
          assert.ok(error instanceof FormatError, String(error));
        }
      }),
      { seed: 1, numRuns: 300 },
    );
    assert.ok(existsSync(path));
  });
});
