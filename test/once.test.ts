import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { madeOnce } from '../src/finetune/once.ts';

const folder = mkdtempSync(join(tmpdir(), 'fat5-once-'));
after(() => rmSync(folder, { recursive: true }));

/** Squares of 0 to 9, three at a time; which parts were made; what was said. */
function squares(name: string, signal = new AbortController().signal, about: unknown = 'squares') {
  const made: number[] = [];
  const notes: string[] = [];
  const path = join(folder, name);
  const make = async (from: number, to: number) => {
    made.push(from);
    return Array.from({ length: to - from }, (_, i) => (from + i) ** 2);
  };
  const found = madeOnce({
    ...{ path, about, count: 10, part: 3, make, signal, what: 'squares' },
    note: (line) => notes.push(line),
    progress: () => {},
  });
  return { path, found, made, notes };
}
const wanted = [0, 1, 4, 9, 16, 25, 36, 49, 64, 81];

test('what was made once is not made again', async () => {
  const first = squares('whole.jsonl');
  assert.deepEqual([await first.found, first.made], [wanted, [0, 3, 6, 9]]);
  const second = squares('whole.jsonl');
  assert.deepEqual([await second.found, second.made], [wanted, []]);
});

test('what was stopped, or cut off in the middle of a line, goes on after its last whole part with the same file', async () => {
  const whole = readFileSync(join(folder, 'whole.jsonl'), 'utf8');
  await squares('cut.jsonl').found;
  for (let length = 0; length < whole.length; length += 7) {
    writeFileSync(join(folder, 'cut.jsonl'), whole.slice(0, length));
    assert.deepEqual(await squares('cut.jsonl').found, wanted, `${length} characters`);
    assert.equal(readFileSync(join(folder, 'cut.jsonl'), 'utf8'), whole);
  }
  const stopped = new AbortController();
  stopped.abort();
  const calls = [];
  for (let i = 0; i < 4; i++) {
    const { found, made } = squares('stopped.jsonl', stopped.signal);
    calls.push([(await found)?.length, made]);
  }
  assert.deepEqual(calls, [
    [undefined, [0]],
    [undefined, [3]],
    [undefined, [6]],
    [10, [9]],
  ]);
});

test('a file about something else is made again, and that is said', async () => {
  const other = squares('whole.jsonl', undefined, 'other squares');
  assert.deepEqual(await other.found, wanted);
  assert.deepEqual(other.made, [0, 3, 6, 9]);
  assert.match(other.notes[0]!, /whole\.jsonl is about other rows or another model; it is made again/);
});
