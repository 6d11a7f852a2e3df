/** Denoisers: what UL2 hides of a piece, and how long pieces may be. */
import { roundToEven } from '../util/round.ts';

/** One way of hiding spans. */
export interface Denoiser {
  /** Mean length of a noise span; with density 0 the whole over the kept prefix. */
  mean_span: number;
  /** Share of noise; 0 for the S-denoiser. */
  noise_density: number;
  /** Most spans of a piece. Default: no limit but the sentinels. */
  max_spans?: number;
  /** Ids put before the inputs: the mode token. */
  prefix?: number[];
  /** Share of the pieces, relative to the other denoisers. */
  proportion: number;
  /** For messages and statistics. Default: R, S or X by the reference mixture's rule, with mean and density. */
  name?: string;
}

/** Room of a row: encoder and decoder positions. */
export interface Room {
  inputs: number;
  labels: number;
}

/** UL2's seven denoisers in FAT5's proportions, with the ids of the three mode tokens. */
export function fat5Denoisers(mode: { R: number[]; S: number[]; X: number[] }): Denoiser[] {
  const make = (name: 'R' | 'S' | 'X', mean_span: number, noise_density: number, proportion: number): Denoiser => ({
    name: noise_density === 0 ? name : `${name}(${mean_span},${noise_density})`,
    prefix: mode[name],
    mean_span,
    noise_density,
    proportion,
  });
  return [
    make('R', 3, 0.15, 0.165),
    make('R', 8, 0.15, 0.165),
    make('S', 4, 0, 0.34),
    make('X', 3, 0.5, 0.0825),
    make('X', 8, 0.15, 0.0825),
    make('X', 64, 0.15, 0.0825),
    make('X', 64, 0.5, 0.0825),
  ];
}

/** Noise tokens and spans of n >= 2 raw tokens. */
export function noiseOf(denoiser: Denoiser, n: number): { noise: number; spans: number } {
  const { mean_span, noise_density, max_spans = Infinity } = denoiser;
  if (noise_density === 0) {
    const kept = Math.min(Math.max(roundToEven(n / mean_span), 1), n - 1);
    return { noise: n - kept, spans: 1 };
  }
  const noise = Math.min(Math.max(roundToEven(n * noise_density), 1), n - 1);
  const spans = Math.max(1, Math.min(roundToEven(noise / mean_span), max_spans, noise, n - noise));
  return { noise, spans };
}

/**
 * Raw tokens of a full piece: the most whose inputs (prefix and EOS included) fill at most `room.inputs`, and labels
 * `room.labels`. With density ½ one less when the labels would outgrow the inputs; the S-denoiser by FAT5's rule.
 */
export function fullLength(denoiser: Denoiser, room: Room): number {
  const { mean_span, noise_density, prefix = [] } = denoiser;
  const budget = room.inputs - prefix.length;
  const limit = noise_density === 0 ? room.labels - 2 + Math.floor(room.inputs / mean_span) - 2 : Infinity;
  let n = 0;
  for (let next = 2; next <= limit; next++) {
    const { noise, spans } = noiseOf(denoiser, next);
    if (next - noise + spans + 1 > budget || noise + spans + 1 > room.labels) break;
    n = next;
  }
  if (noise_density === 0.5 && 2 * roundToEven(n / 2) > n) n--;
  return n;
}
