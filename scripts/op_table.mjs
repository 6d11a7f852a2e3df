/** Prints docs/ops.md: every kernel with its shapes, from the contracts. */
import { gradients, kernels } from '../dist/src/ops/registry.js';

const list = (patterns) =>
  Object.entries(patterns)
    .map(([name, pattern]) => `${name} \`${pattern}\``)
    .join(', ');

/** "cpu, cuda from 8.9 (f32, bf16)": devices, compute capabilities and, where not all, compute types. */
function runsOn({ only, cuda, arch, newest, types }) {
  const capability = (n) => (n / 10).toFixed(1);
  const range = arch === undefined ? '' : arch === newest ? ` ${capability(arch)}` : ` from ${capability(arch)}`;
  const devices = [...(only ? [] : ['cpu']), ...(cuda ? [`cuda${range}`] : [])];
  return `${devices.join(', ')}${types ? ` (${types.join(', ')})` : ''}`;
}

console.log(`# Kernels

Generated from the contracts in src/ops by \`npm run ops-table\`. \`[N,D]\` holds the compute type, \`f32[…]\` and \`i32[…]\` are
fixed, \`?\` may be absent. Inputs are read, updates are changed in place, outputs are written whole. The C arguments follow
the columns, then the letters in order of first appearance, then the scalars. No letter of an argument that is given may be 0.

| kernel | inputs | updates | outputs | scalars | needs | gradients | runs on |
|---|---|---|---|---|---|---|---|`);
for (const k of kernels) {
  const backward = gradients.filter(({ forward }) => forward === k).map(({ backward }) => backward.name);
  const scalars = Object.entries(k.scalars).map(([name, type]) => `${name} ${type}`);
  const needs = Object.keys(k.requires).join('; ');
  const cells = [
    list(k.inputs),
    list(k.updates),
    list(k.outputs),
    scalars.join(', '),
    needs,
    backward.join(', '),
    runsOn(k),
  ];
  console.log(`| ${[`\`${k.name}\``, ...cells].join(' | ')} |`);
}
