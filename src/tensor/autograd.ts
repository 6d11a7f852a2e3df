/**
 * Reverse-mode differentiation on a tape. An op runs kernels and records how its outputs' gradients become its
 * inputs'. Walking back, the tape frees what a step allocated as soon as that step is done: an output can only have
 * been used by later steps, and those came first.
 *
 * Gradients add up in a tensor's `grad`. Parameters own their float32 `grad` (parameters.ts); activations get one when the
 * first gradient arrives. GEMM-like kernels add in place through `gradientSlot`; others return fresh tensors.
 */
import type { Backend, Memory } from '../backend/backend.ts';
import type { FloatType } from '../backend/dtype.ts';
import {
  type AnyKernel,
  bindSizes,
  type Kernel,
  type Patterns,
  planOf,
  type Scalars,
  shapeUnder,
} from '../backend/kernel.ts';
import { ShapeError } from '../util/errors.ts';
import { accumulate } from './accumulate.ts';
import { collect, type Kept, memoriesOf, release, scope, setRecording } from './scope.ts';
import { Tensor } from './tensor.ts';

type Given<P extends Patterns> = { [K in keyof P as P[K] extends `${string}?` ? never : K]: Tensor } & {
  [K in keyof P as P[K] extends `${string}?` ? K : never]?: Tensor | undefined;
};

/** What a launch needs besides its tensors. */
export interface RunOptions<S> {
  scalars: S;
  /** Letters that no input determines. */
  sizes?: Record<string, number>;
  /** Optional outputs that are not wanted. */
  without?: readonly string[];
  /** The compute type, where no argument of type T gives it. */
  type?: FloatType;
}

/**
 * Checks shapes and types against the contract, allocates the outputs, launches.
 * @throws ShapeError if an argument contradicts the contract
 */
export function run<I extends Patterns, U extends Patterns, O extends Patterns, S extends Scalars>(
  kernel: Kernel<I, U, O, S>,
  given: Given<I> & Given<U>,
  ...[options]: keyof S extends never
    ? [Partial<RunOptions<{ [K in keyof S]: number }>>?]
    : [RunOptions<{ [K in keyof S]: number }>]
): { [K in keyof O]: Tensor } {
  const k = kernel as unknown as AnyKernel;
  const tensors = given as unknown as Record<string, Tensor | undefined>;
  const shapes: Record<string, readonly number[] | undefined> = {};
  let backend: Backend | undefined;
  let type = options?.type;
  const plan = planOf(k);
  for (const [name, { type: expected }] of plan.given) {
    const tensor = tensors[name];
    if (!tensor) continue;
    shapes[name] = tensor.shape;
    backend ??= tensor.backend;
    if (expected === 'T' && tensor.dtype !== 'i32' && tensor.dtype !== 'i8' && tensor.dtype !== 'f8')
      type ??= tensor.dtype;
    if (tensor.dtype !== (expected === 'T' ? type : expected))
      throw new ShapeError(
        `${k.name}: ${name} is ${tensor.dtype}, expected ${expected === 'T' ? `${type ?? 'a float type'} (T)` : expected}`,
      );
    if (tensor.memory.base.isFreed) throw tensor.disposedOf(`${k.name}: ${name}`);
    if (tensor.backend !== backend)
      throw new ShapeError(`${k.name}: ${name} lives on ${tensor.backend.name}, expected ${backend.name}`);
  }
  const sizes = bindSizes(k, shapes, options?.sizes);
  type ??= 'f32';
  const outputs: Record<string, Tensor> = {};
  const args = plan.given.map(([name]) => tensors[name]?.memory ?? null);
  for (const [name, pattern] of plan.outputs) {
    if (!options?.without?.includes(name)) {
      const dtype = pattern.type === 'T' ? type : pattern.type;
      outputs[name] = Tensor.empty(backend!, dtype, shapeUnder(pattern, sizes));
    }
    args.push(outputs[name]?.memory ?? null);
  }
  const scalars = plan.scalars.map((n) => (options!.scalars as Record<string, number>)[n]!);
  backend!.launch(
    k,
    type,
    args,
    plan.dims.map((d) => sizes[d]!),
    scalars,
  );
  return outputs as { [K in keyof O]: Tensor };
}

