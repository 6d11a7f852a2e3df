/**
 * activation: the feed-forward layer's non-linearity, alone or as a gate.
 *
 *   activation        y = f(x)
 *   gated_activation  y = f(gate) * up
 *
 *   relu      max(x, 0)
 *   gelu      x P(X <= x), X standard normal
 *   gelu_new  x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2 = x sigmoid(2 sqrt(2/pi) (x + 0.044715 x^3))
 *   silu      x sigmoid(x)
 *   tanh      tanh(x)
 *
 * All arrays [N], any shape flattened. The backward passes recompute f from the inputs, so nothing else is saved.
 * Names are Hugging Face's. Source: Hendrycks & Gimpel 2016, arXiv:1606.08415; gates: Shazeer 2020, arXiv:2002.05202.
 */
import { defineKernel } from '../../backend/kernel.ts';
import { isAwaited, record, remade, run } from '../../tensor/autograd.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import {
  activationBackwardPlan,
  activationForwardPlan,
  gatedActivationBackwardPlan,
  gatedActivationForwardPlan,
} from './activation.cuda.ts';

/** Names of the activations; a kernel's `kind` scalar is the position in this list. */
export const activations = ['relu', 'gelu', 'gelu_new', 'silu', 'tanh'] as const;
/** A name of an activation. */
export type Activation = (typeof activations)[number];

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
const normalDensity = (x: number) => Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI);

/** P(X <= x): 1/2 + density(x) (x + x^3/3 + x^5/(3 5) + …), a series without cancellation. */
function normalCumulative(x: number): number {
  let sum = 0;
  let term = x;
  for (let k = 3; Math.abs(term) > 1e-18 * Math.abs(sum); k += 2) {
    sum += term;
    term *= (x * x) / k;
  }
  return 0.5 + normalDensity(x) * sum;
}

const C = 2 * Math.sqrt(2 / Math.PI);
const A = 0.044715;

/** f and f' in float64, by kind. */
const definitions: Record<Activation, { value(x: number): number; slope(x: number): number }> = {
  relu: { value: (x) => Math.max(x, 0), slope: (x) => (x > 0 ? 1 : 0) },
  gelu: { value: (x) => x * normalCumulative(x), slope: (x) => normalCumulative(x) + x * normalDensity(x) },
  gelu_new: {
    value: (x) => x * sigmoid(C * (x + A * x ** 3)),
    slope: (x) => {
      const s = sigmoid(C * (x + A * x ** 3));
      return s + x * s * (1 - s) * C * (1 + 3 * A * x * x);
    },
  },
  silu: {
    value: (x) => x * sigmoid(x),
    slope: (x) => sigmoid(x) * (1 + x * (1 - sigmoid(x))),
  },
  tanh: { value: Math.tanh, slope: (x) => 1 - Math.tanh(x) ** 2 },
};
/** By a kernel's `kind`. */
export const definition = (kind: number) => definitions[activations[kind]!];

const cases = [
  { sizes: { N: 1 }, scalars: { kind: 2 } },
  ...activations.map((_, kind) => ({ sizes: { N: 1003 }, scalars: { kind } })),
  { sizes: { N: 40001 }, scalars: { kind: 2 } },
];
/** Into the tails, where cancellation shows. */
const wide = (random: () => number) => 14 * random() - 7;

export const activationForward = defineKernel({
  name: 'activation_forward',
  inputs: { x: '[N]' },
  outputs: { y: '[N]' },
  scalars: { kind: 'i32' },
  cases,
  fill: { x: wide },
  reference({ x, y }, { N }, { kind }) {
    for (let i = 0; i < N; i++) y[i] = definition(kind).value(x[i]!);
  },
  cuda: activationForwardPlan,
});

export const activationBackward = defineKernel({
  name: 'activation_backward',
  inputs: { dy: '[N]', x: '[N]' },
  outputs: { dx: '[N]' },
  scalars: { kind: 'i32' },
  cases,
  fill: { x: wide },
  reference({ dy, x, dx }, { N }, { kind }) {
    for (let i = 0; i < N; i++) dx[i] = dy[i]! * definition(kind).slope(x[i]!);
  },
  cuda: activationBackwardPlan,
});

export const gatedActivationForward = defineKernel({
  name: 'gated_activation_forward',
  inputs: { gate: '[N]', up: '[N]' },
  outputs: { y: '[N]' },
  scalars: { kind: 'i32' },
  cases,
  fill: { gate: wide },
  reference({ gate, up, y }, { N }, { kind }) {
    for (let i = 0; i < N; i++) y[i] = definition(kind).value(gate[i]!) * up[i]!;
  },
  cuda: gatedActivationForwardPlan,
});

export const gatedActivationBackward = defineKernel({
  name: 'gated_activation_backward',
  inputs: { dy: '[N]', gate: '[N]', up: '[N]' },
  outputs: { dgate: '[N]', dup: '[N]' },
  scalars: { kind: 'i32' },
  cases,
  fill: { gate: wide },
  reference({ dy, gate, up, dgate, dup }, { N }, { kind }) {
    for (let i = 0; i < N; i++) {
      dgate[i] = dy[i]! * up[i]! * definition(kind).slope(gate[i]!);
      dup[i] = dy[i]! * definition(kind).value(gate[i]!);
    }
  },
  cuda: gatedActivationBackwardPlan,
});

const flat = (t: Tensor) => t.view(t.length);

/** f(x) elementwise, any shape. */
export function activation(x: Tensor, name: Activation): Tensor {
  const scalars = { kind: activations.indexOf(name) };
  const value = () => run(activationForward, { x: flat(x) }, { scalars }).y.view(...x.shape);
  const y = value();
  record([y], [x], ([dy]) => {
    if (isAwaited(y)) remade(y, value());
    return [run(activationBackward, { dy: flat(dy!), x: flat(x) }, { scalars }).dx];
  });
  return y;
}

/** f(gate) * up elementwise, two tensors of one shape. @throws ShapeError */
export function gatedActivation(gate: Tensor, up: Tensor, name: Activation): Tensor {
  const scalars = { kind: activations.indexOf(name) };
  const value = () =>
    run(gatedActivationForward, { gate: flat(gate), up: flat(up) }, { scalars }).y.view(...gate.shape);
  const y = value();
  record([y], [gate, up], ([dy]) => {
    if (isAwaited(y)) remade(y, value());
    const given = { dy: flat(dy!), gate: flat(gate), up: flat(up) };
    const { dgate, dup } = run(gatedActivationBackward, given, { scalars });
    return [dgate, dup];
  });
  return y;
}
