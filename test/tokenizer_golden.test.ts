/** Tokenizers of every kind against goldens of Hugging Face tokenizers and sentencepiece (golden/tokenizers_golden.py). */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import fc from 'fast-check';
import { openTokenizer } from '../src/tokenizer/auto_tokenizer.ts';
import type { Encoding } from '../src/tokenizer/pipeline/encoding.ts';
import type { Tokenizer } from '../src/tokenizer/tokenizer.ts';
import { parseTokenizerJson } from '../src/tokenizer/tokenizer_json.ts';
import { FormatError } from '../src/util/errors.ts';
import { StreamDecoder } from '../src/util/stream_decoder.ts';

interface Columns {
  ids: number[];
  tokens: string[];
  offsets: [number, number][];
  words: (number | null)[];
  types: number[];
  special: number[];
}
interface Kind {
  name: string;
  file: object;
  cases: (Columns & { text: string; decoded: string })[];
  pair: Columns;
}
interface SpModel {
  name: string;
  model: string;
  cases: { text: string; ids: number[]; pieces: string[]; decoded: string }[];
}
interface LegacyCase {
  text: string;
  ids: number[];
  tokens: string[];
  split: number[];
  decoded: string;
  skipped: string;
}
const read = (name: string) => JSON.parse(readFileSync(new URL(`../../test/golden/${name}`, import.meta.url), 'utf8'));
const { kinds } = read('tokenizers_hf.json') as { kinds: Kind[] };
const { models } = read('sentencepiece.json') as { models: SpModel[] };

const directory = mkdtempSync(join(tmpdir(), 'fat5-tokenizers-'));
after(() => rmSync(directory, { recursive: true }));
const ways = [{ native: true }, { native: false }];

function openKind({ name, file }: Kind, options = {}): Tokenizer {
  const path = join(directory, `${name}.json`);
  writeFileSync(path, JSON.stringify(file));
  return openTokenizer(path, options);
}
function openModel({ name, model }: SpModel, options = {}): Tokenizer {
  const path = join(directory, name, 'spiece.model');
  mkdirSync(join(directory, name), { recursive: true });
  writeFileSync(path, Buffer.from(model, 'base64'));
  return openTokenizer(path, options);
}
const columns = ({ ids, tokens, offsets, words, type_ids, special_tokens_mask }: Encoding): Columns => ({
  ids,
  tokens,
  offsets,
  words,
  types: type_ids,
  special: special_tokens_mask,
});

for (const kind of kinds) {
  test(`${kind.name}: ids, tokens, offsets, words, types and text are those of Hugging Face`, () => {
    const tokenizer = openKind(kind);
    for (const { text, decoded, ...expected } of kind.cases) {
      assert.deepEqual(columns(tokenizer.encodePlus(text)), expected, JSON.stringify(text));
      assert.equal(tokenizer.decode(expected.ids), decoded, JSON.stringify(text));
      for (const way of ways) assert.deepEqual(openKind(kind, way).encode(text), expected.ids, JSON.stringify(text));
    }
    const pair = tokenizer.encodePlus('the cat', { text_pair: 'le chat de la voisine' });
    assert.deepEqual(columns(pair), kind.pair);
  });
}

for (const model of models)
  test(`sentencepiece ${model.name}: ids, pieces and text are those of sentencepiece`, () => {
    for (const way of ways) {
      const tokenizer = openModel(model, way);
      for (const { text, ids, pieces, decoded } of model.cases) {
        const plain = { add_special_tokens: false, split_special_tokens: true };
        assert.deepEqual(tokenizer.encode(text, plain), ids, JSON.stringify(text));
        assert.deepEqual(tokenizer.tokenize(text, plain), pieces, JSON.stringify(text));
        assert.equal(tokenizer.decode(ids), decoded, JSON.stringify(text));
      }
    }
  });

const word = fc.constantFrom(
  'the',
  'cat ',
  ' dog',
  'é',
  'e\u0301',
  '\ufb01',
  '😀',
  '▁',
  '[R]',
  '12',
  ' ',
  '\u00a0',
  '\r\n',
  'x!',
  '中',
);
const anyText = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 30 }),
  fc.array(word).map((words) => words.join('')),
);
const natives = [
  ...kinds
    .filter(({ name }) => ['gpt2', 'llama', 't5', 'mt5'].includes(name))
    .map((kind) => [kind.name, (way: object) => openKind(kind, way)] as const),
  ...models.map((model) => [model.name, (way: object) => openModel(model, way)] as const),
];

