/** Equal sums in a spiece.model: which cut wins is rounding, and rounding is sentencepiece's. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { openTokenizer } from '../src/tokenizer/auto_tokenizer.ts';
import {
  defaultNormalizerSpec,
  defaultTrainerSpec,
  formatSentencePieceModel,
  PieceType,
  type SentencePiece,
} from '../src/tokenizer/sentencepiece_model.ts';

const directory = mkdtempSync(join(tmpdir(), 'fat5-tokenizer-sums-'));
after(() => rmSync(directory, { recursive: true }));

/** "ab" is exactly as likely as "a" and "b". */
const pieces: SentencePiece[] = [
  { piece: '<unk>', score: 0, type: PieceType.UNKNOWN },
  { piece: 'a', score: -2.1, type: PieceType.NORMAL },
  { piece: 'b', score: -4.7, type: PieceType.NORMAL },
  { piece: 'ab', score: Math.fround(-2.1) + Math.fround(-4.7), type: PieceType.NORMAL },
  { piece: 'é!', score: 0, type: PieceType.USER_DEFINED },
  { piece: 'c', score: -7.7, type: PieceType.NORMAL },
  { piece: '▁', score: -1.3, type: PieceType.NORMAL },
];
const [AB, C] = [3, 5];

/** How many of the seven "ab" before each "c" are one piece, as [number, how often in a row]. */
function wholes(ids: readonly number[]): [number, number][] {
  const runs: [number, number][] = [];
  let whole = 0;
  for (const id of ids) {
    if (id === AB) whole++;
    if (id !== C) continue;
    const last = runs.at(-1);
    if (last?.[0] === whole) last[1]++;
    else runs.push([whole, 1]);
    whole = 0;
  }
  return runs;
}

// sentencepiece 0.2.2, SentencePieceProcessor.encode(text * 3000)
const cases: [text: string, runs: [number, number][]][] = [
  [
    'abababababababé!c',
    [
      [5, 1],
      [2, 1],
      [5, 1],
      [7, 15],
      [4, 1],
      [0, 18],
      [6, 1],
      [7, 259],
      [3, 1],
      [0, 296],
      [2, 1],
      [7, 1220],
      [6, 1],
      [2, 1],
      [3, 1],
      [7, 15],
      [6, 1],
      [0, 18],
      [5, 1],
      [7, 259],
      [5, 1],
      [0, 297],
      [7, 590],
    ],
  ],
  [
    'ab ab ab ab ab ab ab é! c ',
    [
      [7, 1],
      [0, 1],
      [7, 13],
      [3, 1],
      [0, 14],
      [2, 1],
      [7, 214],
      [3, 1],
      [0, 244],
      [3, 1],
      [7, 1007],
      [2, 1],
      [5, 1],
      [7, 12],
      [6, 1],
      [0, 15],
      [7, 214],
      [6, 1],
      [0, 245],
      [7, 1007],
      [5, 1],
      [2, 1],
      [7, 3],
    ],
  ],
];
for (const [text, runs] of cases)
  for (const native of [true, false])
    test(`of cuts with equal sums ${native ? 'C++' : 'TypeScript'} takes sentencepiece's, however long "${text}…" is`, () => {
      const path = join(directory, 'spiece.model');
      const spec = { trainer_spec: defaultTrainerSpec(), normalizer_spec: defaultNormalizerSpec() };
      writeFileSync(path, formatSentencePieceModel({ pieces, ...spec, denormalizer_spec: defaultNormalizerSpec() }));
      const tokenizer = openTokenizer(path, { native });
      assert.deepEqual(wholes(tokenizer.encode(text.repeat(3000), { add_special_tokens: false })), runs);
    });