/** Gradients of a step's inputs; undefined where there is none or where it was added through a slot. */
export type Gradients = readonly (Tensor | undefined)[] | undefined;

interface Step {
  outputs: readonly Tensor[];
  inputs: readonly (Tensor | undefined)[];
  backward: (dys: (Tensor | undefined)[]) => Gradients;
  /** What was allocated since the step before, this step's outputs included. */
  allocated: Map<Memory, Backend>;
}

interface Tape {
  steps: Step[];
  /** What was allocated since the last step. */
  pending: Map<Memory, Backend>;
}

let tape: Tape | undefined;

/** True while operations are being recorded. */
export const isRecording = (): boolean => tape !== undefined;

/**
 * Notes on the tape how the gradients of `outputs` become those of `inputs` (a list of the same length).
 * `backward` gets one gradient per output, undefined where none arrived (never all). Does nothing when no tape
 * records or no input needs a gradient.
 */
export function record(
  outputs: readonly Tensor[],
  inputs: readonly (Tensor | undefined)[],
  backward: Step['backward'],
): void {
  if (!tape || !inputs.some((t) => t?.needsGrad)) return;
  for (const output of outputs) output.needsGrad = true;
  tape.steps.push({ outputs, inputs, backward, allocated: takePending(tape) });
}

/**
 * Runs f under a tape, walks back from its `loss` and leaves d(loss)/d(tensor) in the `grad` of every parameter and
 * leaf that needs one; a parameter's is added to what is there if `gradWritten`. Everything allocated on the way is
 * freed, except the tensors of f's result and the gradients of leaves.
 * `seed` is the gradient of the loss itself, ones when left out.
 */
export function differentiate<R extends { readonly loss: Tensor } & Kept>(f: () => R, seed?: Tensor): R {
  let keep: ReadonlySet<Memory> = new Set();
  const { result, allocated } = collect((pending) => {
    const { result, steps } = recordSteps(f, pending);
    const { loss } = result;
    loss.grad = seed ?? Tensor.from(loss.backend, loss.dtype, loss.shape, new Float32Array(loss.length).fill(1));
    const kept = memoriesOf(result);
    if (seed) kept.add(seed.memory.base);
    keep = new Set([...kept, ...walkBack(steps, loss.grad, kept, pending)]);
    return result;
  });
  release(allocated, keep);
  return result;
}

/**
 * Runs f now without keeping what it computes inside, and again when the gradients of its results are wanted
 * (Chen et al. 2016, arXiv:1604.06174). `inputs` are all tensors with gradients that f uses, parameters aside.
 */
export function checkpoint(f: () => Tensor, inputs: readonly Tensor[]): Tensor {
  if (!tape) return f();
  const outer = tape;
  tape = undefined;
  setRecording(-1);
  let y: Tensor;
  try {
    y = scope(f);
  } finally {
    setRecording(1);
    tape = outer;
  }
  const leaves = inputs.filter((t) => t.needsGrad);
  // Parameters inside f want gradients even when no input does; the step is recorded through y itself.
  tape.steps.push({
    outputs: [y],
    inputs: leaves,
    allocated: takePending(tape),
    backward: ([dy]) => rerun(f, leaves, dy!),
  });
  y.needsGrad = true;
  return y;
}

/** Allocations whose values were given back. */
const forgotten = new WeakSet<Memory>();
/** How some of them are computed again. */
const recipes = new WeakMap<Memory, () => Tensor>();

