import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { UsageError } from '../src/util/errors.ts';
import { lockFolder } from '../src/util/lock.ts';
import { makeFolder, NewFile, writeWhole } from '../src/util/new_file.ts';

const root = mkdtempSync(join(tmpdir(), 'fat5-files-'));
after(() => rmSync(root, { recursive: true, force: true }));
let folders = 0;
const fresh = (): string => {
  const folder = join(root, String(folders++));
  mkdirSync(folder);
  return folder;
};

describe('a new file', () => {
  test('has its name only when it is complete', () => {
    const folder = fresh();
    const path = join(folder, 'a');
    const file = new NewFile(path);
    file.write(Buffer.from('..cdef'));
    file.write(Buffer.from('ab'), 0);
    assert.ok(!existsSync(path));
    file.finish();
    file.abandon(); // after the end: nothing to give up
    assert.equal(readFileSync(path, 'utf8'), 'abcdef');
    assert.deepEqual(readdirSync(folder), ['a']);
  });

  test('given up leaves the old one and no temporary file', () => {
    const folder = fresh();
    const path = join(folder, 'a');
    writeWhole(path, 'old');
    const file = new NewFile(path);
    file.write(Buffer.from('new'));
    file.abandon();
    assert.equal(readFileSync(path, 'utf8'), 'old');
    assert.deepEqual(readdirSync(folder), ['a']);
  });

  test('is written over what a killed process left', () => {
    const folder = fresh();
    writeFileSync(join(folder, 'a.tmp'), 'much longer than the new file');
    writeWhole(join(folder, 'a'), 'new');
    assert.equal(readFileSync(join(folder, 'a'), 'utf8'), 'new');
    assert.deepEqual(readdirSync(folder), ['a']);
  });

  const expectFull = (folder: string, before: string, write: () => void): void => {
    const path = join(folder, 'a');
    assert.throws(write, (error: Error) => {
      assert.ok(error instanceof UsageError);
      assert.equal(
        error.message,
        `${path}: no space left in ${folder}; finished files are kept: free some space and run the same command again`,
      );
      return true;
    });
    assert.equal(readFileSync(path, 'utf8'), before);
    assert.deepEqual(readdirSync(folder), ['a']);
  };

  test('on a full device leaves the old one, no temporary file and one clear line', {
    skip: existsSync('/dev/full') ? false : 'this system has no /dev/full',
  }, () => {
    const folder = fresh();
    writeWhole(join(folder, 'a'), 'old');
    symlinkSync('/dev/full', join(folder, 'a.tmp'));
    expectFull(folder, 'old', () => writeWhole(join(folder, 'a'), 'new'));
  });

  test('on a full file system leaves the old one, no temporary file and one clear line', (t) => {
    const folder = fresh();
    const mount = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'none', folder]);
    if (mount.status !== 0) return t.skip('mounting is not allowed here');
    try {
      writeWhole(join(folder, 'a'), 'old');
      const file = new NewFile(join(folder, 'a'));
      expectFull(folder, 'old', () => {
        for (let i = 0; i < 100; i++) file.write(Buffer.alloc(4096));
      });
      writeWhole(join(folder, 'a'), Buffer.alloc(200_000)); // the space is free again
    } finally {
      spawnSync('umount', [folder]);
    }
  });

  test('in a folder that is missing names the path', () => {
    const path = join(root, 'none', 'a');
    assert.throws(() => writeWhole(path, ''), {
      name: 'UsageError',
      message: new RegExp(`^${path}: cannot be written: `),
    });
  });
});

/** Another process that takes a folder's lock, says so, and waits to be killed. */
async function holder(folder: string): Promise<{ pid: number; kill: () => Promise<unknown> }> {
  const lock = fileURLToPath(new URL('../src/util/lock.js', import.meta.url));
  const program = `import { lockFolder } from ${JSON.stringify(lock)};
    lockFolder(${JSON.stringify(folder)}, ''); console.log('locked'); setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(child.stdout, 'data');
  return {
    pid: child.pid!,
    kill: () => {
      const ended = once(child, 'exit');
      child.kill('SIGKILL');
      return ended;
    },
  };
}

describe('a folder', () => {
  test('is made with those above it, and again', () => {
    const path = join(fresh(), 'a', 'b');
    for (let i = 0; i < 2; i++) makeFolder(path);
    assert.ok(existsSync(path));
  });

  test('that cannot be made is one clear line', { skip: !existsSync('/proc/self') }, () => {
    const file = join(fresh(), 'a');
    writeFileSync(file, '');
    for (const path of ['/proc/none', '/proc/none/a', join(file, 'b')])
      assert.throws(() => makeFolder(path), { name: 'UsageError', message: /: cannot be made: E/ });
    assert.throws(() => makeFolder(file), { name: 'UsageError', message: /a: is a file, expected a folder or a name/ });
  });
});

describe('a locked folder', () => {
  test('names the process that has it, and is free once that is killed', async () => {
    const folder = join(root, 'run');
    const other = await holder(folder);
    try {
      assert.throws(() => lockFolder(folder, 'choose another name=…'), {
        name: 'UsageError',
        message: `${folder}: is in use by process ${other.pid} on ${hostname()}; wait until it ends, stop it (kill ${other.pid}), or choose another name=…`,
      });
    } finally {
      await other.kill();
    }
    assert.deepEqual(readdirSync(folder), ['.lock']); // kill -9 left it
    lockFolder(folder, '')();
    assert.deepEqual(readdirSync(folder), []);
  });

  test('is given back, and again, within one process', () => {
    const folder = fresh();
    for (let i = 0; i < 2; i++) {
      const release = lockFolder(folder, '');
      assert.throws(() => lockFolder(folder, 'x'), new RegExp(`process ${process.pid} on `));
      release();
    }
    assert.deepEqual(readdirSync(folder), []);
  });

  test('that nothing was put into is removed if it was made for the lock', () => {
    const folder = join(fresh(), 'new');
    lockFolder(folder, '')();
    assert.ok(!existsSync(folder));
    const release = lockFolder(folder, '');
    writeFileSync(join(folder, 'a'), '');
    release();
    assert.deepEqual(readdirSync(folder), ['a']);
  });
});
