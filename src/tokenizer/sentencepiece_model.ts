/**
 * spiece.model: the file of a sentencepiece vocabulary, to an object and back.
 * Source: google/sentencepiece, sentencepiece_model.proto (field numbers and defaults).
 */
import { FormatError } from '../util/errors.ts';
import { once } from '../util/once.ts';
import { NativeVocabulary } from './native_vocabulary.ts';
import { type Fields, type Message, ProtobufReader, ProtobufWriter, readMessage, writeMessage } from './protobuf.ts';
import { stringVocabulary, type Vocabulary } from './vocabulary.ts';

/** What a piece is for. */
export const PieceType = { NORMAL: 1, UNKNOWN: 2, CONTROL: 3, USER_DEFINED: 4, UNUSED: 5, BYTE: 6 } as const;
export type PieceType = (typeof PieceType)[keyof typeof PieceType];

export const ModelType = { UNIGRAM: 1, BPE: 2, WORD: 3, CHAR: 4 } as const;

export interface SentencePiece {
  piece: string;
  /** Unigram: log probability; BPE: minus the rank of the merge that makes it. Rounded to float32 when written. */
  score: number;
  type: PieceType;
}

const trainerFields = {
  input: [1, 'strings', []],
  input_format: [7, 'string', ''],
  model_prefix: [2, 'string', ''],
  /** A value of ModelType. */
  model_type: [3, 'int', ModelType.UNIGRAM],
  vocab_size: [4, 'int', 8000],
  accept_language: [5, 'strings', []],
  self_test_sample_size: [6, 'int', 0],
  enable_differential_privacy: [50, 'bool', false],
  differential_privacy_noise_level: [51, 'float', 0],
  differential_privacy_clipping_threshold: [52, 'int', 0],
  character_coverage: [10, 'float', Math.fround(0.9995)],
  input_sentence_size: [11, 'int', 0],
  shuffle_input_sentence: [19, 'bool', true],
  mining_sentence_size: [12, 'int', 0],
  training_sentence_size: [13, 'int', 0],
  seed_sentencepiece_size: [14, 'int', 1000000],
  shrinking_factor: [15, 'float', 0.75],
  max_sentence_length: [18, 'int', 4192],
  num_threads: [16, 'int', 16],
  num_sub_iterations: [17, 'int', 2],
  max_sentencepiece_length: [20, 'int', 16],
  split_by_unicode_script: [21, 'bool', true],
  split_by_number: [23, 'bool', true],
  split_by_whitespace: [22, 'bool', true],
  treat_whitespace_as_suffix: [24, 'bool', false],
  allow_whitespace_only_pieces: [26, 'bool', false],
  split_digits: [25, 'bool', false],
  pretokenization_delimiter: [53, 'string', ''],
  control_symbols: [30, 'strings', []],
  user_defined_symbols: [31, 'strings', []],
  required_chars: [36, 'string', ''],
  byte_fallback: [35, 'bool', false],
  vocabulary_output_piece_score: [32, 'bool', true],
  hard_vocab_limit: [33, 'bool', true],
  use_all_vocab: [34, 'bool', false],
  unk_id: [40, 'int', 0],
  bos_id: [41, 'int', 1],
  eos_id: [42, 'int', 2],
  pad_id: [43, 'int', -1],
  unk_piece: [45, 'string', '<unk>'],
  bos_piece: [46, 'string', '<s>'],
  eos_piece: [47, 'string', '</s>'],
  pad_piece: [48, 'string', '<pad>'],
  /** What an unknown piece decodes to. */
  unk_surface: [44, 'string', ' \u2047 '],
  train_extremely_large_corpus: [49, 'bool', false],
  seed_sentencepieces_file: [54, 'string', ''],
} as const satisfies Fields;

const normalizerFields = {
  name: [1, 'string', ''],
  /** Rules as a double-array trie with a table of replacements (charsmap.h); empty: none. */
  precompiled_charsmap: [2, 'bytes', new Uint8Array()],
  add_dummy_prefix: [3, 'bool', true],
  remove_extra_whitespaces: [4, 'bool', true],
  escape_whitespaces: [5, 'bool', true],
  normalization_rule_tsv: [6, 'string', ''],
} as const satisfies Fields;

export type TrainerSpec = Message<typeof trainerFields>;
export type NormalizerSpec = Message<typeof normalizerFields>;

/** Id of a piece: its place in `pieces`. */
export interface SentencePieceModel {
  pieces: SentencePiece[];
  trainer_spec: TrainerSpec;
  normalizer_spec: NormalizerSpec;
  /** Rules for decoded text; without rules there is nothing to do. */
  denormalizer_spec: NormalizerSpec;
}

const defaultsOf = <F extends Fields>(fields: F) => readMessage(new ProtobufReader(Buffer.alloc(0), ''), fields);
/** What sentencepiece takes for a specification that says nothing. */
export const defaultTrainerSpec = (): TrainerSpec => defaultsOf(trainerFields);
export const defaultNormalizerSpec = (): NormalizerSpec => defaultsOf(normalizerFields);

/** More pieces than any vocabulary has are taken for damage. */
const PIECE_LIMIT = 1 << 22;

/**
 * Reads the bytes of a spiece.model; `path` is for messages.
 * @throws FormatError naming file and what is wrong: no protobuf, no or duplicate pieces, not one unknown piece
 */
