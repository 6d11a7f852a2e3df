/** Shapes of values from files: what they let through, what they leave out, and where they say that something is wrong. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  either,
  flag,
  integer,
  listOf,
  Mismatch,
  nullish,
  object,
  oneOf,
  optional,
  pairOf,
  recordOf,
  type Shape,
  tagged,
  text,
  where,
  withDefault,
} from '../src/util/json_shape.ts';

const part = tagged({
  Split: object({ at: either(object({ text }), object({ place: integer(0, 9) })), keep: withDefault(flag, true) }),
  List: object({ parts: listOf((value): unknown => part(value)) }),
});
const document = object({
  part,
  side: optional(oneOf('left', 'right')),
  note: nullish(text),
  ids: recordOf(pairOf(text, integer(0, 9))),
});

/** Where a shape finds fault, and with what. */
function fault(shape: Shape<unknown>, value: unknown): string {
  try {
    shape(value);
  } catch (error) {
    assert.ok(error instanceof Mismatch);
    return `${error.path.join('.')}: ${error.message}`;
  }
  return 'none';
}

test('a value comes back with defaults, without what nobody asked for', () => {
  const given = { part: { type: 'Split', at: { place: 3, more: 1 } }, note: null, ids: { a: ['x', 2] }, other: 5 };
  assert.deepEqual(document(given), {
    part: { type: 'Split', at: { place: 3 }, keep: true },
    note: null,
    ids: { a: ['x', 2] },
  });
  assert.equal(given.other, 5);
});

test('a fault has its place and what was expected', () => {
  const good = { part: { type: 'Split', at: { text: 'a' } }, ids: {} };
  assert.equal(fault(document, good), 'none');
  const faults: [unknown, string][] = [
    [7, ': expected an object'],
    [[], ': expected an object'],
    [{ ...good, part: { type: 'Cut' } }, 'part.type: expected "Split" or "List"'],
    [{ ...good, part: { type: 'toString' } }, 'part.type: expected "Split" or "List"'],
    [{ ...good, part: { type: 'Split', at: { place: 10 } } }, 'part.at.place: expected an integer from 0 to 9'],
    [
      { ...good, part: { type: 'List', parts: [good.part, { type: 'List' }] } },
      'part.parts.1.parts: expected an array',
    ],
    [{ ...good, side: 'up' }, 'side: expected "left" or "right"'],
    [{ ...good, note: 1 }, 'note: expected a string'],
    [{ ...good, ids: { a: ['x'] } }, 'ids.a: expected two entries'],
    [{ ...good, ids: { a: ['x', 1.5] } }, 'ids.a.1: expected an integer from 0 to 9'],
    [{ part: good.part }, 'ids: expected an object'],
  ];
  for (const [value, expected] of faults) assert.equal(fault(document, value), expected);
  assert.equal(
    fault(
      where(text, 'one character', (value) => value.length === 1),
      'ab',
    ),
    ': expected one character',
  );
});

test('inherited fields are no fields', () => {
  assert.equal(fault(object({ toString: text }), {}), 'toString: expected a string');
  assert.deepEqual(Object.keys(recordOf(text)(JSON.parse('{"__proto__": "a"}'))), ['__proto__']);
});
