/** What a measurement is, and how times are taken. */

export interface Measurement {
  /** What was run; a peer's measurement of the same has the same name. */
  case: string;
  milliseconds: number;
  /** How much a second, and of what. */
  rate: number;
  unit: string;
  /** Largest resident memory of the process so far; 0 where it says nothing. */
  peakMegabytes: number;
  /** Of that, what the program took before it had a model, and the model's weights as they are stored; absent where unknown. */
  before?: number;
  weightMegabytes?: number;
  /** What other programs needed for the same, where some were asked. */
  peers?: PeerMeasurement[];
}

/** Another program's measurement: the rate is of the same work. */
export interface PeerMeasurement {
  peer: string;
  milliseconds: number;
  rate: number;
  /** 0 where it says nothing. */
  peakMegabytes: number;
}

/** The fastest of many runs within some seconds, two at least: noise only ever adds time. */
export async function fastest(seconds: number, run: () => void | Promise<void>): Promise<number> {
  let best = Number.POSITIVE_INFINITY;
  await run();
  const end = performance.now() + 1000 * seconds;
  for (let n = 0; n < 2 || performance.now() < end; n++) {
    const started = performance.now();
    await run();
    best = Math.min(best, performance.now() - started);
  }
  return best;
}

/** Values without a pattern that a cache or a predictor could use; the same every time. */
export function noise(length: number, scale = 1): Float32Array {
  const values = new Float32Array(length);
  let state = 1;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    values[i] = (scale * state) / 2 ** 31;
  }
  return values;
}
