/** Vocabularies read natively from a file's bytes, beside the same files read as strings. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { NativeVocabulary } from '../src/tokenizer/native_vocabulary.ts';
import {
  columnsOf,
  openSentencePieceModel,
  PieceType,
  parseSentencePieceModel,
} from '../src/tokenizer/sentencepiece_model.ts';
import { openTokenizerJson, parseTokenizerJson, vocabularyOf } from '../src/tokenizer/tokenizer_json.ts';
import { FormatError } from '../src/util/errors.ts';

const read = (name: string) => JSON.parse(readFileSync(new URL(`../../test/golden/${name}`, import.meta.url), 'utf8'));
const { kinds } = read('tokenizers_hf.json') as { kinds: { name: string; file: { model: object } }[] };
const { models } = read('sentencepiece.json') as { models: { name: string; model: string }[] };

/** What opening gives, or the message that refuses it. */
function outcome<T>(open: () => T): T | string {
  try {
    return open();
  } catch (error) {
    if (error instanceof FormatError) return error.message;
    throw error;
  }
}

function assertSameJson(text: string) {
  const native = outcome(() => openTokenizerJson(Buffer.from(text), 'f'));
  const strings = outcome(() => parseTokenizerJson(Buffer.from(text).toString(), 'f'));
  assert.deepEqual(native, strings, text);
}

test('every kind of tokenizer.json is the same file either way', () => {
  for (const { name, file } of kinds)
    for (const space of [0, 2]) {
      const text = JSON.stringify(file, null, space);
      const native = openTokenizerJson(Buffer.from(text), name);
      const vocabulary = vocabularyOf(native.model);
      assert.deepEqual(native, parseTokenizerJson(text, name));
      const prefixed = (file.model as { continuing_subword_prefix?: string; merges?: unknown[] }) ?? {};
      if (!(prefixed.merges?.length && prefixed.continuing_subword_prefix))
        // such merges are read as strings
        assert.ok(vocabulary instanceof NativeVocabulary, name);
    }
});

test('every spiece.model is the same either way', () => {
  for (const { name, model } of models) {
    const bytes = Buffer.from(model, 'base64');
    const [native, strings] = [openSentencePieceModel(bytes, name), parseSentencePieceModel(bytes, name)];
    assert.ok(columnsOf(native) instanceof NativeVocabulary, name);
    assert.deepEqual(native, strings);
    const [a, b] = [columnsOf(native), columnsOf(strings)];
    assert.deepEqual([a.count, a.scores, a.types, a.toMap()], [b.count, b.scores, b.types, b.toMap()]);
  }
});

test('pieces of any text come back by id, and ids by piece', () => {
  const unit = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 1 }),
    fc.constantFrom('"', '\\', '/', '\n', '\u2028', '😀', '\0'),
  );
  const pieces = fc.uniqueArray(
    fc.array(unit, { maxLength: 6 }).map((units) => units.join('')),
    { maxLength: 30 },
  );
  const escaped = (json: string) =>
    json.replace(/[^ -~\t\r\n]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0').toUpperCase()}`);
  fc.assert(
    fc.property(pieces, fc.boolean(), fc.constantFrom(0, 1, '\t\r\n'), (pieces, ascii, space) => {
      const ids = pieces.map((_, i) => i * 7);
      const vocab = Object.fromEntries(pieces.map((piece, i) => [piece, ids[i]]));
      const json = JSON.stringify({ model: { type: 'WordLevel', vocab, unk_token: pieces[0] ?? '' } }, null, space);
      const result = NativeVocabulary.readJson(Buffer.from(ascii ? escaped(json) : json));
      assert.ok(result);
      const { vocabulary, rest } = result;
      assert.deepEqual(JSON.parse(rest.toString()).model.vocab, {});
      assert.deepEqual(
        pieces.map((piece) => vocabulary.idOf(piece)),
        ids,
      );
      assert.deepEqual(
        ids.map((id) => vocabulary.pieceOf(id)),
        pieces,
      );
      assert.deepEqual(vocabulary.toMap(), new Map(pieces.map((piece, i) => [piece, ids[i]!])));
      assert.equal(vocabulary.count, (ids.at(-1) ?? -1) + 1);
      assert.deepEqual(
        [vocabulary.pieceOf(1), vocabulary.pieceOf(-1), vocabulary.pieceOf(1e6)],
        Array(3).fill(undefined),
      );
      assert.equal(vocabulary.idOf('\ud800'), undefined);
    }),
    { numRuns: 300, seed: 5 },
  );
});

test('scores are the numbers that JSON has', () => {
  const number = fc.oneof(fc.double({ noNaN: true, noDefaultInfinity: true }), fc.constantFrom(0, -1e-5, 123456789e20));
  fc.assert(
    fc.property(fc.array(number, { minLength: 1, maxLength: 8 }), (scores) => {
      const vocab = scores.map((score, i) => [`p${i}`, score]);
      const native = openTokenizerJson(
        Buffer.from(JSON.stringify({ model: { type: 'Unigram', unk_id: 0, vocab } })),
        'f',
      );
      assert.deepEqual(native.model.vocab, JSON.parse(JSON.stringify(vocab)));
    }),
    { numRuns: 300, seed: 6 },
  );
});