for (const [name, open] of natives)
  test(`${name}: C++ and TypeScript give the same ids, a batch those of its texts, on any number of threads`, () => {
    const [native, typescript] = [open({ native: true }), open({ native: false })];
    const options = { add_special_tokens: false };
    fc.assert(
      fc.property(fc.array(anyText, { maxLength: 5 }), fc.constantFrom(1, 2, 3), (texts, threads) => {
        const { ids, offsets } = native.encodeBatch(texts, { ...options, threads });
        texts.forEach((text, i) => {
          const one = [...ids.subarray(offsets[i], offsets[i + 1])];
          assert.deepEqual(one, typescript.encode(text, options), JSON.stringify(text));
        });
      }),
      { numRuns: 200, seed: 5 },
    );
  });

test('offsets are places in the text, in order, in characters', () => {
  const tokenizers = [...kinds.map((kind) => openKind(kind)), ...models.map((model) => openModel(model))];
  fc.assert(
    fc.property(anyText, (text) => {
      const length = [...text].length;
      for (const tokenizer of tokenizers)
        for (const [start, end] of tokenizer.encodePlus(text, { add_special_tokens: false }).offsets)
          assert.ok(0 <= start && start <= end && end <= length, JSON.stringify(text));
    }),
    { numRuns: 100, seed: 6 },
  );
});

test('bytes come back: decoding is the inverse of encoding', () => {
  const tokenizer = openModel(models.find(({ name }) => name === 'bpe bytes')!);
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme', maxLength: 40 }), (text) => {
      const ids = tokenizer.encode(text, { add_special_tokens: false, split_special_tokens: true });
      assert.equal(tokenizer.decode(ids), text.replaceAll('▁', ' '));
    }),
    { numRuns: 200, seed: 7 },
  );
});

test('long texts without a boundary take time in proportion', { timeout: 120_000 }, () => {
  for (const [name, open] of natives) {
    const tokenizer = open({ native: true });
    for (const unit of ['a', 'e\u0301', '👨‍👩‍👧', '中', ' ', 'ab▁', '<extra_id_0']) {
      const time = (count: number) => {
        const text = unit.repeat(count / unit.length);
        const start = process.cpuUsage();
        tokenizer.encodeBatch([text], { threads: 1 });
        const { user, system } = process.cpuUsage(start);
        return user + system;
      };
      time(1e4);
      const [short, long] = [time(1e4), time(2e5)];
      // Quadratic time would be 400 times as much.
      assert.ok(
        long < 60 * short + 200_000,
        `${name}, ${JSON.stringify(unit)}: ${short} µs, 20 times as much ${long} µs`,
      );
    }
  }
});

test('a damaged spiece.model is a FormatError, or opens and encodes', () => {
  const path = join(directory, 'damaged.model');
  for (const { model } of models) {
    const bytes = Buffer.from(model, 'base64');
    const change = fc.record({ at: fc.nat(bytes.length - 1), byte: fc.nat(255) });
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 8 }), fc.option(fc.nat(bytes.length)), (changes, end) => {
        const damaged = Buffer.from(bytes);
        for (const { at, byte } of changes) damaged[at] = byte;
        writeFileSync(path, damaged.subarray(0, end ?? bytes.length));
        try {
          const tokenizer = openTokenizer(path);
          tokenizer.decode(tokenizer.encode('the cat \ufb01 e\u0301 é 😀 [R]'));
          tokenizer.tokenize('the cat \ufb01 e\u0301');
          tokenizer.dispose();
        } catch (error) {
          if (!(error instanceof FormatError)) throw error;
          assert.ok(error.message.startsWith(path), error.message);
        }
      }),
      { numRuns: 150, seed: 8 },
    );
  }
});