export function parseSentencePieceModel(bytes: Uint8Array, path: string): SentencePieceModel {
  const model = readFields(bytes, path);
  checkPieces(model.pieces, path);
  return model;
}

/** The same, with the pieces in native memory where they can be; their strings are made when asked for. */
export function openSentencePieceModel(bytes: Uint8Array, path: string): SentencePieceModel {
  const read = NativeVocabulary.readSentencePiece(bytes);
  if (!read) return parseSentencePieceModel(bytes, path);
  const { vocabulary } = read;
  const model = readFields(read.rest, path);
  const pieces = once(() =>
    Array.from(vocabulary.types, (type, id) => ({
      piece: vocabulary.pieceOf(id)!,
      score: vocabulary.scores[id]!,
      type: type as PieceType,
    })),
  );
  Object.defineProperty(model, 'pieces', { get: pieces, enumerable: true });
  columns.set(model, vocabulary);
  return model;
}

function readFields(bytes: Uint8Array, path: string): SentencePieceModel {
  const reader = new ProtobufReader(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength), path);
  const pieces: SentencePiece[] = [];
  let trainer_spec: TrainerSpec | undefined;
  let normalizer_spec: NormalizerSpec | undefined;
  let denormalizer_spec: NormalizerSpec | undefined;
  while (reader.next()) {
    if (reader.field === 1) pieces.push(readPiece(reader.message()));
    else if (reader.field === 2) trainer_spec = readMessage(reader.message(), trainerFields);
    else if (reader.field === 3) normalizer_spec = readMessage(reader.message(), normalizerFields);
    else if (reader.field === 5) denormalizer_spec = readMessage(reader.message(), normalizerFields);
    else reader.skip();
    if (pieces.length > PIECE_LIMIT)
      throw new FormatError(`${path}: more than ${PIECE_LIMIT} pieces, expected a sentencepiece model`);
  }
  return {
    pieces,
    trainer_spec: trainer_spec ?? defaultTrainerSpec(),
    normalizer_spec: normalizer_spec ?? defaultNormalizerSpec(),
    denormalizer_spec: denormalizer_spec ?? defaultNormalizerSpec(),
  };
}

function readPiece(reader: ProtobufReader): SentencePiece {
  const found: SentencePiece = { piece: '', score: 0, type: PieceType.NORMAL };
  while (reader.next()) {
    if (reader.field === 1) found.piece = reader.string();
    else if (reader.field === 2) found.score = reader.float();
    else if (reader.field === 3) {
      const type = reader.int();
      if (type < PieceType.NORMAL || type > PieceType.BYTE) throw reader.damaged(`a piece of type ${type}`);
      found.type = type as PieceType;
    } else reader.skip();
  }
  return found;
}

/** A model's pieces by what is asked of all of them. */
export interface PieceColumns extends Vocabulary {
  /** By id. */
  readonly scores: Float64Array;
  readonly types: Uint8Array;
}

const columns = new WeakMap<SentencePieceModel, PieceColumns>();

export function columnsOf(model: SentencePieceModel): PieceColumns {
  let found = columns.get(model);
  if (!found) {
    const pieces = model.pieces.map(({ piece }) => piece);
    found = {
      ...stringVocabulary(new Map(pieces.map((piece, id) => [piece, id])), pieces),
      scores: Float64Array.from(model.pieces, ({ score }) => Math.fround(score)),
      types: Uint8Array.from(model.pieces, ({ type }) => type),
    };
    columns.set(model, found);
  }
  return found;
}

function checkPieces(pieces: readonly SentencePiece[], path: string): void {
  const seen = new Set<string>();
  let unknown = 0;
  for (let id = 0; id < pieces.length; id++) {
    const { piece, score, type } = pieces[id]!;
    const wrong = (found: string) => new FormatError(`${path}: piece ${id} ${found}`);
    if (piece === '') throw wrong('is empty, expected text');
    if (seen.has(piece)) throw wrong(`is ${JSON.stringify(piece)} again, expected every piece once`);
    if (!Number.isFinite(score)) throw wrong(`has the score ${score}, expected a finite number`);
    if (type === PieceType.UNKNOWN && unknown++ > 0) throw wrong('is a second unknown piece, expected one');
    if (type === PieceType.BYTE && !/^<0x[0-9A-F]{2}>$/.test(piece))
      throw wrong(`is ${JSON.stringify(piece)} for a byte, expected <0x00> to <0xFF>`);
    seen.add(piece);
  }
  if (unknown === 0)
    throw new FormatError(`${path}: ${pieces.length} pieces without an unknown one, expected a sentencepiece model`);
}

/** The bytes of a spiece.model: what parseSentencePieceModel reads. */
export function formatSentencePieceModel(model: SentencePieceModel): Buffer {
  const file = new ProtobufWriter();
  for (const { piece, score, type } of model.pieces) {
    const writer = new ProtobufWriter();
    writer.string(1, piece);
    writer.float(2, score);
    if (type !== PieceType.NORMAL) writer.int(3, type);
    file.bytes(1, writer.finish());
  }
  file.bytes(2, writeMessage(model.trainer_spec, trainerFields));
  file.bytes(3, writeMessage(model.normalizer_spec, normalizerFields));
  const denormalizer = writeMessage(model.denormalizer_spec, normalizerFields);
  if (denormalizer.length > 0) file.bytes(5, denormalizer);
  return file.finish();
}