const oddJson = [
  [
    'twice the same model',
    '{"model":{"type":"WordLevel","vocab":{"a":0}},"model":{"type":"WordLevel","vocab":{"b":0}}}',
  ],
  ['twice the same vocabulary', '{"model":{"type":"WordLevel","vocab":{"a":0},"vocab":{"b":0,"<unk>":1}}}'],
  ['a key with an escape', '{"mod\\u0065l":{"type":"WordLevel","vocab":{"a":0,"<unk>":1}}}'],
  ['twice the same piece', '{"model":{"type":"WordLevel","vocab":{"a":0,"a":1,"<unk>":2}}}'],
  ['an id written as a fraction', '{"model":{"type":"WordLevel","vocab":{"a":1.0,"<unk>":2e0}}}'],
  ['an id with zeros in front', '{"model":{"type":"WordLevel","vocab":{"a":01,"<unk>":2}}}'],
  ['a control character', '{"model":{"type":"WordLevel","vocab":{"a\n":1,"<unk>":2}}}'],
  ['an unknown escape', '{"model":{"type":"WordLevel","vocab":{"\\x41":1,"<unk>":2}}}'],
  ['signs within an escape', '{"model":{"type":"WordLevel","vocab":{"\\u-041":1,"\\u+041":3,"<unk>":2}}}'],
  ['a comma too many', '{"model":{"type":"WordLevel","vocab":{"a":1,"<unk>":2,}}}'],
  ['text behind the end', '{"model":{"type":"WordLevel","vocab":{"a":1,"<unk>":2}}} x'],
  ['brackets that do not match', '{"model":{"type":"WordLevel","vocab":{"<unk>":2}},"x":[}]}'],
  ['merges in front of the vocabulary', '{"model":{"type":"BPE","merges":["a b"],"vocab":{"a":0,"b":1,"ab":2}}}'],
  ['merges with an empty side', '{"model":{"type":"BPE","vocab":{"":3,"a":0,"b":1,"ab":2},"merges":[" a","a "]}}'],
  ['merges of three parts', '{"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b a"]}}'],
  ['pieces of equal text', '{"model":{"type":"Unigram","unk_id":0,"vocab":[["a",-1],["b",-2],["a",-3]]}}'],
  ['a score without end', '{"model":{"type":"Unigram","unk_id":0,"vocab":[["a",-1e999]]}}'],
  ['a score with a point only', '{"model":{"type":"Unigram","unk_id":0,"vocab":[["a",-1.]]}}'],
  ['numbers as pieces', '{"model":{"type":"WordLevel","vocab":{"10":0,"9":1,"a":2,"<unk>":3}}}'],
  ['a vocabulary that is null', '{"model":{"type":"WordLevel","vocab":null}}'],
  [
    'parts within parts',
    `{"normalizer":${'{"type":"Sequence","normalizers":['.repeat(2e4)}${']}'.repeat(2e4)},"model":{"type":"WordLevel","vocab":{"<unk>":0}}}`,
  ],
] as const;
for (const [what, text] of oddJson)
  test(`${what}: the same file, or the same error`, () => {
    assertSameJson(text);
  });

test('damaged files are the same file or the same error', () => {
  const texts = kinds
    .filter(({ name }) => ['llama', 't5', 'bert'].includes(name))
    .map(({ file }) => {
      const { added_tokens, model } = file as unknown as {
        added_tokens: object[];
        model: { vocab: object; merges?: object[] };
      };
      const vocab = Array.isArray(model.vocab)
        ? model.vocab.slice(0, 12)
        : Object.fromEntries(Object.entries(model.vocab).slice(0, 12));
      return JSON.stringify({
        added_tokens: added_tokens.slice(0, 2),
        model: { ...model, vocab, ...(model.merges ? { merges: [] } : {}) },
      });
    });
  const damage = fc.record({
    at: fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
    remove: fc.constantFrom(0, 0, 0, 1, 1, 6),
    insert: fc.constantFrom(
      '',
      '"',
      '{',
      '}',
      '[',
      ']',
      ',',
      ':',
      'null',
      '1e99',
      '-1',
      '.5',
      '\\ud800',
      '\\u0041',
      '\\',
      ' ',
      '"a"',
      '\ud83d\ude00',
      ...'aaaaé000   ',
    ),
  });
  let opened = 0;
  fc.assert(
    fc.property(fc.constantFrom(...texts), fc.array(damage, { minLength: 1, maxLength: 2 }), (text, damages) => {
      let damaged = text;
      for (const { at, remove, insert } of damages) {
        const place = Math.floor(at * damaged.length);
        damaged = damaged.slice(0, place) + insert + damaged.slice(place + remove);
      }
      assertSameJson(damaged);
      if (typeof outcome(() => openTokenizerJson(Buffer.from(damaged), 'f')) !== 'string') opened++;
    }),
    { numRuns: 1500, seed: 7 },
  );
  assert.ok(opened > 40, `${opened} of 1500 opened`);
});

test('damaged models are the same model or the same error', () => {
  const bytes = Buffer.from(models[0]!.model, 'base64');
  const small = bytes.subarray(0, 400); // pieces alone, the last one cut
  const same = (damaged: Buffer) =>
    assert.deepEqual(
      outcome(() => openSentencePieceModel(damaged, 'f')),
      outcome(() => parseSentencePieceModel(damaged, 'f')),
    );
  for (let i = 0; i <= small.length; i++) {
    same(small.subarray(0, i));
    for (const flip of [1, 2, 0x80, 0xff]) {
      const damaged = Buffer.from(small);
      if (i < small.length) damaged[i]! ^= flip;
      same(damaged);
    }
  }
  assert.equal(
    columnsOf(openSentencePieceModel(bytes, 'f')).types.filter((type) => type === PieceType.UNKNOWN).length,
    1,
  );
});
