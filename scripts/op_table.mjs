/** Prints docs/ops.md: every kernel with its shapes, from the contracts. */
import { gradients, kernels } from '../dist/src/ops/registry.js';

const list = (patterns) =>
  Object.entries(patterns)
    .map(([name, pattern]) => `${name} \`${pattern}\``)
    .join(', ');

console.log(`# Kernels

Generated from the contracts in src/ops by \`npm run ops-table\`. \`[N,D]\` holds the compute type, \`f32[…]\` and \`i32[…]\` are
fixed, \`?\` may be absent. Inputs are read, updates are changed in place, outputs are written whole. The C arguments follow
the columns, then the letters in order of first appearance, then the scalars.

| kernel | inputs | updates | outputs | scalars | gradient |
|---|---|---|---|---|---|`);
for (const k of kernels) {
  const pair = gradients.find(({ forward }) => forward === k);
  const scalars = Object.entries(k.scalars).map(([name, type]) => `${name} ${type}`);
  const cells = [list(k.inputs), list(k.updates), list(k.outputs), scalars.join(', '), pair ? pair.backward.name : ''];
  console.log(`| ${[`\`${k.name}\``, ...cells].join(' | ')} |`);
}
