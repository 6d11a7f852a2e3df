/**
 * Learning rate schedules: pure functions of the number of completed updates.
 *
 *   cosine   warm-up, then half a cosine down to final_learning_rate at total_steps (nanoT5, FAT5)
 *   linear   warm-up, then a line to final_factor * base at total_steps
 *   wsd      warm-up, constant, then over the last decay_steps a line to final_factor * base (FAT5's trapezoid)
 *   constant warm-up, then base
 *   legacy   nanoT5's inverse square root, T5's own: min(1e-2, 1/sqrt(step)), the last tenth a line to 0. Its rates are
 *            absolute: `base` and warm-up play no part.
 *
 * Warm-up is a line from warmup_start * base to base over warmup_steps.
 *
 * Source: nanoT5 (Nawrot 2023, arXiv:2309.02373); Raffel et al. 2020, arXiv:1910.10683, section 3.1.2; Hu et al. 2024,
 * arXiv:2404.06395 for warm-up, stable, decay.
 */
import { UsageError } from '../util/errors.ts';

export const scheduleNames = ['constant', 'cosine', 'legacy', 'linear', 'wsd'] as const;
export type ScheduleName = (typeof scheduleNames)[number];

export interface ScheduleOptions {
  name: ScheduleName;
  /** Updates of the whole run. */
  total_steps: number;
  warmup_steps?: number;
  /** Fraction of the base rate at which warm-up starts. */
  warmup_start?: number;
  /** Updates of wsd's last part; warmup_steps when left out. */
  decay_steps?: number;
  /** Fraction of the base rate that linear and wsd reach at total_steps. */
  final_factor?: number;
  /** Rate that cosine reaches at total_steps. */
  final_learning_rate?: number;
}

/** What is meant when an option is left out. */
export const scheduleDefaults: Record<ScheduleName, Omit<ScheduleOptions, 'name' | 'total_steps'>> = {
  constant: { warmup_steps: 0, warmup_start: 0.5 },
  cosine: { warmup_steps: 10_000, warmup_start: 0.5, final_learning_rate: 1e-5 },
  legacy: {},
  linear: { warmup_steps: 0, warmup_start: 0, final_factor: 0 },
  wsd: { warmup_steps: 10_000, warmup_start: 0.5, final_factor: 0.5 },
};

/** legacy: the highest rate, and the part of the run before the line to zero. */
const LEGACY_PEAK = 1e-2;
const LEGACY_STABLE = 0.9;

/** The learning rate of the update that follows `step` completed ones. @throws UsageError for an unknown name */
export function learningRate(schedule: ScheduleOptions, base: number, step: number): number {
  const defaults = scheduleDefaults[schedule.name];
  if (!defaults)
    throw new UsageError(`schedule: "${schedule.name}" is unknown, expected one of ${scheduleNames.join(', ')}`);
  const { name, total_steps: total, ...rest } = { ...defaults, ...schedule };
  const { warmup_steps: warmup = 0, warmup_start: start = 1, final_factor: factor = 0 } = rest;
  if (name === 'legacy') return legacy(total, step);
  if (step < warmup) return base * (start + ((1 - start) * step) / warmup);
  const progress = (from: number) => (total > from ? Math.min(1, Math.max(0, (step - from) / (total - from))) : 1);
  switch (name) {
    case 'constant':
      return base;
    case 'cosine': {
      const { final_learning_rate: final = 0 } = rest;
      return final + ((base - final) * (1 + Math.cos(Math.PI * progress(warmup)))) / 2;
    }
    case 'linear':
      return base * (1 - (1 - factor) * progress(warmup));
    case 'wsd': {
      const decay = rest.decay_steps ?? warmup;
      return decay === 0 ? base : base * (1 - (1 - factor) * progress(total - decay));
    }
  }
}

function legacy(total: number, step: number): number {
  const stable = Math.ceil(LEGACY_STABLE * total);
  const inverse = (t: number) => (t > 0 ? Math.min(LEGACY_PEAK, 1 / Math.sqrt(t)) : LEGACY_PEAK);
  if (step < stable) return inverse(step);
  return inverse(stable) * Math.max(0, 1 - (step - stable) / Math.max(1, total - stable));
}
