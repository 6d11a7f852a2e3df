/** tokenizer.json files that are damaged, contradictory or beyond what we support: one clear error each. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import fc from 'fast-check';
import { openTokenizer } from '../src/tokenizer/auto_tokenizer.ts';
import { FRENCH_PATTERN } from '../src/tokenizer/patterns.ts';
import { FormatError, UsageError } from '../src/util/errors.ts';

const directory = mkdtempSync(join(tmpdir(), 'fat5-tokenizer-json-'));
const path = join(directory, 'tokenizer.json');
after(() => rmSync(directory, { recursive: true }));

type Json = Record<string, unknown>;

function small(): { model: Json; added_tokens: Json[] } & Json {
  const split = { type: 'Split', pattern: { Regex: FRENCH_PATTERN }, behavior: 'Isolated', invert: false };
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  return {
    version: '1.0',
    added_tokens: [{ id: 0, content: '</s>', ...flags }],
    normalizer: null,
    pre_tokenizer: { type: 'Sequence', pretokenizers: [split] },
    post_processor: {
      type: 'TemplateProcessing',
      single: [{ Sequence: { id: 'A' } }, { SpecialToken: { id: '</s>' } }],
      special_tokens: { '</s>': { id: '</s>', ids: [0], tokens: ['</s>'] } },
    },
    decoder: { type: 'Fuse' },
    model: {
      type: 'BPE',
      unk_token: 'u',
      vocab: { '</s>': 0, a: 1, b: 2, ab: 3, abb: 4, u: 5 },
      merges: [['a', 'b'], 'ab b'],
    },
  };
}

function open(document: unknown) {
  writeFileSync(path, typeof document === 'string' ? document : JSON.stringify(document));
  return openTokenizer(path);
}

/** Opens small() after a change. */
function changed(change: (document: ReturnType<typeof small>) => void) {
  const document = small();
  change(document);
  return () => open(document);
}

test('merges as pairs and as strings, unknown characters, and no tokenizer_config.json', () => {
  const tokenizer = open(small());
  assert.deepEqual(tokenizer.encode('abbab b?é'), [4, 3, 5, 2, 5, 5, 0]);
  assert.equal(tokenizer.decode([4, 3, 0]), 'abbab</s>');
  assert.equal(tokenizer.eos_token_id, 0);
  assert.throws(() => tokenizer.pad_token_id, /UsageError: tokenizer: it has no pad_token/);
  assert.equal(tokenizer.modeTokens, undefined);
  assert.deepEqual(tokenizer.sentinels, []);
});

test('added tokens that strip spaces, and those looked for after the normalizer', () => {
  const tokenizer = changed(({ added_tokens, model }) => {
    Object.assign(added_tokens[0]!, { lstrip: true, rstrip: true });
    added_tokens.push({ ...added_tokens[0], id: 6, content: 's>', lstrip: false, rstrip: false, normalized: true });
    model.unk_token = null;
  })();
  assert.deepEqual(tokenizer.encode('a \u00a0</s>\n b</s', { add_special_tokens: false }), [1, 0, 2]);
  assert.deepEqual(tokenizer.encode('as>b</s>', { add_special_tokens: false }), [1, 6, 2, 0]);
  assert.deepEqual(tokenizer.encode('as>b</s>', { add_special_tokens: false, split_special_tokens: true }), [1, 2]);
});

test('a word of a pattern is what Oniguruma takes for one', () => {
  const tokenizer = changed((document) => {
    const split = { type: 'Split', pattern: { Regex: '\\w+' }, behavior: 'Isolated', invert: true };
    Object.assign(document, { pre_tokenizer: split, post_processor: null });
    Object.assign(document.model, { type: 'WordLevel', merges: undefined });
  })();
  const { offsets } = tokenizer.encodePlus('x²³ ﬁ Ⅳ ½ ①');
  assert.deepEqual(
    offsets.map(([start, end]) => [...'x²³ ﬁ Ⅳ ½ ①'].slice(start, end).join('')),
    ['x²³', ' ', 'ﬁ', ' ', 'Ⅳ', ' ', '½', ' ①'],
  );
});

