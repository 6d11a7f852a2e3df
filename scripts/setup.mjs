/**
 * Brings a checkout to a runnable state: installs the packages, compiles the TypeScript, generates the kernel
 * prototypes, compiles the C++. Each step is skipped when its result is newer than what it is made from.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
process.chdir(root);

const modified = (path) => (existsSync(path) ? statSync(path).mtimeMs : 0);

function step(what, command, args) {
  console.log(`setup: ${what}`);
  const { status, error } = spawnSync(command, args, { stdio: 'inherit' });
  if (error) console.error(`setup: ${command}: ${error.message}`);
  if (status !== 0) process.exit(status ?? 1);
}

if (modified('node_modules/.package-lock.json') < modified('package-lock.json'))
  step('installing packages', 'npm', ['ci', '--no-audit', '--no-fund']);

const newest = Math.max(
  ...['src', 'test'].flatMap((folder) =>
    readdirSync(folder, { recursive: true })
      .filter((file) => file.endsWith('.ts'))
      .map((file) => modified(join(folder, file))),
  ),
  modified('tsconfig.json'),
);
const stamp = 'dist/tsconfig.tsbuildinfo';
if (modified(stamp) < newest || modified('dist/src/ops/prototypes.js') === 0)
  step('compiling TypeScript', process.execPath, ['node_modules/typescript/bin/tsc', '-p', '.']);

step('compiling native code where it changed', process.execPath, ['dist/src/ops/prototypes.js']);
step('', process.execPath, ['scripts/build_native.mjs']);
