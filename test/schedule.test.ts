/** Schedules against values of PyTorch's schedulers as nanoT5 and FAT5 set them up. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { learningRate, type ScheduleOptions } from '../src/optim/schedule.ts';

const total_steps = 65536;

function agrees(schedule: ScheduleOptions, base: number, wanted: [step: number, rate: number][]): void {
  for (const [step, rate] of wanted) {
    const got = learningRate(schedule, base, step);
    assert.ok(Math.abs(got - rate) <= 5e-5 * rate + 1e-15, `step ${step}: ${got}, expected ${rate}`);
  }
}

test('cosine is nanoT5’s: half the rate at first, half a cosine after the warm-up', () => {
  agrees({ name: 'cosine', total_steps }, 2e-2, [
    [0, 0.01],
    [5000, 0.015],
    [10000, 0.02],
    [20000, 0.018443],
    [37768, 0.010005],
    [60000, 4.9612e-4],
    [65536, 1e-5],
    [70000, 1e-5],
  ]);
});

test('legacy is T5’s inverse square root with a line to zero, whatever the base', () => {
  for (const base of [1e-2, 7])
    agrees({ name: 'legacy', total_steps }, base, [
      [0, 0.01],
      [10000, 0.01],
      [10001, 0.0099995],
      [20000, 0.00707107],
      [40000, 0.005],
      [58983, 0.00411753],
      [65000, 3.3679e-4],
      [65536, 0],
      [70000, 0],
    ]);
});

test('wsd is FAT5’s: from half, constant, to half in as many steps as the warm-up', () => {
  agrees({ name: 'wsd', total_steps: 60000 }, 5e-3, [
    [0, 2.5e-3],
    [5000, 3.75e-3],
    [10000, 5e-3],
    [50000, 5e-3],
    [55000, 3.75e-3],
    [60000, 2.5e-3],
    [60001, 2.5e-3],
  ]);
  agrees({ name: 'wsd', total_steps: 100, warmup_steps: 0, decay_steps: 20, final_factor: 0 }, 1, [
    [0, 1],
    [80, 1],
    [85, 0.75],
    [100, 0],
  ]);
});

test('linear and constant, with and without warm-up', () => {
  agrees({ name: 'linear', total_steps: 100, warmup_steps: 10 }, 1, [
    [0, 0],
    [5, 0.5],
    [10, 1],
    [55, 0.5],
    [100, 0],
  ]);
  agrees({ name: 'constant', total_steps: 100 }, 3, [[0, 3]]);
  agrees({ name: 'constant', total_steps: 100, warmup_steps: 4, warmup_start: 0 }, 3, [
    [1, 0.75],
    [100, 3],
  ]);
});

test('an unknown schedule is named with those that exist', () => {
  assert.throws(
    () => learningRate({ name: 'step' as 'wsd', total_steps: 1 }, 1, 0),
    /schedule: "step" is unknown, expected one of constant, cosine, legacy, linear, wsd/,
  );
});
