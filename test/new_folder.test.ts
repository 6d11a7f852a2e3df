import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { recoverFolder, replaceFolder } from '../src/util/new_folder.ts';

const root = mkdtempSync(join(tmpdir(), 'fat5-folder-'));
after(() => rmSync(root, { recursive: true }));

const content = (folder: string) => readFileSync(join(folder, 'file'), 'utf8');
const write = (text: string) => async (into: string) => {
  mkdirSync(into);
  writeFileSync(join(into, 'file'), text);
};

test('a folder is replaced as a whole, and a failed writer changes nothing', async () => {
  const folder = join(root, 'whole', 'best');
  mkdirSync(join(root, 'whole'));
  await replaceFolder(folder, write('1'));
  await replaceFolder(folder, write('2'));
  assert.equal(content(folder), '2');
  const failing = replaceFolder(folder, async (into) => {
    await write('3')(into);
    throw new Error('no space');
  });
  await assert.rejects(failing, /no space/);
  assert.equal(content(folder), '2');
  assert.deepEqual(readdirSync(join(root, 'whole')), ['best']);
});

for (const rename of [1, 2, 3])
  test(`a process killed at rename ${rename} of a replacement leaves a complete folder to go on from`, async () => {
    const parent = join(root, `killed-${rename}`);
    const folder = join(parent, 'best');
    mkdirSync(parent);
    await replaceFolder(folder, write('old'));
    const module = fileURLToPath(new URL('../src/util/new_folder.js', import.meta.url));
    // the third rename does not exist: that process ends by itself
    const { signal } = spawnSync(process.execPath, ['--input-type=module', '--eval', killedAt(rename, module, folder)]);
    assert.equal(signal, rename < 3 ? 'SIGKILL' : null);
    recoverFolder(folder);
    assert.equal(content(folder), rename < 3 ? 'old' : 'new');
    assert.deepEqual(readdirSync(parent), ['best']);
  });

/** A program that replaces the folder and dies just before it renames for the nth time. */
const killedAt = (nth: number, module: string, folder: string) => `
  import fs from 'node:fs';
  import { syncBuiltinESMExports } from 'node:module';
  const { renameSync } = fs;
  let renames = 0;
  fs.renameSync = (...args) => {
    if (++renames === ${nth}) process.kill(process.pid, 'SIGKILL');
    renameSync(...args);
  };
  syncBuiltinESMExports();
  const { replaceFolder } = await import(${JSON.stringify(module)});
  await replaceFolder(${JSON.stringify(folder)}, async (into) => {
    fs.mkdirSync(into);
    fs.writeFileSync(into + '/file', 'new');
  });
`;