const refused: [string, RegExp, () => unknown][] = [
  ['a truncated file', /tokenizer\.json: not JSON/, () => open(JSON.stringify(small()).slice(0, 200))],
  ['no object', /file is 7, which is not supported or not valid/, () => open('7')],
  ['another model', /model\.type is "Char"/, changed(({ model }) => Object.assign(model, { type: 'Char' }))],
  [
    'the vocabulary of another model',
    /model\.vocab is \{"<\/s>":0,.*expected an array/,
    changed(({ model }) => Object.assign(model, { type: 'Unigram' })),
  ],
  [
    'a pre-tokenizer that does not exist',
    /pre_tokenizer\.pretokenizers\.0\.type is "Words"/,
    changed((d) => Object.assign(d, { pre_tokenizer: { type: 'Sequence', pretokenizers: [{ type: 'Words' }] } })),
  ],
  [
    'an expression that JavaScript does not have',
    /pre_tokenizer: pattern "\(\?x:a\)" is not supported: option x/,
    changed((d) =>
      Object.assign(d, {
        pre_tokenizer: { type: 'Split', pattern: { Regex: '(?x:a)' }, behavior: 'Isolated', invert: false },
      }),
    ),
  ],
  ['a normalizer', /normalizer\.type is "NFX"/, changed((d) => Object.assign(d, { normalizer: { type: 'NFX' } }))],
  [
    'a merge without its piece',
    /model\.merges\[2\] needs "ba", which is not in model\.vocab/,
    changed(({ model }) => (model.merges as unknown[]).push(['b', 'a'])),
  ],
  [
    'a merge of one piece',
    /model\.merges\[0\] is \["a"\], expected two pieces/,
    changed(({ model }) => Object.assign(model, { merges: [['a']] })),
  ],
  [
    'two pieces of one id',
    /gives "a" and "c" the same id 1/,
    changed(({ model }) => Object.assign(model.vocab as Json, { c: 1 })),
  ],
  [
    'an absurd id',
    /gives "c" the id 1000000000000/,
    changed(({ model }) => Object.assign(model.vocab as Json, { c: 1e12 })),
  ],
  ['a negative id', /gives "c" the id -1/, changed(({ model }) => Object.assign(model.vocab as Json, { c: -1 }))],
  [
    'an added token with the id of a piece',
    /"<\/s>" has the id 1, but model\.vocab gives it 0/,
    changed(({ added_tokens }) => Object.assign(added_tokens[0]!, { id: 1 })),
  ],
  [
    'an unknown token that is not there',
    /model\.unk_token "none" is not in model\.vocab/,
    changed(({ model }) => Object.assign(model, { unk_token: 'none' })),
  ],
  [
    'a template with a token that is not there',
    /post_processor uses "<e>", which is not in its special_tokens/,
    changed((d) =>
      Object.assign(d, {
        post_processor: {
          type: 'TemplateProcessing',
          single: [{ SpecialToken: { id: '<e>' } }, { Sequence: { id: 'A' } }],
          special_tokens: {},
        },
      }),
    ),
  ],
  [
    'half a surrogate pair',
    /a token contains half a surrogate pair/,
    changed(({ model }) => Object.assign(model.vocab as Json, { '\ud83d': 8, '\ude00': 9 })),
  ],
];
for (const [what, message, action] of refused)
  test(`${what} is a FormatError that names file and field`, () => {
    assert.throws(
      action,
      (error) => error instanceof FormatError && error.message.startsWith(path) && message.test(error.message),
    );
  });

test('bytes that are not text are a FormatError, a missing file a UsageError', () => {
  writeFileSync(path, Uint8Array.of(0x7b, 0xff, 0x7d));
  assert.throws(() => openTokenizer(path), FormatError);
  assert.throws(() => openTokenizer(join(directory, 'none')), UsageError);
});

test('cyclic and repeated merges end', () => {
  const tokenizer = changed(({ model }) => {
    Object.assign(model.vocab as Json, { '': 8, ba: 9, aba: 10 });
    model.merges = [
      ['a', ''],
      ['', 'a'],
      ['a', 'b'],
      ['b', 'a'],
      ['ab', 'a'],
      ['a', 'ba'],
      ['a', 'b'],
      ['', ''],
    ];
  })();
  assert.equal(
    tokenizer.decode(tokenizer.encode('abababab'.repeat(50), { add_special_tokens: false })),
    'abababab'.repeat(50),
  );
});

test('a damaged file opens or is a FormatError, and what opens encodes', () => {
  const text = JSON.stringify(small());
  const damage = fc.record({
    at: fc.nat(text.length - 1),
    remove: fc.nat(12),
    insert: fc.oneof(
      fc.constantFrom('', '"', '{', '[', ',', 'null', '1e99', '-1', '"a"', '\\ud800', '\\u0000'),
      fc.string({ maxLength: 3 }),
    ),
  });
  fc.assert(
    fc.property(fc.array(damage, { minLength: 1, maxLength: 3 }), (damages) => {
      let damaged = text;
      for (const { at, remove, insert } of damages)
        damaged = damaged.slice(0, at) + insert + damaged.slice(at + remove);
      try {
        const tokenizer = open(damaged);
        tokenizer.encode('abb <unk> </s> é');
        tokenizer.dispose();
      } catch (error) {
        if (!(error instanceof FormatError)) throw error;
      }
    }),
    { numRuns: 800, seed: 3 },
  );
});

test('any JSON in any place opens or is a FormatError', () => {
  const places = ['added_tokens', 'normalizer', 'pre_tokenizer', 'post_processor', 'decoder', 'model'];
  const modelPlaces = ['unk_token', 'vocab', 'merges', 'byte_fallback', 'type', 'fuse_unk', 'dropout'];
  fc.assert(
    fc.property(
      fc.constantFrom(...places),
      fc.option(fc.constantFrom(...modelPlaces)),
      fc.jsonValue(),
      (place, inner, value) => {
        const action = changed((document) => {
          if (inner !== null) document.model[inner] = value;
          else (document as Json)[place] = value;
        });
        try {
          action().dispose();
        } catch (error) {
          if (!(error instanceof FormatError)) throw error;
        }
      },
    ),
    { numRuns: 500, seed: 4 },
  );
});

test('offsets that do not fit the text are a UsageError', () => {
  const tokenizer = open(small());
  const bytes = new Uint8Array(4);
  for (const offsets of [[], [0, 5], [3, 1], [0, 2, 1, 4]])
    assert.throws(() => tokenizer.encodeBatch({ bytes, offsets: Uint32Array.from(offsets) }), UsageError);
  assert.throws(() => tokenizer.encodeBatch(['a'], { threads: 0 }), UsageError);
  const { ids, offsets } = tokenizer.encodeBatch({
    bytes: Uint8Array.of(97, 97, 98),
    offsets: Uint32Array.of(1, 1, 3),
  });
  assert.deepEqual(
    [[...ids], [...offsets]],
    [
      [0, 3, 0],
      [0, 1, 3],
    ],
  );
  assert.deepEqual(tokenizer.encodeBatch([]), { ids: new Int32Array(0), offsets: new Uint32Array(1) });
});
