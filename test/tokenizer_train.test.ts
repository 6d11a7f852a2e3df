/** Training of Unigram vocabularies, the options of training, and the files that it writes. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { doubleArray } from '../src/tokenizer/double_array.ts';
import { charsmap, normalizationRules, normalizations } from '../src/tokenizer/normalization.ts';
import { Charsmap } from '../src/tokenizer/pipeline/charsmap.ts';
import { formatSentencePieceModel, ModelType, PieceType } from '../src/tokenizer/sentencepiece_model.ts';
import type { Tokenizer } from '../src/tokenizer/tokenizer.ts';
import { formatTokenizerJson, type UnigramModel } from '../src/tokenizer/tokenizer_json.ts';
import { trainTokenizer } from '../src/tokenizer/train.ts';
import type { TrainTokenizerOptions } from '../src/tokenizer/training_options.ts';
import { referenceUnigram } from './unigram_reference.ts';

/** Text with some structure: words of two syllables, seeded. */
function corpus(words: number, seed = 1): string {
  const syllables = ['ba', 'cor', 'di', 'en', 'fle', 'gou', 'hi', 'je', 'ka', 'lon', 'mé', 'nu'];
  let state = seed;
  const next = (limit: number) => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return Math.floor(((state >>> 8) / 2 ** 24) ** 2 * limit);
  };
  return Array.from({ length: words }, () => syllables[next(12)]! + syllables[next(12)]!).join(' ');
}

const small: TrainTokenizerOptions = {
  recipe: 't5',
  vocab_size: 60,
  sentinels: 3,
  normalization: 'identity',
  character_coverage: 1,
};

/** Pieces and scores that were learned: what stands behind the fixed tokens. */
function learned({ file: { model, added_tokens } }: Tokenizer): Map<string, number> {
  const fixed = new Set(added_tokens.map(({ content }) => content));
  return new Map((model as UnigramModel).vocab.filter(([piece]) => !fixed.has(piece) && !/^<0x/.test(piece)));
}

const bytesOf = (trained: Awaited<ReturnType<typeof trainTokenizer>>) =>
  formatTokenizerJson(trained.tokenizer.file) +
  (trained.sentencepiece ? formatSentencePieceModel(trained.sentencepiece).toString('base64') : '');

test('Unigram finds the pieces and probabilities of the definition', async () => {
  for (const [vocab_size, max_token_length] of [
    [400, 9],
    [60, 9],
    [45, 5],
    [28, 17],
  ] as const) {
    const text = corpus(3000, vocab_size);
    const words = new Map<string, number>();
    for (const word of text.split(' ')) words.set(`▁${word}`, (words.get(`▁${word}`) ?? 0) + 1);
    const expected = referenceUnigram(words, {
      room: vocab_size - 6,
      target: Math.trunc(vocab_size * 1.1),
      maxLength: max_token_length - 1,
      shrinking: 0.75,
      iterations: 2,
    });
    const { tokenizer } = await trainTokenizer({ ...small, vocab_size, max_token_length }, [text]);
    const found = learned(tokenizer);
    assert.deepEqual([...found.keys()].sort(), [...expected.keys()].sort(), `${vocab_size} pieces`);
    for (const [piece, score] of expected)
      if (!Number.isNaN(score))
        assert.ok(Math.abs(found.get(piece)! - score) < 2e-4, `${piece}: ${found.get(piece)}, expected ${score}`);
  }
});

test('characters that no likely segmentation uses get scores below all others', async () => {
  const { tokenizer } = await trainTokenizer({ ...small, vocab_size: 28 }, [corpus(150, 28)]);
  const scores = [...learned(tokenizer)];
  assert.deepEqual(
    scores.map(([, score]) => score),
    scores.map(([, score]) => score).sort((a, b) => b - a),
  );
  for (const character of new Set(`▁${corpus(150, 28).replaceAll(' ', '')}`))
    assert.notEqual(tokenizer.token_to_id(character), undefined, character);
});

