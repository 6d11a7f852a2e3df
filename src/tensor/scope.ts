/**
 * Who frees what. Every allocation belongs to the innermost scope, or to the tape while one records (autograd.ts
 * frees it once its step has been walked back). Outside both it lives until `dispose`.
 */
import type { Backend, Memory } from '../backend/backend.ts';
import type { Tensor } from './tensor.ts';

/** Where allocations are noted: the top is the innermost scope or the running tape's list. */
const owners: Map<Memory, Backend>[] = [];

/** Notes an allocation with its owner; returns it. */
export function track(backend: Backend, memory: Memory): Memory {
  owners.at(-1)?.set(memory, backend);
  return memory;
}

/** Runs f with its own list of allocations, which is returned beside the result and not freed. */
export function collect<R>(f: (allocated: Map<Memory, Backend>) => R): { result: R; allocated: Map<Memory, Backend> } {
  const allocated = new Map<Memory, Backend>();
  owners.push(allocated);
  try {
    return { result: f(allocated), allocated };
  } catch (error) {
    release(allocated);
    throw error;
  } finally {
    owners.pop();
  }
}

/** Frees a list of allocations, except those `keep` holds, which pass to the enclosing owner. */
export function release(allocated: Map<Memory, Backend>, keep?: ReadonlySet<Memory>): void {
  for (const [memory, backend] of allocated) {
    if (keep?.has(memory)) track(backend, memory);
    else backend.free(memory);
  }
  allocated.clear();
}

/** What a scope may hand out. */
export type Kept = Tensor | undefined | null | readonly Kept[] | { readonly [name: string]: Kept };

/** The allocations that tensors, or arrays and records of tensors, stand on. */
export function memoriesOf(kept: Kept, into = new Set<Memory>()): Set<Memory> {
  if (!kept) return into;
  if ('memory' in kept && 'backend' in kept) into.add((kept as Tensor).memory.base);
  else for (const value of Object.values(kept)) memoriesOf(value as Kept, into);
  return into;
}

let recording = 0;

/** Tells scopes that a tape owns allocations (+1) or no longer does (-1). For autograd.ts only. */
export const setRecording = (delta: 1 | -1): void => void (recording += delta);

/** Runs f, then frees every tensor made inside it except those in its result. Under a tape nothing is freed early. */
export function scope<R extends Kept>(f: () => R): R {
  if (recording > 0) return f();
  const { result, allocated } = collect(f);
  release(allocated, memoriesOf(result));
  return result;
}

/** Outside a tape, frees tensors that nothing reads again before their scope ends. */
export function discard(...tensors: readonly (Tensor | undefined)[]): void {
  if (recording === 0) dispose(...tensors.filter((t) => t !== undefined));
}

/** Frees what stands behind tensors that no scope owns. */
export function dispose(...tensors: Tensor[]): void {
  const done = new Set<Memory>();
  for (const { backend, memory } of tensors) {
    if (done.has(memory.base)) continue;
    done.add(memory.base);
    for (const owner of owners) owner.delete(memory.base);
    backend.free(memory.base);
  }
}