test('a stream gives whole words as soon as they are complete, and all of the text', () => {
  const texts = ['Le chat de la voisine dort 😀 sur le toit. '.repeat(20), ' x', '', 'e\u0301 中文'];
  for (const [, open] of natives) {
    const tokenizer = open({});
    for (const text of texts) {
      const ids = tokenizer.encode(text, { add_special_tokens: false });
      const stream = new StreamDecoder(tokenizer);
      const parts = [...ids.map((id) => stream.put([id])), stream.end()];
      assert.equal(parts.join(''), tokenizer.decode(ids));
      for (const part of parts) assert.ok(!part.includes('\ufffd') || tokenizer.decode(ids).includes('\ufffd'));
    }
  }
  const gpt2 = openKind(kinds[0]!);
  const stream = new StreamDecoder(gpt2);
  const given = gpt2.encode('the cat sleeps').map((id) => stream.put([id]));
  assert.equal(given.join(''), 'the cat');
  const letters = { decode: (ids: number[]) => String.fromCodePoint(...ids) };
  const chinese = new StreamDecoder(letters);
  assert.equal(chinese.put([0x4e2d]) + chinese.put([0x6587]), '中文');
});

test('a tokenizer.json that is written reads back the same', () => {
  for (const kind of kinds) {
    const tokenizer = openKind(kind);
    tokenizer.save(join(directory, `saved ${kind.name}`));
    const path = join(directory, `saved ${kind.name}`, 'tokenizer.json');
    assert.deepEqual(parseTokenizerJson(readFileSync(path, 'utf8'), path), tokenizer.file);
  }
});

test("T5's extra ids stand behind the pieces, and a spiece.model is saved as it was", () => {
  const tokenizer = openModel(models[0]!);
  const pieces = tokenizer.vocab_size - 100;
  assert.deepEqual([tokenizer.sentinels[0], tokenizer.sentinels[99]], [pieces + 99, pieces]);
  const ids = tokenizer.encode('the <extra_id_1> cat');
  assert.deepEqual([ids.includes(pieces + 98), ids.at(-1)], [true, 1]);
  assert.equal(tokenizer.decode(ids, { spaces_between_special_tokens: true }), 'the <extra_id_1> cat</s>');
  assert.equal(tokenizer.decode(ids, { skip_special_tokens: true }), 'the cat');
  const folder = join(directory, 'saved model');
  tokenizer.save(folder);
  assert.equal(openTokenizer(folder).hash, tokenizer.hash);
  assert.deepEqual(openTokenizer(folder).encode('the <extra_id_1> cat'), ids);
  writeFileSync(join(folder, 'tokenizer_config.json'), '{"legacy": false}');
  const modern = openTokenizer(folder).tokenize('the <extra_id_1>cat');
  assert.deepEqual(
    [modern.includes('▁c'), modern.includes('▁cat'), modern.join('').includes('>cat')],
    [false, false, true],
  );
});

test("T5's tokenizer with and without legacy is that of transformers 4", () => {
  const golden = read('t5_legacy.json') as Record<'legacy' | 'modern', LegacyCase[]> & { model: string };
  const model = models.find(({ name }) => name === golden.model)!;
  for (const kind of ['legacy', 'modern'] as const)
    for (const way of ways) {
      const tokenizer = openModel({ ...model, name: `t5 ${kind}` });
      tokenizer.save(join(directory, `t5 ${kind}`));
      const config = { tokenizer_class: 'T5Tokenizer', extra_ids: 100, legacy: kind === 'legacy' };
      writeFileSync(join(directory, `t5 ${kind}`, 'tokenizer_config.json'), JSON.stringify(config));
      const t5 = openTokenizer(join(directory, `t5 ${kind}`), way);
      for (const { text, ids, tokens, split, decoded, skipped } of golden[kind]) {
        const plain = { add_special_tokens: false };
        assert.deepEqual(t5.encode(text, plain), ids, JSON.stringify([kind, text]));
        assert.deepEqual(t5.tokenize(text), tokens, JSON.stringify([kind, text]));
        assert.deepEqual(
          t5.encode(text, { ...plain, split_special_tokens: true }),
          split,
          JSON.stringify([kind, text]),
        );
        const spaced = { spaces_between_special_tokens: true };
        assert.equal(t5.decode([...ids, t5.eos_token_id], spaced), decoded, JSON.stringify([kind, text]));
        const skipping = { ...spaced, skip_special_tokens: true };
        assert.equal(t5.decode([...ids, t5.eos_token_id], skipping), skipped, JSON.stringify([kind, text]));
      }
    }
});