test('the same bytes for any number of threads and any order of documents', async () => {
  const documents = Array.from({ length: 40 }, (_, i) => `${corpus(200, i + 1)}\n`);
  for (const model of ['unigram', 'bpe'] as const) {
    const train = async (threads: number, texts: string[]) =>
      bytesOf(await trainTokenizer({ ...small, model, vocab_size: 150, threads }, texts));
    const one = await train(1, documents);
    for (const threads of [1, 2, 5]) assert.equal(await train(threads, documents), one);
    assert.equal(await train(3, documents.toReversed()), one);
    assert.equal(await train(2, [documents.join('')]), one);
  }
});

test('a spiece.model has the pieces, scores and types of the tokenizer.json', async () => {
  const options = { special_tokens: ['[R]'], user_symbols: ['<br>'], byte_fallback: true, vocab_size: 330 };
  const { tokenizer, sentencepiece } = await trainTokenizer({ ...small, ...options }, [corpus(300)]);
  const { pieces, trainer_spec, normalizer_spec } = sentencepiece!;
  const { vocab } = tokenizer.file.model as UnigramModel;
  assert.deepEqual(
    pieces.map(({ piece, score }) => [piece, score]),
    vocab.slice(0, -3),
  );
  const { CONTROL, UNKNOWN, USER_DEFINED, BYTE, NORMAL } = PieceType;
  assert.deepEqual(
    pieces.slice(0, 6).map(({ piece, type }) => [piece, type]),
    [
      ['<pad>', CONTROL],
      ['</s>', CONTROL],
      ['<unk>', UNKNOWN],
      ['[R]', CONTROL],
      ['<br>', USER_DEFINED],
      ['<0x00>', BYTE],
    ],
  );
  assert.equal(pieces[5 + 256]!.type, NORMAL);
  assert.deepEqual(
    [trainer_spec.model_type, trainer_spec.pad_id, trainer_spec.eos_id, trainer_spec.unk_id, trainer_spec.bos_id],
    [ModelType.UNIGRAM, 0, 1, 2, -1],
  );
  assert.equal(normalizer_spec.name, 'identity');
  assert.deepEqual(tokenizer.sentinels, [329, 328, 327]);
});

test("sentencepiece's BPE joins whatever makes a known piece; its merges say so", async () => {
  const { tokenizer, sentencepiece } = await trainTokenizer({ ...small, model: 'bpe', vocab_size: 80 }, [corpus(300)]);
  const { model } = tokenizer.file;
  assert.ok(model.type === 'BPE');
  const ids = sentencepiece!.pieces.map(({ piece }) => piece);
  assert.deepEqual(ids, [...model.vocab.keys()].slice(0, -3));
  assert.equal(sentencepiece!.trainer_spec.model_type, ModelType.BPE);
  const known = new Set(ids);
  const ways = ids
    .filter((piece) => piece.length > 1 && !/^<.*>$/.test(piece))
    .flatMap((piece) =>
      Array.from({ length: piece.length - 1 }, (_, i) => [piece.slice(0, i + 1), piece.slice(i + 1)]),
    );
  const possible = ways.filter(([left, right]) => known.has(left!) && known.has(right!));
  assert.deepEqual(model.merges.map(String).sort(), possible.map(String).sort());
  const scores = sentencepiece!.pieces.filter(({ type }) => type === PieceType.NORMAL).map(({ score }) => score);
  assert.deepEqual(
    scores,
    scores.map((_, rank) => (rank === 0 ? 0 : -rank)),
  );
});

