/** What a few measurements say about the mean of all that there could be. */

/** A mean with its uncertainty. */
export interface Estimate {
  mean: number;
  /** Of the sample, with n - 1. */
  standard_deviation: number;
  /** The ends of the 95 % interval by Student's t, if the values are normally distributed. */
  low: number;
  high: number;
  values: number[];
}

/** @param values at least two */
export function estimate(values: readonly number[]): Estimate {
  const n = values.length;
  const mean = values.reduce((a, b) => a + b, 0) / n;
  const deviation = Math.sqrt(values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / (n - 1));
  const half = (studentQuantile(0.95, n - 1) * deviation) / Math.sqrt(n);
  return { mean, standard_deviation: deviation, low: mean - half, high: mean + half, values: [...values] };
}

/** The t that a variable with Student's distribution stays within, on both sides of 0, with a probability. */
export function studentQuantile(probability: number, degrees: number): number {
  let [low, high] = [0, Math.PI / 2];
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2;
    if (within(middle, degrees) < probability) low = middle;
    else high = middle;
  }
  return Math.sqrt(degrees) * Math.tan(low);
}

/**
 * P(|t| <= sqrt(degrees) tan(angle)) by the finite sums for whole degrees of freedom: Abramowitz & Stegun 1964, 26.7.3
 * and 26.7.4.
 */
function within(angle: number, degrees: number): number {
  const odd = degrees % 2;
  const cosine = Math.cos(angle);
  let term = odd ? cosine : 1;
  let sum = degrees === 1 ? 0 : term;
  for (let k = odd ? 3 : 2; k < degrees; k += 2) {
    term *= ((k - 1) / k) * cosine * cosine;
    sum += term;
  }
  const value = Math.sin(angle) * sum;
  return odd ? (2 / Math.PI) * (angle + value) : value;
}
