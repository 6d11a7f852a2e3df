/**
 * The kernel contract: one value that states a kernel's name, shapes, types and reference implementation.
 * Derived from it: the C prototype, the FFI binding, the shape check and its error text, the parity and gradient
 * tests, the benchmark, the table in docs/ops.md.
 *
 * A shape pattern is written as in XLA: "[N,D]" holds the compute type T of the launch, "f32[N]" is always float32,
 * "i32[B,S]" int32, "i8[O,I]" int8, "f16[O,I]" half precision,
 * "f8[O,I]" float8 (e4m3). A letter means the same size everywhere in one contract; a number is that size. A trailing "?"
 * marks an argument that may be absent (a null pointer in C, undefined in the reference).
 */
import { ShapeError } from '../util/errors.ts';
import type { CudaPlan } from './cuda/plan.ts';
import type { FloatType } from './dtype.ts';

type Trim<S extends string> = S extends ` ${infer R}` ? Trim<R> : S extends `${infer R} ` ? Trim<R> : S;
type Letters<S extends string> = S extends `${infer A},${infer B}` ? Letters<A> | Letters<B> : Letter<Trim<S>>;
type Letter<S extends string> = S extends `${number}` ? never : S;
/** The dimension letters of a pattern: Dims<"f32[N,D]"> is "N" | "D". */
export type Dims<P extends string> = P extends `${string}[${infer Inner}]${string}` ? Letters<Inner> : never;

/** The shape and type of one argument: "f32[N,D]?". */
export type Pattern = `${'' | 'f32' | 'f16' | 'f8' | 'i32' | 'i8'}[${string}]${'' | '?'}`;
/** Arguments by name, in order. */
export type Patterns = Record<string, Pattern>;
/** What a scalar argument is in C: float or int32_t. */
export type ScalarType = 'f32' | 'i32';
/** Scalars by name, in order. */
export type Scalars = Record<string, ScalarType>;

type PatternsOf<I extends Patterns, U extends Patterns, O extends Patterns> = I[keyof I] | U[keyof U] | O[keyof O];
/** A number for every letter of some patterns. */
export type Sizes<I extends Patterns, U extends Patterns, O extends Patterns> = Record<
  Dims<PatternsOf<I, U, O>>,
  number
>;
/** The arrays a reference sees: float64 whatever the type, undefined where a "?" argument is absent. */
export type Arrays<P extends Patterns> = {
  [K in keyof P]: P[K] extends `${string}?` ? Float64Array | undefined : Float64Array;
};
type Numbers<S> = { [K in keyof S]: number };

/** One run of a kernel in the tests. */
export interface Case<I extends Patterns, U extends Patterns, O extends Patterns, S extends Scalars> {
  sizes: Sizes<I, U, O>;
  scalars?: Numbers<S>;
  /** Optional arguments that this case leaves out. */
  absent?: readonly (keyof I | keyof U | keyof O)[];
}

/** A kernel's contract: inputs I, updates U, outputs O, scalars S. */
export interface Kernel<
  I extends Patterns = Patterns,
  U extends Patterns = Patterns,
  O extends Patterns = Patterns,
  S extends Scalars = Scalars,