test('words are cut where writing systems change, around digits and symbols', async () => {
  const pieces = async (text: string, options: TrainTokenizerOptions = {}) => {
    const { tokenizer } = await trainTokenizer({ ...small, vocab_size: 200, ...options }, [`${text}\n`.repeat(9)]);
    return [...learned(tokenizer).keys()];
  };
  const text = 'abc123abc東京かなabc1,5<br>abc ab<br>c';
  const plain = await pieces(text);
  for (const piece of ['▁abc', '123', '東京かな', '1,5<']) assert.ok(plain.includes(piece), piece);
  assert.ok(!plain.some((piece) => /[a-z]\d|\d[a-z]|[a-z]東|な[a-z]|.▁/.test(piece)), plain.join(' '));
  assert.ok(!(await pieces(text, { split_digits: true })).some((piece) => /\d/.test(piece) && piece.length > 1));
  assert.ok((await pieces('ab12', { split_by_number: false })).includes('▁ab12'));
  assert.ok((await pieces('ab東', { split_by_unicode_script: false })).includes('▁ab東'));
  assert.ok((await pieces('a b', { split_by_whitespace: false })).includes('▁a▁b'));
  const symbols = await pieces(text, { user_symbols: ['<br>'] });
  assert.ok(!symbols.some((piece) => piece.includes('<')));
  assert.ok(symbols.includes('c') && symbols.includes('▁ab'));
});

test('normalisation is applied before words are counted', async () => {
  const { tokenizer } = await trainTokenizer({ ...small, normalization: 'nmt_nfkc_cf', vocab_size: 40 }, [
    'ﬁn ﬁn\u200bﬁn ＦＩＮ\ncafe\u0301 CAFÉ\tcafé',
  ]);
  assert.deepEqual(
    ['▁fin', '▁café'].map((piece) => tokenizer.token_to_id(piece) !== undefined),
    [true, true],
  );
  assert.deepEqual(tokenizer.encode('Ｆin  CAFÉ'), tokenizer.encode('fin café'));
});

test('a byte-level vocabulary spells everything without an unknown token', async () => {
  const { tokenizer, sentencepiece } = await trainTokenizer({ byte_level: true, vocab_size: 540, sentinels: 4 }, [
    corpus(500),
  ]);
  assert.equal(sentencepiece, undefined);
  assert.notEqual(tokenizer.token_to_id('Ġcor'), undefined);
  for (const text of [corpus(5), '東京\n\t 🙂 é\u0000'])
    assert.equal(tokenizer.decode(tokenizer.encode(text, { add_special_tokens: false })), text);
});

test('digits are split by the pattern of BPE too', async () => {
  const options = { pattern: '\\p{L}+|\\p{N}+|[^\\s\\p{L}\\p{N}]+|\\s+', vocab_size: 600, sentinels: 4 };
  const digits = async (split_digits: boolean) => {
    const { tokenizer } = await trainTokenizer({ ...options, split_digits }, ['12 12 12']);
    return tokenizer.token_to_id('12') !== undefined;
  };
  assert.deepEqual([await digits(false), await digits(true)], [true, false]);
});

/** Of all rules, from and to, sorted: equal to those in the models of sentencepiece 0.2.2. */
const hashes: Record<string, string> = {
  nmt_nfkc: '24ce345f6c753145',
  nfkc: '900f821aa23ecb88',
  nmt_nfkc_cf: 'd29718360bb0c9c9',
  nfkc_cf: '4592d4678e822a39',
};

test("the rules of normalisation are sentencepiece's", () => {
  for (const name of normalizations) {
    if (name === 'identity') continue;
    const rules = [...normalizationRules(name)].map(([from, to]) => `${from}\0${to}\0`).sort();
    assert.equal(createHash('sha256').update(rules.join('')).digest('hex').slice(0, 16), hashes[name], name);
  }
});

test('a charsmap finds every rule, and nothing for other characters', () => {
  const rules = normalizationRules('nmt_nfkc');
  const map = new Charsmap(charsmap('nmt_nfkc'), 'nmt_nfkc');
  for (const [from, to] of rules) {
    const bytes = Buffer.from(from);
    assert.deepEqual(map.longest(bytes, 0), { length: bytes.length, replacement: to }, from);
  }
  for (let c = 1; c < 0x30000; c += 7) {
    const character = String.fromCodePoint(c);
    if ((c < 0xd800 || c >= 0xe000) && !rules.has(character))
      assert.equal(map.longest(Buffer.from(character), 0), undefined, c.toString(16));
  }
  assert.equal(charsmap('identity').length, 0);
});

