/** Tokenizers against goldens of Hugging Face tokenizers (golden/tokenizer_bpe.json says which), and their properties. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { AutoTokenizer } from '../src/tokenizer/auto_tokenizer.ts';
import { ENGLISH_PATTERN } from '../src/tokenizer/patterns.ts';
import type { Tokenizer } from '../src/tokenizer/tokenizer.ts';
import { type BpeModel, formatTokenizerJson } from '../src/tokenizer/tokenizer_json.ts';
import { trainTokenizer } from '../src/tokenizer/train.ts';
import { UsageError } from '../src/util/errors.ts';

interface Golden {
  corpus: string[];
  vocab_size: number;
  alphabet: string[];
  merges: [string, string][];
  texts: { text: string; ids: number[]; decoded: string }[];
  english: {
    corpus: string[];
    vocab_size: number;
    merges: [string, string][];
    texts: { text: string; ids: number[] }[];
  };
}
const golden = JSON.parse(
  readFileSync(new URL('../../test/golden/tokenizer_bpe.json', import.meta.url), 'utf8'),
) as Golden;

const settings = {
  vocab_size: golden.vocab_size,
  sentinels: 4,
  min_frequency: 0,
  max_token_length: 8,
  character_coverage: 1,
} as const;

let tokenizer: Tokenizer;
function bpeOf({ file: { model } }: Tokenizer): BpeModel {
  assert.equal(model.type, 'BPE');
  return model as BpeModel;
}
let directory: string;
before(async () => {
  ({ tokenizer } = await trainTokenizer(settings, golden.corpus));
  directory = mkdtempSync(join(tmpdir(), 'fat5-tokenizer-'));
});
after(() => {
  tokenizer.dispose();
  rmSync(directory, { recursive: true });
});

test('training finds the alphabet and the merges of Hugging Face, in their order', () => {
  const { vocab, merges } = bpeOf(tokenizer);
  assert.deepEqual(merges, golden.merges);
  const pieces = [...vocab.keys()];
  assert.deepEqual(pieces.slice(14 + 256, 14 + 256 + golden.alphabet.length), golden.alphabet);
  assert.equal(vocab.size, golden.vocab_size);
});

test('ids and decoded text are those of Hugging Face', () => {
  for (const { text, ids, decoded } of golden.texts) {
    assert.deepEqual(tokenizer.encode(text), ids, JSON.stringify(text));
    assert.equal(tokenizer.decode(ids.slice(0, -1)), decoded, JSON.stringify(text));
  }
});

test("FAT5's English pattern cuts as Hugging Face does", async () => {
  const { corpus, vocab_size, merges, texts } = golden.english;
  const { tokenizer: english } = await trainTokenizer({ ...settings, pattern: ENGLISH_PATTERN, vocab_size }, corpus);
  assert.deepEqual(bpeOf(english).merges, merges);
  for (const { text, ids } of texts)
    assert.deepEqual(english.encode(text, { add_special_tokens: false }), ids, JSON.stringify(text));
});

test('special tokens have the ids of the recipe', async () => {
  const { tokenizer: t5 } = await trainTokenizer(
    { ...settings, recipe: 't5', special_tokens: ['[R]', '[S]'] },
    golden.corpus,
  );
  assert.deepEqual([tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id], [4, 2, 6]);
  assert.equal(tokenizer.decoder_start_token_id, 4);
  assert.deepEqual(tokenizer.sentinels, [7, 8, 9, 10]);
  assert.deepEqual(tokenizer.modeTokens, { R: 11, S: 12, X: 13 });
  assert.equal(tokenizer.id_to_token(14), '<0x00>');
  assert.equal(tokenizer.token_to_id('<0xFF>'), 14 + 255);
  const n = t5.vocab_size;
  assert.deepEqual([t5.pad_token_id, t5.eos_token_id, t5.unk_token_id, t5.decoder_start_token_id], [0, 1, 2, 0]);
  assert.deepEqual(t5.sentinels, [n - 1, n - 2, n - 3, n - 4]);
  assert.deepEqual(t5.encode('[R]', { add_special_tokens: false }), [3]);
  assert.equal(t5.modeTokens, undefined);
  assert.notEqual(t5.hash, tokenizer.hash);
});

test('the number of threads changes neither vocabulary nor ids', async () => {
  const corpus = Array.from(
    { length: 300 },
    (_, i) => golden.texts[i % golden.texts.length]!.text + golden.corpus[i % 6],
  );
  const [one, many] = await Promise.all(
    [1, 5].map(async (threads) => (await trainTokenizer({ ...settings, threads }, corpus)).tokenizer),
  );
  assert.equal(formatTokenizerJson(one!.file), formatTokenizerJson(many!.file));
  const alone = one!.encodeBatch(corpus, { threads: 1 });
  assert.deepEqual(many!.encodeBatch(corpus, { threads: 5 }), alone);
  corpus.forEach((text, i) => {
    assert.deepEqual([...alone.ids.subarray(alone.offsets[i], alone.offsets[i + 1])], one!.encode(text));
  });
});

test('strings and bytes, one document or many in any order of calls, count the same', async () => {
  const bytes = golden.corpus.map((text) => new TextEncoder().encode(text));
  async function* streamed() {
    yield* bytes.toReversed();
  }
  const { tokenizer: other, statistics } = await trainTokenizer(settings, streamed());
  assert.deepEqual(other.file, tokenizer.file);
  assert.equal(statistics.documents, golden.corpus.length);
  assert.equal(
    statistics.bytes,
    bytes.reduce((sum, b) => sum + b.length, 0),
  );
});

test('decoding gives back every well-formed text', () => {
  const text = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 80 }),
    fc.string({ unit: fc.constantFrom(...'aeélt 1\n\r\t\u00a0\u2028!😀\u0301'), maxLength: 80 }),
    fc.string({
      unit: fc.constantFrom('<s>', '</s>', '[R]', '<0x0A>', '<0xE9>', 'le ', ' ', '<extra_id_2>'),
      maxLength: 9,
    }),
  );
  fc.assert(
    fc.property(text, fc.boolean(), (text, split_special_tokens) => {
      const ids = tokenizer.encode(text, { add_special_tokens: false, split_special_tokens });
      assert.equal(tokenizer.decode(ids), text);
    }),
    { numRuns: 500, seed: 1 },
  );
});

test('lone surrogates count as U+FFFD, bytes that are not UTF-8 as byte tokens', () => {
  assert.deepEqual(tokenizer.encode('a\ud800b'), tokenizer.encode('a\ufffdb'));
  const byte = (b: number) => tokenizer.token_to_id(`<0x${b.toString(16).toUpperCase()}>`)!;
  const ids = tokenizer.encodeBytes(Uint8Array.of(0xff, 0xc3, 0x61, 0xe2, 0x82), { add_special_tokens: false });
  assert.deepEqual([...ids], [byte(0xff), byte(0xc3), tokenizer.token_to_id('a'), byte(0xe2), byte(0x82)]);
});

test('arbitrary bytes come back from their ids', () => {
  const bytesOf = (ids: Iterable<number>) =>
    [...ids].flatMap((id) => {
      const piece = tokenizer.id_to_token(id)!;
      return /^<0x..>$/.test(piece) ? [Number.parseInt(piece.slice(3), 16)] : [...new TextEncoder().encode(piece)];
    });
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
      assert.deepEqual(bytesOf(tokenizer.encodeBytes(bytes, { add_special_tokens: false })), [...bytes]);
    }),
    { numRuns: 500, seed: 2 },
  );
});

test('special tokens in a text are text when asked for', () => {
  const [s] = tokenizer.encode('<s>', { add_special_tokens: false });
  assert.equal(s, 1);
  const ids = tokenizer.encode('<s>', { add_special_tokens: false, split_special_tokens: true });
  assert.deepEqual(ids.map((id) => tokenizer.id_to_token(id)).join(''), '<0x3C>s<0x3E>');
  assert.equal(tokenizer.decode([1, ...ids, 2], { skip_special_tokens: true }), '<s>');
});

test('a million characters without a boundary take time in proportion', { timeout: 20_000 }, () => {
  for (const unit of ['a', ' ', 'e\u0301', '👨‍👩‍👧', '\n', '中'])
    assert.equal(
      tokenizer.decode(tokenizer.encode(unit.repeat(1e6 / unit.length), { add_special_tokens: false })).length,
      Math.floor(1e6 / unit.length) * unit.length,
    );
});

test('a saved tokenizer opens again from its folder and from its file', async () => {
  tokenizer.save(join(directory, 'saved'));
  for (const path of [join(directory, 'saved'), join(directory, 'saved/tokenizer.json')]) {
    const opened = await AutoTokenizer.from_pretrained(path);
    assert.deepEqual(opened.file, tokenizer.file);
    assert.deepEqual(opened.special, tokenizer.special);
    assert.equal(opened.hash, tokenizer.hash);
    assert.deepEqual(opened.encode('Le chat <extra_id_1>'), tokenizer.encode('Le chat <extra_id_1>'));
    opened.dispose();
    opened.dispose();
    assert.throws(() => opened.encode('x'), UsageError);
  }
});

test('a worker thread encodes alike', async () => {
  tokenizer.save(join(directory, 'worker'));
  const module = new URL('../src/tokenizer/auto_tokenizer.js', import.meta.url).href;
  writeFileSync(
    join(directory, 'worker.mjs'),
    `import { parentPort, workerData } from 'node:worker_threads';
const { AutoTokenizer } = await import(workerData.module);
parentPort.postMessage((await AutoTokenizer.from_pretrained(workerData.path)).encode(workerData.text));`,
  );
  const text = golden.corpus.join('');
  const worker = new Worker(join(directory, 'worker.mjs'), {
    workerData: { module, path: join(directory, 'worker'), text },
  });
  const ids = await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
  assert.deepEqual(ids, tokenizer.encode(text));
});

test('a vocabulary that the text cannot fill is a note, no text or too small a vocabulary an error', async () => {
  const { tokenizer: small, notes } = await trainTokenizer({ ...settings, vocab_size: 32768, min_frequency: 2 }, [
    'la la la',
  ]);
  assert.equal(small.vocab_size, 14 + 256 + 3 + 2);
  assert.match(notes[0]!, /^vocabulary of 275 pieces instead of 32768/);
  await assert.rejects(trainTokenizer(settings, []), /UsageError: .*no text in 0 documents/);
  await assert.rejects(trainTokenizer(settings, ['', '']), /no text in 2 documents/);
  await assert.rejects(
    trainTokenizer({ vocab_size: 500 }, ['a']),
    /vocab_size is 500, expected more than the 522 fixed tokens/,
  );
  await assert.rejects(trainTokenizer({ vocab_sizes: 500 } as never, ['a']), /vocab_sizes/);
  await assert.rejects(trainTokenizer({ pattern: '\\w+' }, ['a']), /alternative "\\w\+" is not supported/);
});

test('the alphabet keeps the most frequent characters; the others become bytes', async () => {
  const corpus = ['aaaa bbb cc d é'];
  const { tokenizer: limited } = await trainTokenizer({ ...settings, limit_alphabet: 3 }, corpus);
  assert.deepEqual(
    [' ', 'a', 'b'].map((c) => limited.token_to_id(c)),
    [270, 271, 272],
  );
  assert.equal(limited.token_to_id('c'), undefined);
  assert.equal(limited.decode(limited.encode(corpus[0]!), { skip_special_tokens: true }), corpus[0]);
  const { statistics } = await trainTokenizer({ ...settings, character_coverage: 0.5 }, corpus);
  assert.equal(statistics.distinctCharacters, 6);
  assert.equal(statistics.alphabet, 2);
});

test('invalid bytes in a corpus are left out of the vocabulary', async () => {
  const { tokenizer: t } = await trainTokenizer(settings, [Uint8Array.of(97, 98, 0xff, 97, 98, 0xc3)]);
  assert.deepEqual(bpeOf(t).merges, [['a', 'b']]);
});

test('letters, numbers and spaces are those of the JavaScript engine, but for the newest characters', () => {
  const header = readFileSync(new URL('../../src/tokenizer/unicode_table.h', import.meta.url), 'utf8');
  const changes = [...header.matchAll(/0x([0-9a-f]+)/g)].map(([, hex]) => Number.parseInt(hex!, 16));
  const classes = [/\P{Any}/u, /\p{L}/u, /\p{N}/u, /\p{White_Space}/u];
  const differing: number[] = [];
  for (let c = 0, now = 0; c < 0x110000; c++) {
    if (changes[0]! >> 2 === c) now = changes.shift()! & 3;
    const character = String.fromCodePoint(c);
    if (Math.max(...classes.map((pattern, i) => (pattern.test(character) ? i : 0))) !== now) differing.push(c);
  }
  assert.equal(changes.length, 0);
  assert.ok(differing.length < 6000, `${differing.length} characters differ`);
  assert.deepEqual(
    differing.filter((c) => c < 0x870),
    [],
  );
});