test('calling a tokenizer pads, truncates, strides and says where tokens are from', () => {
  const tokenizer = openKind(kinds.find(({ name }) => name === 't5')!);
  const two = tokenizer(['the cat', 'the dog sleeps under the tree'], { padding: true });
  assert.deepEqual([...two.input_ids.dims], [2, tokenizer.encode('the dog sleeps under the tree').length]);
  const rows = two.attention_mask.tolist().map((row) => row.filter((bit) => bit === 1n).length);
  assert.deepEqual(rows, [tokenizer.encode('the cat').length, two.input_ids.dims[1]]);
  assert.throws(() => tokenizer(['the cat', 'the']), /UsageError: tokenizer: input_ids has rows of/);
  const text = 'the dog sleeps under the tree';
  const windows = tokenizer('the cat', {
    text_pair: text,
    truncation: 'only_second',
    max_length: 16,
    stride: 2,
    return_overflowing_tokens: true,
    return_offsets_mapping: true,
    return_tensor: false,
  });
  const ids = windows.input_ids as number[][];
  assert.ok(ids.length > 1);
  for (const row of ids.slice(0, -1)) assert.equal(row.length, 16);
  const covered = new Set<number>();
  (windows.offset_mapping as [number, number][][]).forEach((row, i) => {
    const sequences = windows.sequence_ids(i);
    row.forEach(([start, end], j) => {
      if (sequences[j] === 1) for (let at = start; at < end; at++) covered.add(at);
    });
  });
  for (let at = 0; at < text.length; at++) assert.ok(text[at] === ' ' || covered.has(at));
  assert.deepEqual(
    windows.overflow_to_sample_mapping,
    ids.map(() => 0),
  );
});

test('calling a tokenizer without asking where tokens are from gives the same, from C++', () => {
  const requests = [
    {},
    { padding: true },
    { padding: 'max_length', max_length: 12, truncation: true, padding_side: 'left' },
    { max_length: 5, truncation: true, truncation_side: 'left', padding: true, pad_to_multiple_of: 4 },
    { add_special_tokens: false, split_special_tokens: true },
  ] as const;
  for (const kind of kinds) {
    const tokenizer = openKind(kind);
    const texts = kind.cases.map(({ text }) => text);
    for (const request of requests) {
      if ('padding' in request && tokenizer.pad_token === undefined) continue;
      const plain = { ...request, return_tensor: false, return_token_type_ids: false } as const;
      const quick = tokenizer(texts, plain);
      const full = tokenizer(texts, { ...plain, return_offsets_mapping: true });
      assert.deepEqual(quick.input_ids, full.input_ids, kind.name);
      assert.deepEqual(quick.attention_mask, full.attention_mask, kind.name);
      assert.deepEqual(quick.word_ids(1), full.word_ids(1), kind.name);
    }
  }
});

const clusterParts = ['a', 'e', ' ', 'é', 'ß', '©', '中', '한', 'क', 'ا', '😀', '▁', '1', '\n', '\r', '\u0085']
  .concat(['\u0301', '\u0308', '\u064b', '\u093f', '\u094d', '\u0e33', '\u3099', '\u20e3', '\ufe0f', '\u200d'])
  .concat(['\u200b', '\u00ad', '\ufeff', '\u1100', '\u1161', '\u11a8', '\u{1f1eb}', '\u{1f3fb}', '\u0600', '\u0d4e'])
  .concat(['\u200c', '\u102b', '\u0488', '\uff9e', 'ﬁ', 'Å', '½', '\u2028']);
for (const name of ['t5', 'mt5'])
  test(`${name}: clusters of characters that join are cut alike in C++ and TypeScript`, () => {
    const kind = kinds.find((one) => one.name === name)!;
    const [native, typescript] = [openKind(kind), openKind(kind, { native: false })];
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...clusterParts), { maxLength: 12 }), (parts) => {
        const text = parts.join('');
        assert.deepEqual(native.encode(text), typescript.encode(text), JSON.stringify(text));
      }),
      { numRuns: 3000, seed: 7 },
    );
  });