test('a double array holds its strings and no others', () => {
  const strings = fc.uniqueArray(fc.uint8Array({ min: 1, max: 255, minLength: 1, maxLength: 6 }), {
    minLength: 1,
    maxLength: 60,
    selector: String,
  });
  fc.assert(
    fc.property(strings, fc.uint8Array({ min: 1, max: 255, minLength: 1, maxLength: 6 }), (list, other) => {
      const sorted = list.toSorted(Buffer.compare);
      const units = doubleArray(
        sorted,
        sorted.map((_, i) => i * 3),
      );
      const offset = (unit: number) => (unit >>> 10) << ((unit & 512) >>> 6);
      const find = (string: Uint8Array) => {
        let at = offset(units[0]!);
        let ends = false;
        for (const byte of string) {
          const unit = units[at ^ byte]!;
          if ((unit & 0x800000ff) !== byte) return undefined;
          at = at ^ byte ^ offset(unit);
          ends = (unit & 256) !== 0;
        }
        return ends ? units[at]! & 0x7fffffff : undefined;
      };
      sorted.forEach((string, i) => {
        assert.equal(find(string), i * 3);
      });
      if (!sorted.some((string) => Buffer.compare(string, other) === 0)) assert.equal(find(other), undefined);
    }),
    { seed: 5, numRuns: 200 },
  );
});

test('what cannot be trained says what is possible', async () => {
  const reject = (options: TrainTokenizerOptions, texts: (string | Uint8Array)[], expected: RegExp) =>
    assert.rejects(trainTokenizer({ ...small, ...options }, texts), (error: Error) => {
      assert.match(error.message, expected);
      return error.name === 'UsageError';
    });
  await reject({}, [], /no text in 0 documents/);
  await reject({}, [' \n  '], /no text besides spaces/);
  await reject({ vocab_size: 10 }, [corpus(20)], /room for 4 pieces, expected at least the 1\d characters/);
  await reject({ vocab_size: 6 }, ['a'], /vocab_size is 6, expected more than the 6 fixed tokens/);
  await reject({ vocab_size: 2 ** 40 }, ['a'], /vocab_size/);
  await reject({ shrinking_factor: 1 }, ['a'], /shrinking_factor/);
  await reject({ pattern: '\\s+' }, ['a'], /pattern is for BPE, model is unigram/);
  await reject({ byte_level: true }, ['a'], /byte_level is for BPE with a pattern/);
  const { tokenizer, notes } = await trainTokenizer({ ...small, vocab_size: 5000 }, ['la la lo la']);
  assert.match(notes[0]!, new RegExp(`^vocabulary of ${tokenizer.vocab_size} pieces instead of 5000: the largest`));
});

test('bytes that are not UTF-8 cut words and are in no piece', async () => {
  const { tokenizer } = await trainTokenizer(small, [Buffer.from('abab\xffabab\xc3 abab', 'latin1')]);
  assert.ok([...learned(tokenizer).keys()].every((piece) => /^[▁ab]+$/.test(piece)));
});

test('a million times one letter, and a million letters without a space, take time in proportion', {
  timeout: 20_000,
}, async () => {
  const random = corpus(120_000).replaceAll(' ', '');
  for (const text of ['a'.repeat(1e6), random]) {
    const { tokenizer } = await trainTokenizer({ ...small, vocab_size: 30 }, [text]);
    assert.ok(tokenizer.vocab_size <= 30);
    const total = [...learned(tokenizer).values()].reduce((sum, score) => sum + Math.exp(score), 0);
    assert.ok(total > 0 && total < 1.001, `probabilities sum to ${total}`);
  }
});

test('seeds, minimum frequency and coverage limit what is learned', async () => {
  const text = corpus(400);
  const count = async (options: TrainTokenizerOptions) =>
    learned((await trainTokenizer({ ...small, vocab_size: 1000, ...options }, [text])).tokenizer).size;
  const all = await count({});
  assert.ok((await count({ seed_size: 40 })) <= 40);
  assert.ok((await count({ min_frequency: 20 })) < all);
  const { statistics } = await trainTokenizer({ ...small, character_coverage: 0.8 }, [text]);
  assert.ok(statistics.alphabet < statistics.distinctCharacters);
});
