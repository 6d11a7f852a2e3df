/** Writes dist/native/prototypes.h from the contracts: a C++ kernel that disagrees with its contract does not compile. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { parameters } from '../backend/kernel.ts';
import { nativeDirectory } from '../util/native.ts';
import { kernels } from './registry.ts';

const header = [
  '// Generated from the kernel contracts in src/ops.',
  '#pragma once',
  ...kernels
    .filter(({ only }) => !only)
    .map((kernel) => `KERNEL(${kernel.name})(${parameters(kernel, 'T').join(', ')});`),
  '',
].join('\n');
const path = `${nativeDirectory}prototypes.h`;
mkdirSync(nativeDirectory, { recursive: true });
let old = '';
try {
  old = readFileSync(path, 'utf8');
} catch {
  // first build
}
if (old !== header) writeFileSync(path, header);
