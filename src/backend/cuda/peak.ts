/** What devices can multiply at most, from their makers' data sheets: dense, sums in float32, in TFLOP/s. */
import type { FloatType } from '../dtype.ts';

/** By a part of the device's name, the first that fits: 16-bit factors, then float32 without TF32. */
const sheets: readonly (readonly [name: RegExp, half: number, single: number])[] = [
  [/B200|GB200/, 2250, 75],
  [/B300|GB300/, 2250, 75],
  [/H100 PCIe/, 756, 51],
  [/H100 NVL/, 835, 60],
  [/H100|H200|GH200/, 989, 67],
  [/A100|A800/, 312, 19.5],
  [/L40S/, 362, 91.6],
  [/L40/, 181, 90.5],
  [/L4/, 121, 30.3],
  [/A40/, 150, 37.4],
  [/A10/, 125, 31.2],
  [/RTX 5090/, 209, 105],
  [/RTX 4090/, 165, 82.6],
  [/RTX 3090/, 71, 35.6],
];

/** FLOP/s of matrix products, undefined for a device that is not listed. */
export function peakFlops(device: string, type: FloatType): number | undefined {
  const sheet = sheets.find(([name]) => name.test(device));
  return sheet && 1e12 * sheet[type === 'f32' ? 2 : 1];
}
