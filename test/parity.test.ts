/** Every kernel on every backend against its reference, every backward against finite differences. No kernel is named. */
import { describe, test } from 'node:test';
import { gradients, kernels } from '../src/ops/registry.ts';
import { cannotRun, checkGradient, compare, compileCases, testBackends } from './harness.ts';

for (const { backend, types } of testBackends()) {
  await compileCases(backend, kernels, types);
  describe(`${backend.name} agrees with the float64 reference`, () => {
    for (const kernel of kernels)
      for (const type of types)
        for (const c of kernel.cases)
          test(`${kernel.name} ${type} ${JSON.stringify(c)}`, { skip: cannotRun(backend, kernel, type) }, () =>
            compare(backend, kernel, type, c),
          );
  });
}

describe('gradients agree with finite differences of the reference', () => {
  const small = (c: { sizes: Record<string, number> }) => Object.values(c.sizes).reduce((a, b) => a * b, 1) <= 20000; // two forward passes per element
  for (const { forward, backward, wrt } of gradients)
    for (const c of forward.cases)
      for (const arg of wrt) {
        if (c.absent?.includes(arg)) continue;
        if (!small(c)) continue;
        test(`${backward.name}: d${arg} ${JSON.stringify(c)}`, () => checkGradient(forward, backward, c, arg));
      }
});
