/**
 * Writes what C++ has from the contracts into dist/native: prototypes.h, so that a kernel that disagrees with its contract does not
 * compile, and calls.cpp, which calls a kernel with arguments that lie in memory.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import type { FloatType } from '../backend/dtype.ts';
import { type AnyKernel, argumentsOf, dimOrder, parameters } from '../backend/kernel.ts';
import { nativeDirectory } from '../util/native.ts';
import { kernels } from './registry.ts';

const native = kernels.filter(({ only }) => !only);

/** A kernel's call with arguments of 64 bits each: addresses, sizes, scalars. */
function call(kernel: AnyKernel): string[] {
  const places = [...Object.keys(argumentsOf(kernel)), ...dimOrder(kernel), ...Object.keys(kernel.scalars)];
  const given = parameters(kernel, 'T').map((parameter, i) => {
    const type = parameter.slice(0, parameter.length - places[i]!.length);
    return type.endsWith('*') ? `(${type})a[${i}]` : type === 'float ' ? `number(a[${i}])` : `${type.trim()}(a[${i}])`;
  });
  const lines = [
    `static int call_${kernel.name}(const uint64_t *a) { return SYMBOL(${kernel.name})(${given.join(', ')}); }`,
  ];
  return kernel.types ? guarded(lines, kernel) : lines;
}

/** Lines for the types that a kernel is for. */
const guarded = (lines: readonly string[], { types }: AnyKernel): string[] =>
  ['f32', 'bf16'].flatMap((type) =>
    types!.includes(type as FloatType)
      ? [type === 'bf16' ? '#if defined(COMPUTE_BF16)' : '#if !defined(COMPUTE_BF16)', ...lines, '#endif']
      : [],
  );

write('prototypes.h', [
  '// Generated from the kernel contracts in src/ops.',
  '#pragma once',
  ...native.map((kernel) => `KERNEL(${kernel.name})(${parameters(kernel, 'T').join(', ')});`),
]);
write('calls.cpp', [
  '// Generated from the kernel contracts in src/ops.',
  '#include "kernel.h"',
  'static float number(uint64_t bits) {',
  '  const uint32_t low = uint32_t(bits);',
  '  float x;',
  '  memcpy(&x, &low, sizeof x);',
  '  return x;',
  '}',
  ...native.flatMap(call),
  'struct Call { const char *name; int (*function)(const uint64_t *); };',
  'static const Call calls[] = {',
  ...native.flatMap((kernel) => {
    const lines = [`    {"${kernel.name}", call_${kernel.name}},`];
    return kernel.types ? guarded(lines, kernel) : lines;
  }),
  '};',
  '/** What calls a kernel, for list.cpp; 0 if there is no such kernel. */',
  'extern "C" uint64_t SYMBOL(fat5_call)(const char *name) {',
  '  for (const Call &c : calls)',
  '    if (strcmp(c.name, name) == 0) return uint64_t(c.function);',
  '  return 0;',
  '}',
]);

/** Writes a file of lines if that changes it. */
function write(name: string, lines: readonly string[]): void {
  const path = `${nativeDirectory}${name}`;
  const text = [...lines, ''].join('\n');
  mkdirSync(nativeDirectory, { recursive: true });
  let old = '';
  try {
    old = readFileSync(path, 'utf8');
  } catch {
    // first build
  }
  if (old !== text) writeFileSync(path, text);
}
