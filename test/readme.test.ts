/** The README's commands and the programs of it and of docs, as they are written there. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../', import.meta.url));
const readme = readFileSync(join(root, 'README.md'), 'utf8');
const block = (language: string) => new RegExp(`\`\`\`${language}\n([^]*?)\`\`\``).exec(readme)![1]!;

const folder = mkdtempSync(join(tmpdir(), 'fat5-readme-'));
after(() => rmSync(folder, { recursive: true }));

function run(command: string, args: string[]): string {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd: folder, encoding: 'utf8' });
  assert.equal(status, 0, `${command} ${args.join(' ')}\n${stdout}\n${stderr}`);
  return stdout;
}

test("the README's commands make a model from text", () => {
  for (const file of readdirSync(root)) if (file.endsWith('.md')) copyFileSync(join(root, file), join(folder, file));
  symlinkSync(join(root, 'configs'), join(folder, 'configs'));
  const commands = block('sh').trim().split('\n');
  assert.equal(commands.length, 5);
  const main = JSON.stringify(join(root, 'dist/src/cli/main.js'));
  const outputs = commands.map((command) => run('sh', ['-c', command.replace(/^fat5/, `node ${main}`)]));
  assert.match(outputs[2]!, /\[train\] Step 4 out of 4 \| Loss --> \d/);
  assert.match(outputs[3]!, /nll/i);
});

test("the README's program trains the answer it then gives", () => {
  const library = JSON.stringify(new URL('../src/index.js', import.meta.url).href);
  const file = join(folder, 'example.mjs');
  writeFileSync(file, block('ts').replace("'fat5'", library));
  assert.match(run(process.execPath, [file]), /\[ 1, 3, 128 \] \d+ \[ 0, 4, 8, 1 \]/);
});

for (const [name, printed] of [
  ['generation', /^.*\n.*\n$/],
  ['pipelines', /^\[ 2, 64 \]\n$/],
] as const)
  test(`the program of docs/${name}.md runs, on the README's model`, () => {
    const text = readFileSync(join(root, `docs/${name}.md`), 'utf8');
    const program = /```js\n(.*?)```/s.exec(text)![1]!;
    const library = JSON.stringify(new URL('../src/index.js', import.meta.url).href);
    const file = join(folder, `${name}.mjs`);
    const place = "'runs/readme/run/checkpoints/step-0000004'";
    writeFileSync(file, program.replace("'fat5'", library).replace("'google/flan-t5-small'", place));
    assert.match(run(process.execPath, [file]), printed);
  });