> {
  /** Symbol in the CPU library (with the compute type's suffix) and entry point in the .cu file. */
  name: string;
  inputs: I;
  /** Read and written in place: optimizer state, gradients that accumulate by a `beta` scalar. */
  updates: U;
  /** Written completely, never read. */
  outputs: O;
  scalars: S;
  /** Conditions beyond the shapes; the key is printed when one fails. */
  requires: Record<string, (sizes: Sizes<I, U, O>) => boolean>;
  /** What the parity tests run: smallest legal size, a ragged size, a real one, one per scalar that must matter. */
  cases: readonly Case<I, U, O, S>[];
  /** Test values where uniform [-1,1) will not do, for example ids: fill.ids(random in [0,1), sizes, index). */
  fill: { [K in keyof (I & U)]?: (random: () => number, sizes: Sizes<I, U, O>, index: number) => number };
  /** Extra error allowed in tests, as a factor on the dtype's tolerance; say why beside it. */
  toleranceFactor: number;
  /** The error allowed in tests, relative to max(1, |expected|), where that is more; say why beside it. */
  tolerance?: number;
  /** The definition: plain loops in float64. Slow on purpose; every backend is tested against it. */
  reference(arrays: Arrays<I> & Arrays<U> & Arrays<O>, sizes: Sizes<I, U, O>, scalars: Numbers<S>): void;
  /** How a CUDA device runs it. */
  cuda?: CudaPlan;
  /** Where it is for CUDA devices alone, which it saves launches. */
  only?: 'cuda';
  /** The least compute capability that its CUDA plan is for, 89 for 8.9; every one that we run on when left out. */
  arch?: number;
  /** The greatest that it is for, where newer devices lack its instructions. */
  newest?: number;
  /** Compute types that it is for, where not for all. */
  types?: readonly FloatType[];
}

type Optional = 'updates' | 'scalars' | 'requires' | 'fill' | 'toleranceFactor';

/** States a kernel; what is left out is empty. */
export function defineKernel<
  const I extends Patterns,
  const O extends Patterns,
  const U extends Patterns = Record<never, never>,
  const S extends Scalars = Record<never, never>,
>(kernel: Omit<Kernel<I, U, O, S>, Optional> & Partial<Pick<Kernel<I, U, O, S>, Optional>>): Kernel<I, U, O, S> {
  return { updates: {} as U, scalars: {} as S, requires: {}, fill: {}, toleranceFactor: 1, ...kernel };
}

/** A kernel whose letters are not known to the type system: what registries, backends and tests handle. */
export type AnyKernel = Kernel<Patterns, Patterns, Patterns, Scalars>;

/** A pattern, taken apart; `dims` are letters, or numbers as text. */
export interface Parsed {
  type: 'T' | 'f32' | 'f16' | 'f8' | 'i32' | 'i8';
  dims: readonly string[];
  optional: boolean;
}

const parsed = new Map<Pattern, Parsed>();

/** "f32[N,D]?" -> { type: "f32", dims: ["N", "D"], optional: true }; a missing type is the compute type "T". */
export function parsePattern(pattern: Pattern): Parsed {
  let p = parsed.get(pattern);
  if (!p) {
    const match = /^(f32|f16|f8|i32|i8)?\[([^\]]*)\](\?)?$/.exec(pattern);
    if (!match) throw new ShapeError(`pattern "${pattern}": expected [letters] with an optional type and "?"`);
    const dims = match[2]!.split(',').map((s) => s.trim());
    p = { type: (match[1] ?? 'T') as Parsed['type'], dims, optional: match[3] === '?' };
    parsed.set(pattern, p);
  }
  return p;
}

const isLetter = (dim: string) => dim.charCodeAt(0) > 57; // '9', behind which letters come

/** All patterns of a contract in argument order: inputs, updates, outputs. */
export const argumentsOf = (kernel: AnyKernel): Patterns => ({
  ...kernel.inputs,
  ...kernel.updates,
  ...kernel.outputs,
});

/** What `run` needs of a contract at every launch. */
export interface Plan {
  /** Inputs, then updates. */
  readonly given: readonly (readonly [name: string, pattern: Parsed])[];
  readonly outputs: readonly (readonly [name: string, pattern: Parsed])[];
  /** As `dimOrder`. */
  readonly dims: readonly string[];
  readonly requires: readonly (readonly [condition: string, holds: (sizes: Record<string, number>) => boolean])[];
  readonly scalars: readonly string[];
}

const plans = new WeakMap<AnyKernel, Plan>();

/** Worked out once per kernel. */
export function planOf(kernel: AnyKernel): Plan {
  let plan = plans.get(kernel);
  if (!plan) {
    const parse = (patterns: Patterns) => Object.entries(patterns).map(([name, p]) => [name, parsePattern(p)] as const);
    const dims = Object.values(argumentsOf(kernel)).flatMap((p) => parsePattern(p).dims.filter(isLetter));
    plan = {
      given: parse({ ...kernel.inputs, ...kernel.updates }),
      outputs: parse(kernel.outputs),
      dims: [...new Set(dims)],
      requires: Object.entries(kernel.requires),
      scalars: Object.keys(kernel.scalars),
    };
    plans.set(kernel, plan);
  }
  return plan;
}