/**
 * Under a tape, gives the memory of a tensor back before its step is walked back; its gradient passes as ever. From now on
 * backward functions may read its values only through `withValues`, where the step that made it gives them again (`remade`), or
 * through `recall`, where `again` computes them.
 */
export function forget(t: Tensor, again?: () => Tensor): void {
  if (!tape) return;
  const { base } = t.memory;
  const lists = [tape.pending, ...tape.steps.map((step) => step.allocated).reverse()];
  if (!lists.some((list) => list.delete(base))) return;
  t.backend.free(base);
  forgotten.add(base);
  if (again) recipes.set(base, again);
}

/** A tensor of these values: itself, or computed again where they were forgotten. */
export function recall(t: Tensor): Tensor {
  const again = recipes.get(t.memory.base);
  return again ? again().view(...t.shape) : t;
}

/** What waits in the walk that is on for values that were forgotten. */
let waiting = new Map<Memory, { needed: readonly Tensor[]; f: (values: Tensor) => void }[]>();

/**
 * For backward functions: f of a tensor's values, at once, or where they were forgotten as soon as the step that made them has
 * made them again. The gradients in `needed` are kept until then.
 */
export function withValues(t: Tensor, needed: readonly Tensor[], f: (values: Tensor) => void): void {
  const { base } = t.memory;
  if (!forgotten.has(base)) {
    f(t);
    return;
  }
  for (const grad of needed) hold(grad, 1);
  const list = waiting.get(base);
  if (list) list.push({ needed, f });
  else waiting.set(base, [{ needed, f }]);
}

/** Whether something waits for an output's values, which its step's backward function is to give to `remade`. */
export const isAwaited = (t: Tensor): boolean => waiting.has(t.memory.base);

/** Hands values of t that were made again to what waits for them. */
export function remade(t: Tensor, values: Tensor): void {
  const { base } = t.memory;
  const list = waiting.get(base) ?? [];
  waiting.delete(base);
  for (const { needed, f } of list) {
    f(values.view(...t.shape));
    for (const grad of needed) hold(grad, -1);
  }
}

/** The gradients of f's leaves for the gradient `dy` of its result, from running it again under a tape of its own. */
function rerun(f: () => Tensor, leaves: readonly Tensor[], dy: Tensor): Gradients {
  const saved = leaves.map((t) => t.grad);
  for (const leaf of leaves) leaf.grad = undefined;
  differentiate(() => ({ loss: f() }), dy);
  return leaves.map((leaf, i) => {
    const g = leaf.grad;
    leaf.grad = saved[i];
    return g;
  });
}

function recordSteps<R>(f: () => R, pending: Map<Memory, Backend>): { result: R; steps: Step[] } {
  const outer = tape;
  const own: Tape = { steps: [], pending };
  tape = own;
  setRecording(1);
  try {
    return { result: f(), steps: own.steps };
  } catch (error) {
    abandon(own.steps);
    throw error;
  } finally {
    setRecording(-1);
    tape = outer;
  }
}

/** Frees what steps hold that will not be walked back. */
function abandon(steps: readonly Step[]): void {
  for (const { outputs, inputs, allocated } of steps) {
    release(allocated);
    for (const t of [...outputs, ...inputs]) if (t && !isParameter(t)) t.grad = undefined;
  }
}

function takePending({ pending }: Tape): Map<Memory, Backend> {
  const taken = new Map(pending);
  pending.clear();
  return taken;
}

/** How many tensors hold each gradient of an activation in the walk that is on. */
let holders = new Map<Memory, number>();

const hold = (grad: Tensor, by: 1 | -1): void =>
  void holders.set(grad.memory.base, (holders.get(grad.memory.base) ?? 0) + by);

/**
 * Runs the steps from last to first. Inputs that a step hands the same gradient share it until one of them wants to add
 * to it in place. Returns the memories of the gradients that are left, those of leaves. Where one fails, nothing is left.
 */
