/**
 * New parameter values as a pure function of seed, name and position, so that a model starts the same on every
 * machine and a parameter does not depend on which others the model has.
 *
 * Philox key (seed, hash of the name), counter (element/4, 0, 0, 1); Box–Muller makes two normals of two words.
 */
import type { Parameters } from '../tensor/parameters.ts';
import { philoxInto } from '../util/philox.ts';
import type { Initial, ParameterSpec } from './parameter_table.ts';

/** Elements made at a time; a multiple of 4. */
const CHUNK = 1 << 22;
/** Keeps these words apart from dropout's, whose counters end in 0. */
const PURPOSE = 1;

/** Fills every parameter of the table from its distribution. */
export function initialize(parameters: Parameters, table: readonly ParameterSpec[], seed: number): void {
  for (const { name, initial } of table) {
    const tensor = parameters.get(name);
    const key = hash(('normal' in initial && initial.drawnAs) || name);
    for (let start = 0; start < tensor.length; start += CHUNK) {
      const values = initialValues(initial, seed, key, start, Math.min(CHUNK, tensor.length - start));
      tensor.part(start, values.length).write(values);
    }
  }
}

/** Elements [start, start + count) of a parameter; start is a multiple of 4. */
function initialValues(initial: Initial, seed: number, key: number, start: number, count: number): Float32Array {
  const values = new Float32Array(count);
  if ('value' in initial) return values.fill(initial.value);
  const words = new Uint32Array(4);
  const numbers = new Float64Array(4);
  for (let i = 0; i < count; i += 4) {
    const block = (start + i) / 4;
    philoxInto(words, block >>> 0, Math.floor(block / 2 ** 32), 0, PURPOSE, seed, key);
    if ('normal' in initial) normals(words, numbers, initial.normal);
    else for (let j = 0; j < 4; j++) numbers[j] = (words[j]! / 2 ** 31 - 1) * initial.uniform;
    for (let j = 0; j < 4 && i + j < count; j++) values[i + j] = numbers[j]!;
  }
  const raised = 'normal' in initial ? initial.raised : undefined;
  for (const at of raised?.at ?? []) if (at >= start && at < start + count) values[at - start]! += raised!.by;
  return values;
}

function normals(words: Uint32Array, into: Float64Array, std: number): void {
  for (let j = 0; j < 4; j += 2) {
    const radius = std * Math.sqrt(-2 * Math.log((words[j]! + 1) / 2 ** 32)); // (0, 1]: the logarithm is finite
    const angle = (2 * Math.PI * words[j + 1]!) / 2 ** 32;
    into[j] = radius * Math.cos(angle);
    into[j + 1] = radius * Math.sin(angle);
  }
}

/** FNV-1a, 32 bits. */
function hash(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  return h >>> 0;
}
