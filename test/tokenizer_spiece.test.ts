/** spiece.model as a file: what is written reads back, and damage is one clear error. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  defaultNormalizerSpec,
  defaultTrainerSpec,
  formatSentencePieceModel,
  ModelType,
  PieceType,
  parseSentencePieceModel,
  type SentencePieceModel,
} from '../src/tokenizer/sentencepiece_model.ts';
import { FormatError } from '../src/util/errors.ts';

function small(): SentencePieceModel {
  return {
    pieces: [
      { piece: '<pad>', score: 0, type: PieceType.CONTROL },
      { piece: '</s>', score: 0, type: PieceType.CONTROL },
      { piece: '<unk>', score: 0, type: PieceType.UNKNOWN },
      { piece: '▁é😀', score: -1.5, type: PieceType.NORMAL },
      { piece: '<0x0A>', score: 0, type: PieceType.BYTE },
      { piece: '[R]', score: 0, type: PieceType.USER_DEFINED },
    ],
    trainer_spec: {
      ...defaultTrainerSpec(),
      model_type: ModelType.BPE,
      input: ['a.txt', 'b.txt'],
      pad_id: 0,
      bos_id: -1,
      character_coverage: 0.5,
      split_by_number: false,
      input_sentence_size: 2 ** 40,
      unk_surface: '?',
    },
    normalizer_spec: { ...defaultNormalizerSpec(), name: 'nfkc', precompiled_charsmap: Buffer.from([1, 2, 255]) },
    denormalizer_spec: defaultNormalizerSpec(),
  };
}

test('a model reads back as it was written', () => {
  const model = small();
  assert.deepEqual(parseSentencePieceModel(formatSentencePieceModel(model), 'a.model'), model);
});

test('the bytes are those of the protobuf encoding', () => {
  const model = { ...small(), pieces: [{ piece: 'é', score: -1.5, type: PieceType.UNKNOWN }] };
  model.trainer_spec = { ...defaultTrainerSpec(), bos_id: -1, vocab_size: 300 };
  model.normalizer_spec = { ...defaultNormalizerSpec(), add_dummy_prefix: false };
  assert.equal(
    formatSentencePieceModel(model).toString('hex'),
    '0a0b0a02c3a9150000c0bf1802' + '120f20ac02c802ffffffffffffffffff01' + '1a021800',
  );
});

test('a damaged model is refused with its name', () => {
  const bytes = formatSentencePieceModel(small());
  const message = (change: (model: SentencePieceModel) => void) => {
    const model = small();
    change(model);
    return () => parseSentencePieceModel(formatSentencePieceModel(model), 'a.model');
  };
  const refused: [RegExp, () => unknown][] = [
    [
      /a\.model: a field of 14 bytes where 12 are left/,
      () => parseSentencePieceModel(bytes.subarray(0, 14), 'a.model'),
    ],
    [/a\.model: 0 pieces without an unknown one/, () => parseSentencePieceModel(Buffer.alloc(0), 'a.model')],
    [/wire type/, () => parseSentencePieceModel(Buffer.from('{"model": {}}'), 'a.model')],
    [/piece 3 is "<unk>" again/, message((m) => Object.assign(m.pieces[3]!, { piece: '<unk>' }))],
    [/piece 3 is empty/, message((m) => Object.assign(m.pieces[3]!, { piece: '' }))],
    [/piece 3 has the score NaN/, message((m) => Object.assign(m.pieces[3]!, { score: Number.NaN }))],
    [/piece 3 is a second unknown piece/, message((m) => Object.assign(m.pieces[3]!, { type: PieceType.UNKNOWN }))],
    [/a piece of type 9/, message((m) => Object.assign(m.pieces[3]!, { type: 9 }))],
    [/piece 4 is "x" for a byte/, message((m) => Object.assign(m.pieces[4]!, { piece: 'x' }))],
  ];
  for (const [expected, run] of refused)
    assert.throws(run, (error) => error instanceof FormatError && expected.test(error.message), String(expected));
});

test('any damage is a FormatError or another model, never anything else', () => {
  const bytes = formatSentencePieceModel(small());
  const attempt = (damaged: Uint8Array) => {
    try {
      parseSentencePieceModel(damaged, 'a.model');
    } catch (error) {
      assert.ok(error instanceof FormatError, String(error));
    }
  };
  for (let i = 0; i < bytes.length; i++) {
    attempt(bytes.subarray(0, i));
    for (const flip of [1, 0x80, 0xff]) {
      const damaged = Buffer.from(bytes);
      damaged[i]! ^= flip;
      attempt(damaged);
    }
  }
});
