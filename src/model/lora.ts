/**
 * LoRA: matrices stay as they are, and the product of two small ones is learnt beside each.
 *
 *   y = W x + s B A drop(x),   s = alpha / rank     W [O,I]   A [rank,I]   B [O,rank]
 *
 * A starts normal with standard deviation 1 / rank, B at zero: at first nothing changes. The two are parameters of their
 * own behind the model's, under PEFT's names. Source: Hu et al. 2021, arXiv:2106.09685, section 4.
 */
import { add } from '../ops/add/add.ts';
import { linear, linearBackwardInput, linears } from '../ops/linear/linear.ts';
import { forget, run } from '../tensor/autograd.ts';
import { copyTo } from '../tensor/copy.ts';
import { type Parameters, zeros } from '../tensor/parameters.ts';
import { dispose } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { UsageError } from '../util/errors.ts';
import type { ParameterSpec } from './parameter_table.ts';
import { drop, type Pass, siteOf } from './pass.ts';

/** What is adapted, and how. */
export interface LoraOptions {
  rank: number;
  /** The product counts alpha / rank. */
  alpha: number;
  /** Share of the input's elements that the product does not see while training. */
  dropout: number;
  /** Ends of the names of the adapted matrices: "q", "EncDecAttention.v", "wo". */
  targets: readonly string[];
}

/** One adapted matrix. */
interface Adapter {
  /** Name of the matrix without ".weight". */
  path: string;
  weight: Tensor; // [O,I]
  a: Tensor; // [rank,I]
  b: Tensor; // [O,rank]
}

/** The names of A and B. */
const adapterNames = (path: string) => ({ a: `${path}.lora_A.weight`, b: `${path}.lora_B.weight` });
/** Whether a parameter is A or B of an adapter. */
export const isAdapter = (name: string): boolean => /\.lora_[AB]\.weight$/.test(name);

/** A and B for every matrix of the table that is a target. @throws UsageError for a target that names none */
export function adapterTable(table: readonly ParameterSpec[], { rank, targets }: LoraOptions): ParameterSpec[] {
  const matrices = table.filter(({ name }) => /\.block\.\d+\..*\.(q|k|v|o|wi|wi_0|wi_1|wo)\.weight$/.test(name));
  const pathOf = (name: string) => name.replace(/\.weight$/, '');
  const isTarget = (target: string, name: string) => `.${pathOf(name)}`.endsWith(`.${target}`);
  for (const target of targets)
    if (!matrices.some(({ name }) => isTarget(target, name))) {
      const ends = new Set(matrices.map(({ name }) => pathOf(name).split('.').at(-1)));
      throw new UsageError(
        `lora: target "${target}" names no matrix of the model, expected ends of names: ${[...ends].join(', ')}, SelfAttention.q, …`,
      );
    }
  return matrices
    .filter(({ name }) => targets.some((target) => isTarget(target, name)))
    .flatMap(({ name, shape }) => {
      const [O, I] = shape as [number, number];
      const { a, b } = adapterNames(pathOf(name));
      return [
        { name: a, shape: [rank, I], initial: { normal: 1 / rank } },
        { name: b, shape: [O, rank], initial: { value: 0 } },
      ];
    });
}

/** A model's adapters: beside the matrices while training, added into them for a while to predict. */
export class Adapters {
  readonly options: LoraOptions;
  /** Folder or name of the model whose matrices these belong to. */
  readonly base: string;
  readonly list: readonly Adapter[];
  private readonly byWeight: ReadonlyMap<Tensor, { adapter: Adapter; site: number }>;
  /** Calls of `whileMerged` that have not ended. */
  private users = 0;
  /** What the matrices were while the products are added into them. */
  private originals: readonly Tensor[] | undefined;

  constructor(parameters: Parameters, options: LoraOptions, base: string) {
    this.options = options;
    this.base = base;
    this.list = parameters.places
      .filter(({ name }) => name.endsWith('.lora_A.weight'))
      .map(({ name }) => {
        const path = name.replace(/\.lora_A\.weight$/, '');
        const { a, b } = adapterNames(path);
        return { path, weight: parameters.get(`${path}.weight`), a: parameters.get(a), b: parameters.get(b) };
      });
    this.byWeight = new Map(this.list.map((adapter, i) => [adapter.weight, { adapter, site: siteOf('adapter', i) }]));
  }

  get scale(): number {
    return this.options.alpha / this.options.rank;
  }

  /** What the adapter of a matrix, if it has one, adds to y = W x. */
  addTo(y: Tensor, x: Tensor, weight: Tensor, pass: Pass): Tensor {
    const found = this.originals ? undefined : this.byWeight.get(weight);
    if (!found) return y;
    const { adapter, site } = found;
    const small = linear(drop(x, site, pass, this.options.dropout), adapter.a);
    const more = linear(small, adapter.b, { alpha: this.scale });
    const sum = add(y, more);
    for (const part of [y, more]) forget(part); // backward functions need neither
    return sum;
  }

  /**
   * Runs f with the products added into the matrices, which have their own bits again afterwards: of calls at the same time
   * once the last has ended.
   */
  async whileMerged<R>(f: () => Promise<R>): Promise<R> {
    this.users++;
    try {
      if (!this.originals) this.merge();
      return await f();
    } finally {
      if (--this.users === 0) this.restore();
    }
  }

  private merge(): void {
    this.originals = this.list.map(({ weight }) => {
      const copy = zeros(weight.backend, weight.dtype, weight.length);
      copyTo(weight, copy);
      return copy;
    });
    for (const { weight, a, b } of this.list)
      run(linearBackwardInput, { dy: b, weight: a, dx: weight }, { scalars: { alpha: this.scale, beta: 1 } });
  }

  private restore(): void {
    const { originals = [] } = this;
    this.originals = undefined;
    try {
      for (const [i, original] of originals.entries()) copyTo(original, this.list[i]!.weight);
    } finally {
      dispose(...originals);
    }
  }
}

/** x [...,I] times a weight [O,I] and what its adapter adds: [...,O]. */
export const project = (x: Tensor, weight: Tensor, pass: Pass): Tensor => projects(x, [weight], pass)[0]!;

/** The same with several weights. */
export function projects(x: Tensor, weights: readonly Tensor[], pass: Pass): Tensor[] {
  const outputs = linears(x, weights);
  const { adapters } = pass;
  return adapters ? outputs.map((y, i) => adapters.addTo(y, x, weights[i]!, pass)) : outputs;
}
