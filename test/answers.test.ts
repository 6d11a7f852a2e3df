/** Spans of answers against an exhaustive search. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Answer, bestAnswers, NO_ANSWER, softmax, trimmedOffsets, type Window } from '../src/eval/answers.ts';
import { uniform } from './harness.ts';

test('offsets count as JavaScript does, without the spaces of pieces', () => {
  const text = '😀 a𝒳 b';
  const offsets: [number, number][] = [
    [0, 1],
    [1, 3],
    [3, 4],
    [4, 5],
    [4, 6],
  ];
  const words = trimmedOffsets(text, offsets).map(([start, end]) => text.slice(start, end));
  assert.deepEqual(words, ['😀', 'a', '𝒳', '', 'b']);
});

test('the best answers of several windows are those of an exhaustive search', () => {
  const random = uniform(7);
  for (let round = 0; round < 40; round++) {
    const count = 4 + Math.floor(random() * 30);
    const words = Array.from({ length: count }, (_, i) => `w${i}`);
    const context = words.join(' ');
    const offsets = words.map((word) => {
      const start = context.indexOf(word);
      return [start, start + word.length] as [number, number];
    });
    const asked = 2 + Math.floor(random() * 3);
    const size = 3 + Math.floor(random() * 8);
    const windows: Window[] = [];
    for (let at = 0; at < count; at += size - 1) {
      const own = offsets.slice(at, at + size);
      windows.push({ ids: [], from: asked, to: asked + own.length, offsets: own });
    }
    const logits = windows.map(({ to }) => {
      const row = () => Array.from({ length: to + 3 }, () => random() * 8);
      return { start: row(), end: row() };
    });
    const options = { top_k: 3, max_answer_len: 4, handle_impossible_answer: round % 2 === 1 };
    const all = new Map<string, Answer>();
    let none = 1;
    for (const [w, { from, to, offsets: own }] of windows.entries()) {
      const [starts, ends] = [logits[w]!.start, logits[w]!.end].map((row) =>
        softmax([row[NO_ANSWER]!, ...row.slice(from, to)]),
      );
      none = Math.min(none, starts![0]! * ends![0]!);
      for (let i = 0; i < own.length; i++)
        for (let j = i; j < Math.min(own.length, i + options.max_answer_len); j++) {
          const [start, end] = [own[i]![0], own[j]![1]];
          const score = starts![i + 1]! * ends![j + 1]!;
          if (score > (all.get(`${start} ${end}`)?.score ?? 0))
            all.set(`${start} ${end}`, { answer: context.slice(start, end), score, start, end });
        }
    }
    const wanted = [...all.values()];
    if (options.handle_impossible_answer) wanted.push({ answer: '', score: none, start: 0, end: 0 });
    wanted.sort((a, b) => b.score - a.score);
    assert.deepEqual(bestAnswers(context, windows, logits, options), wanted.slice(0, options.top_k), `round ${round}`);
  }
});