function walkBack(steps: Step[], seed: Tensor, keep: ReadonlySet<Memory>, kept: Map<Memory, Backend>): Set<Memory> {
  const outer = { holders, waiting };
  holders = new Map([[seed.memory.base, 1]]);
  waiting = new Map();
  try {
    const left = walk(steps, keep, kept);
    if (waiting.size > 0) throw new Error(`autograd: ${waiting.size} forgotten tensors were wanted and not made again`);
    return left;
  } finally {
    ({ holders, waiting } = outer);
  }
}

function walk(steps: Step[], keep: ReadonlySet<Memory>, kept: Map<Memory, Backend>): Set<Memory> {
  let floating = new Map<Memory, Backend>(); // gradients that wait for the step that made their tensor
  for (let step = steps.pop(); step; step = steps.pop()) {
    const { outputs } = step;
    const dys = outputs.map((t) => t.grad);
    if (dys.some((dy) => dy)) {
      let allocated: Map<Memory, Backend>;
      try {
        allocated = takeBack(step, dys);
      } catch (error) {
        release(floating);
        abandon([step, ...steps]);
        throw error;
      }
      for (const output of outputs)
        if (output.grad && !isParameter(output)) {
          hold(output.grad, -1);
          output.grad = undefined;
        }
      const next = new Map<Memory, Backend>();
      for (const [memory, backend] of [...floating, ...allocated]) {
        if ((holders.get(memory) ?? 0) > 0) next.set(memory, backend);
        else if (!keep.has(memory)) backend.free(memory);
      }
      floating = next;
    }
    for (const [memory, backend] of step.allocated) {
      if (keep.has(memory)) kept.set(memory, backend);
      else backend.free(memory);
    }
  }
  for (const [memory, backend] of floating) kept.set(memory, backend);
  return new Set(floating.keys());
}

/** Runs a step's backward function and hands its inputs their gradients; returns what was allocated. */
function takeBack({ inputs, backward }: Step, dys: (Tensor | undefined)[]): Map<Memory, Backend> {
  return collect(() => {
    backward(dys)?.forEach((g, i) => {
      const input = inputs[i];
      if (g && input?.needsGrad) deposit(input, g);
    });
  }).allocated;
}

/** Adds a gradient that a step returned to a tensor's. */
function deposit(t: Tensor, g: Tensor): void {
  if (isParameter(t) || t.grad) addInto(t, g);
  else {
    t.grad = g.view(...t.shape);
    hold(t.grad, 1);
  }
}

function addInto(t: Tensor, g: Tensor): void {
  const { grad, beta } = gradientSlot(t);
  run(accumulate, { x: g.view(g.length), y: grad.view(grad.length) }, { scalars: { beta } });
}

/**
 * Where a kernel that computes `grad = beta * grad + …` adds its part of t's gradient: beta is 0 for the first part.
 */
export function gradientSlot(t: Tensor): { grad: Tensor; beta: 0 | 1 } {
  if (isParameter(t)) {
    const beta = t.gradWritten ? 1 : 0;
    t.gradWritten = true;
    return { grad: t.grad!, beta };
  }
  const old = t.grad;
  if (old && (holders.get(old.memory.base) ?? 1) <= 1) return { grad: old, beta: 1 };
  t.grad = Tensor.empty(t.backend, t.dtype, t.shape);
  hold(t.grad, 1);
  if (!old) return { grad: t.grad, beta: 0 };
  hold(old, -1);
  run(accumulate, { x: old.view(old.length), y: t.grad.view(old.length) }, { scalars: { beta: 0 } });
  return { grad: t.grad, beta: 1 };
}

const parameters = new WeakSet<Tensor>();
const isParameter = (t: Tensor) => parameters.has(t);

/** Makes t a parameter: `grad`, float32 of the same shape, collects its gradient across tapes. */
export function markParameter(t: Tensor, grad: Tensor): void {
  t.needsGrad = true;
  t.grad = grad;
  t.gradWritten = false;
  parameters.add(t);
}
