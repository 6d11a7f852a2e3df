/** Variables of the environment: impossible ones are an error, empty ones are as if they were not set. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { test } from 'node:test';

const module = (path: string) => JSON.stringify(new URL(`../src/${path}.js`, import.meta.url).href);
const cpu = `const { openCpu } = await import(${module('backend/cpu/cpu')}); console.log(openCpu().threads)`;
const cache = `const { cacheFolder } = await import(${module('util/cache')}); console.log(cacheFolder())`;
const node = ['--input-type=module', '-e'];

test('a number of threads is a positive whole number', () => {
  for (const FAT5_THREADS of ['two', '0', '-1', '1.5']) {
    const env = { ...process.env, FAT5_THREADS };
    const { stderr, status } = spawnSync(process.execPath, [...node, cpu], { env, encoding: 'utf8' });
    assert.equal(status, 1);
    assert.match(stderr, new RegExp(`UsageError: FAT5_THREADS: is ${FAT5_THREADS}, expected a positive number`));
  }
  const env = { ...process.env, FAT5_THREADS: '3' };
  assert.equal(execFileSync(process.execPath, [...node, cpu], { env, encoding: 'utf8' }), '3\n');
});

test('empty variables count as not set', () => {
  const { FAT5_ISA, FAT5_THREADS, FAT5_CACHE, XDG_CACHE_HOME, ...rest } = process.env;
  const empty = { ...rest, FAT5_ISA: '', FAT5_THREADS: '', FAT5_CACHE: '', XDG_CACHE_HOME: '' };
  for (const program of [cpu, cache]) {
    const [without, set] = [rest, empty].map((env) => execFileSync(process.execPath, [...node, program], { env }));
    assert.deepEqual(set, without);
  }
});