/** Dimension letters of the whole contract, in order of first appearance: the order of the C arguments. */
export const dimOrder = (kernel: AnyKernel): readonly string[] => planOf(kernel).dims;

/** Shape of a pattern under given sizes. */
export const shapeOf = (pattern: Pattern, sizes: Record<string, number>): number[] =>
  shapeUnder(parsePattern(pattern), sizes);

/** The same of a pattern that has been parsed. */
export const shapeUnder = ({ dims }: Parsed, sizes: Record<string, number>): number[] =>
  dims.map((dim) => (isLetter(dim) ? sizes[dim]! : Number(dim)));

/**
 * Solves the dimension letters from the shapes of the arguments that are given; `given` holds letters that no shape
 * determines. Letters that belong only to absent arguments are 0.
 * @throws ShapeError if a rank, a size or a `requires` condition contradicts the contract, or a dimension is empty: no
 * kernel has to think of that.
 */
export function bindSizes(
  kernel: AnyKernel,
  shapes: Record<string, readonly number[] | undefined>,
  given: Record<string, number> = {},
): Record<string, number> {
  const sizes: Record<string, number> = { ...given };
  const plan = planOf(kernel);
  for (const [arg, { dims, optional }] of plan.given) {
    const shape = shapes[arg];
    if (!shape) {
      if (optional) continue;
      throw new ShapeError(`${kernel.name}: ${arg} is missing, expected ${argumentsOf(kernel)[arg]}`);
    }
    if (shape.length !== dims.length) throw misfit(kernel, arg, shape);
    for (let i = 0; i < dims.length; i++) {
      const dim = dims[i]!;
      if (!(shape[i]! > 0)) throw misfit(kernel, arg, shape, ' with no empty dimension');
      if (!isLetter(dim)) {
        if (Number(dim) !== shape[i]) throw misfit(kernel, arg, shape);
      } else if (sizes[dim] === undefined) {
        sizes[dim] = shape[i]!;
      } else if (sizes[dim] !== shape[i])
        throw misfit(
          kernel,
          arg,
          shape,
          ` with ${dim}=${sizes[dim]} (from ${dim in given ? 'the caller' : plan.given.find(([name, p]) => shapes[name] && p.dims.includes(dim))![0]})`,
        );
    }
  }
  for (const letter of plan.dims) sizes[letter] ??= 0;
  for (const [condition, holds] of plan.requires)
    if (!holds(sizes)) throw new ShapeError(`${kernel.name}: needs ${condition}, got ${JSON.stringify(sizes)}`);
  return sizes;
}

const cTypes: Partial<Record<Parsed['type'], string>> = {
  f32: 'float',
  f16: 'half',
  f8: 'uint8_t',
  i32: 'int32_t',
  i8: 'int8_t',
};

const misfit = (kernel: AnyKernel, arg: string, shape: readonly number[], why = '') =>
  new ShapeError(`${kernel.name}: ${arg} is [${shape}], expected ${argumentsOf(kernel)[arg]}${why}`);

/** The C parameters every implementation has: inputs, updates, outputs, dimensions, scalars. */
export function parameters(kernel: AnyKernel, computeType: string): string[] {
  const cType = (p: Pattern) => cTypes[parsePattern(p).type] ?? computeType;
  return [
    ...Object.entries(kernel.inputs).map(([n, p]) => `const ${cType(p)} *${n}`),
    ...Object.entries({ ...kernel.updates, ...kernel.outputs }).map(([n, p]) => `${cType(p)} *${n}`),
    ...dimOrder(kernel).map((d) => `int64_t ${d}`),
    ...Object.entries(kernel.scalars).map(([n, t]) => `${t === 'i32' ? 'int32_t' : 'float'} ${n}`),
  ];
}
