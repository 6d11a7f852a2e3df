/**
 * Brings a checkout to a runnable state: installs the packages, compiles the TypeScript, generates the kernel
 * prototypes, compiles the C++. Each step is skipped while its result is newer than what it is made from.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

process.chdir(dirname(dirname(fileURLToPath(import.meta.url))));

const [major, minor] = process.versions.node.split('.').map(Number);
if (major < 20 || (major === 20 && minor < 19)) {
  console.error(`setup: this is Node ${process.versions.node}, expected 20.19 or newer`);
  process.exit(2);
}

const modified = (path) => (existsSync(path) ? statSync(path).mtimeMs : 0);

/** Time of the newest change below a folder; deleting a file changes its folder. */
function newest(folder) {
  const entries = readdirSync(folder, { recursive: true }).filter((file) => !/\.(cpp|cu|cuh)$/.test(file));
  return Math.max(modified(folder), ...entries.map((file) => modified(join(folder, file))));
}

function run(command, args) {
  const { status, error } = spawnSync(command, args, { stdio: 'inherit' });
  if (error) console.error(`setup: ${command}: ${error.message}`);
  if (status !== 0) process.exit(status ?? 1);
}

if (modified('node_modules/.package-lock.json') < modified('package-lock.json')) {
  console.log('setup: installing packages');
  // Not "ci": it refuses a lock file without the optional packages of platforms that have none of this version.
  run('npm', ['install', '--no-save', '--no-audit', '--no-fund', '--ignore-scripts']);
}

const stamp = 'dist/compiled';
if (modified(stamp) < Math.max(newest('src'), newest('test'), modified('tsconfig.json'))) {
  console.log('setup: compiling TypeScript');
  for (const folder of ['dist/src', 'dist/test']) rmSync(folder, { recursive: true, force: true });
  run(process.execPath, ['node_modules/typescript/bin/tsc', '-p', '.']);
  writeFileSync(stamp, '');
}

run(process.execPath, ['dist/src/ops/prototypes.js']);
run(process.execPath, ['scripts/build_native.mjs']);
