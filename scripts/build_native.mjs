/**
 * Compiles the C++ sources with g++ (or $CXX) into dist/native/.
 *
 *   libfat5-cpu-ISA.so   src/ops, src/tensor and src/backend/cpu, once per instruction set; every op once per compute type;
 *                        and dist/native/calls.cpp, which src/ops/prototypes.ts writes
 *   libfat5-text.so      src/tokenizer and src/data
 *   cuda/                the .cu and .cuh files, which NVRTC compiles when they are first used
 *
 * Objects are cached by the hash of everything that shapes them: compiler, flags, headers, source. Libraries are
 * written by rename, so that a build beside a running process is safe.
 * FAT5_ISA=avx2,… limits the instruction sets: a developer's switch for faster builds; libraries of the others that are
 * no longer those of the sources are removed. FAT5_ARCH=arm64 with CXX=a cross compiler builds for another processor, into
 * dist/native-arm64/.
 */
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const arch = process.env.FAT5_ARCH ?? process.arch;
const out = join(root, arch === process.arch ? 'dist/native' : `dist/native-${arch}`);
const objects = join(out, 'obj');
const compiler = process.env.CXX ?? 'g++';

rmSync(join(out, 'cuda'), { recursive: true, force: true });
for (const folder of ['src/backend/cuda', 'src/ops', 'src/tensor'])
  for (const file of readdirSync(join(root, folder), { recursive: true })) {
    if (!/\.cuh?$/.test(file)) continue;
    const copy = join(out, 'cuda', file);
    mkdirSync(dirname(copy), { recursive: true });
    copyFileSync(join(root, folder, file), copy);
  }

const version = spawnSync(compiler, ['--version'], { encoding: 'utf8' });
if (version.error) {
  console.error(
    `build: ${compiler} not found; install a C++17 compiler (Debian, Ubuntu: apt-get install g++) or set CXX`,
  );
  process.exit(2);
}

// amx is avx512 and a matrix unit: only the sources that name __AMX_TILE__, themselves or in a header, are compiled anew.
const avx512 = ['-march=x86-64-v4', '-mprefer-vector-width=512', '-DVECTOR_BYTES=64'];
const matrixUnit = ['-mamx-tile', '-mamx-bf16', '-mamx-int8', '-mavx512bf16'];
const instructionSets = {
  x64: {
    amx: avx512,
    avx512,
    avx2: ['-march=x86-64-v3', '-DVECTOR_BYTES=32'],
    baseline: ['-march=x86-64-v2', '-DVECTOR_BYTES=16'],
  },
  arm64: { baseline: ['-march=armv8-a', '-DVECTOR_BYTES=16'] },
}[arch];
if (!instructionSets) {
  console.error(`build: ${arch} is not supported, expected x64 or arm64`);
  process.exit(2);
}
/** Whether the compiler takes these flags: an old one lacks the newest. */
const understands = (flags) => spawnSync(compiler, [...flags, '-x', 'c++', '-fsyntax-only', '/dev/null']).status === 0;
const wanted = process.env.FAT5_ISA?.split(',');
const common = ['-std=c++17', '-O3', '-fPIC', '-pthread', '-Wall', '-Wextra', '-ffp-contract=fast', '-fno-math-errno'];
const computeTypes = ['f32', 'bf16'];

/** Files below `folder` (one or two levels) with one of the suffixes, sorted. */
function sources(folder, suffix) {
  const path = join(root, folder);
  if (!existsSync(path)) return [];
  return readdirSync(path, { recursive: true })
    .filter((file) => file.endsWith(suffix))
    .map((file) => join(path, file))
    .sort();
}

const includeFolders = ['src/backend/cpu', 'dist/native'].map((folder) => join(root, folder));
const include = includeFolders.flatMap((folder) => ['-I', folder]);

/**
 * Adds a file and what it includes to a hash. Of the generated prototypes only those of the kernels that the source
 * defines count, so that a new contract does not recompile every other kernel.
 */
function hashWithIncludes(hash, file, kernels, seen = new Set()) {
  if (seen.has(file)) return seen;
  seen.add(file);
  const text = readFileSync(file, 'utf8');
  const relevant = (line) => kernels.includes(/^KERNEL\((\w+)\)/.exec(line)?.[1]);
  hash.update(basename(file) === 'prototypes.h' ? text.split('\n').filter(relevant).join('\n') : text);
  for (const [, name] of text.matchAll(/^#include "([^"]+)"/gm)) {
    const found = [dirname(file), ...includeFolders].map((folder) => join(folder, name)).find(existsSync);
    if (found) hashWithIncludes(hash, found, kernels, seen);
  }
  return seen;
}

/** Whether a source or what it includes has code for the matrix unit. */
const namesMatrixUnit = (source) =>
  [...hashWithIncludes(createHash('sha256'), source, [])].some((f) => readFileSync(f, 'utf8').includes('__AMX_TILE__'));

function object(source, isa, flags) {
  if (isa === 'amx' && namesMatrixUnit(source)) flags = [...flags, ...matrixUnit];
  const kernels = [...readFileSync(source, 'utf8').matchAll(/KERNEL\((\w+)\)/g)].map(([, name]) => name);
  const hash = createHash('sha256').update(version.stdout).update(flags.join(' '));
  hashWithIncludes(hash, source, kernels);
  const path = join(objects, `${basename(source, '.cpp')}-${hash.digest('hex').slice(0, 16)}.o`);
  return { path, args: [...flags, ...include, '-c', source] };
}

const calls = join(root, 'dist/native/calls.cpp');
const libraries = new Map(); // library name -> objects
for (const [isa, flags] of Object.entries(instructionSets)) {
  if (isa === 'amx' && !understands(matrixUnit)) continue;
  libraries.set(`fat5-cpu-${isa}`, [
    ...sources('src/backend/cpu', '.cpp').map((source) => object(source, isa, [...common, ...flags])),
    ...[...sources('src/tensor', '.cpp'), ...sources('src/ops', '.cpp'), calls].flatMap((source) =>
      computeTypes.map((type) => object(source, isa, [...common, ...flags, `-DCOMPUTE_${type.toUpperCase()}`])),
    ),
  ]);
}
const portable = arch === 'x64' ? ['-march=x86-64-v2'] : [];
libraries.set(
  'fat5-text',
  ['src/tokenizer', 'src/data']
    .flatMap((f) => sources(f, '.cpp'))
    .map((source) => object(source, 'any', [...common, ...portable])),
);

const pathOf = (name) => join(out, `lib${name}.so`);
const recipeOf = (parts) => parts.map(({ path }) => path).join('\n');
const isCurrent = (name, parts) => {
  const from = `${pathOf(name)}.from`;
  return existsSync(pathOf(name)) && existsSync(from) && readFileSync(from, 'utf8') === recipeOf(parts);
};
for (const [name, parts] of libraries) {
  if (!wanted || !name.startsWith('fat5-cpu-') || wanted.includes(name.slice('fat5-cpu-'.length))) continue;
  if (!isCurrent(name, parts)) rmSync(pathOf(name), { force: true });
  libraries.delete(name);
}
const jobs = new Map([...libraries.values()].flat().map(({ path, args }) => [path, args]));

mkdirSync(objects, { recursive: true });
const run = (args) =>
  new Promise((resolve) => {
    const child = spawn(compiler, args, { stdio: ['ignore', 'inherit', 'inherit'] });
    child.on('close', (code) => {
      if (code !== 0) {
        console.error(`build: ${compiler} failed on ${args.at(-1)}`);
        process.exit(1);
      }
      resolve();
    });
  });

const pending = [...jobs].filter(([path]) => !existsSync(path));
if (pending.length > 0) console.log(`compiling ${pending.length} C++ objects with ${compiler}`);
const temporary = (path) => `${path}.${process.pid}.tmp`;
await Promise.all(
  Array.from({ length: availableParallelism() }, async () => {
    for (let job = pending.shift(); job; job = pending.shift()) {
      const [path, args] = job;
      await run([...args.slice(0, -1), '-o', temporary(path), args.at(-1)]);
      renameSync(temporary(path), path);
    }
  }),
);

for (const [name, parts] of libraries) {
  if (parts.length === 0) continue;
  if (isCurrent(name, parts)) continue;
  const path = pathOf(name);
  // nodelete: at exit the FFI library would unload the code that our threads still run in.
  await run([
    '-shared',
    '-pthread',
    '-Wl,-z,nodelete',
    '-Wl,--no-undefined',
    '-o',
    temporary(path),
    ...parts.map((part) => part.path),
  ]);
  renameSync(temporary(path), path);
  writeFileSync(`${path}.from`, recipeOf(parts));
  console.log(`built ${path.slice(root.length + 1)}`);
}
