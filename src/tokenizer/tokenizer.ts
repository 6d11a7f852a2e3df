/** Text to token ids and back: a tokenizer.json at work. Encoding is native; the names are transformers.js's. */
import { createHash } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { FormatError, UsageError } from '../util/errors.ts';
import { makeFolder, writeWhole } from '../util/new_file.ts';
import { decodePieces } from './decoder.ts';
import { BAD_STRINGS, checked, MISSING_PIECE, packStrings, tokenizerLibrary } from './native.ts';
import { patternRules } from './patterns.ts';
import { formatTokenizerJson, type TokenizerFile } from './tokenizer_json.ts';

/** Which token plays which part: the fields of tokenizer_config.json. */
export interface SpecialTokens {
  bos_token?: string;
  eos_token?: string;
  unk_token?: string;
  sep_token?: string;
  pad_token?: string;
  cls_token?: string;
  mask_token?: string;
}

export interface EncodeOptions {
  /** Add what the post-processor adds, in T5 the end of sequence. Default true. */
  add_special_tokens?: boolean;
  /** Special tokens spelled out in the text are ordinary text: right for corpora. Default false, as in transformers. */
  split_special_tokens?: boolean;
}

export interface EncodeBatchOptions extends EncodeOptions {
  /** Default: one per processor, one for little text. The ids do not depend on it. */
  threads?: number;
}

/** Texts one after the other in UTF-8: text i is bytes[offsets[i] … offsets[i+1]), and offsets has one entry more than there are texts. */
export interface TextBatch {
  bytes: Uint8Array;
  offsets: Uint32Array;
}

/** Ids of text i: ids[offsets[i] … offsets[i+1]). */
export interface EncodedBatch {
  ids: Int32Array;
  offsets: Uint32Array;
}

const BATCH_BYTES = 1 << 30;
/** Texts below this many bytes are not worth a second thread. */
const BYTES_PER_THREAD = 1 << 16;

const utf8 = new TextEncoder();
const freed = new FinalizationRegistry((handle: number) => tokenizerLibrary().free(handle));

export class Tokenizer {
  readonly file: TokenizerFile;
  readonly special: SpecialTokens;
  /** One more than the highest id: the rows that an embedding needs. */
  readonly vocab_size: number;
  /** Ids of <extra_id_0>, <extra_id_1>, …: the first marks the first masked span, as in Hugging Face's T5. */
  readonly sentinels: readonly number[];
  /** Ids of UL2's mode tokens [R], [S] and [X], where the vocabulary has them. */
  readonly modeTokens: { readonly R: number; readonly S: number; readonly X: number } | undefined;
  private readonly ids: Map<string, number>;
  private readonly pieces: (string | undefined)[];
  private readonly specialIds: Set<number>;
  private readonly around: number; // special tokens that encoding adds
  private handle: number;
  private digest: string | undefined;

  /** `path` is for messages. @throws FormatError if pieces and merges contradict each other */
  constructor(file: TokenizerFile, special: SpecialTokens, path: string) {
    this.file = file;
    this.special = special;
    const beyond = file.added_tokens.filter(({ content }) => !file.model.vocab.has(content));
    this.ids = beyond.length === 0 ? file.model.vocab : new Map(file.model.vocab);
    for (const { content, id } of beyond) this.ids.set(content, id);
    this.pieces = [];
    for (const [piece, id] of this.ids) this.pieces[id] = piece;
    this.vocab_size = this.pieces.length;
    this.specialIds = new Set(file.added_tokens.filter((token) => token.special).map((token) => token.id));
    this.around = file.template.prefix.length + file.template.suffix.length;
    this.sentinels = this.findSentinels();
    const [R, S, X] = ['[R]', '[S]', '[X]'].map((token) => this.ids.get(token));
    this.modeTokens = R !== undefined && S !== undefined && X !== undefined ? { R, S, X } : undefined;
    this.handle = openEncoder(file, this.ids, path);
    freed.register(this, this.handle, this);
  }

  private findSentinels(): number[] {
    const found: number[] = [];
    for (let id = this.ids.get('<extra_id_0>'); id !== undefined; id = this.ids.get(`<extra_id_${found.length}>`))
      found.push(id);
    return found;
  }

  /** Ids of a text. Lone surrogates count as U+FFFD. */
  encode(text: string, options: EncodeOptions = {}): number[] {
    return [...this.encodeBytes(utf8.encode(text), options)];
  }

  /** Ids of a text in UTF-8. Bytes that are not UTF-8 become their byte tokens, or the unknown token without them. */
  encodeBytes(bytes: Uint8Array, options: EncodeOptions = {}): Int32Array {
    return this.encodeBatch({ bytes, offsets: Uint32Array.of(0, bytes.length) }, { ...options, threads: 1 }).ids;
  }

  /** Ids of many texts in one native call. @throws UsageError for more than 1 GiB of text */
  encodeBatch(texts: readonly string[] | TextBatch, options: EncodeBatchOptions = {}): EncodedBatch {
    const { bytes, offsets } = 'bytes' in texts ? texts : joinTexts(texts);
    const count = offsets.length - 1;
    const size = checkOffsets(bytes, offsets);
    const threads = options.threads ?? Math.min(availableParallelism(), Math.ceil(size / BYTES_PER_THREAD));
    if (!Number.isInteger(threads) || (threads < 1 && size > 0) || threads > 1024)
      throw new UsageError(`encodeBatch: threads is ${threads}, expected 1 to 1024`);
    const flags = (options.add_special_tokens === false ? 0 : 1) | (options.split_special_tokens ? 2 : 0);
    const ids = new Int32Array(size + count * this.around);
    const idOffsets = new Uint32Array(count + 1);
    const library = tokenizerLibrary();
    const call = library.encode(this.open(), bytes, offsets, count, flags, Math.max(threads, 1), ids, idOffsets);
    return { ids: ids.slice(0, checked('encodeBatch', call)), offsets: idOffsets };
  }

  /** Text of ids. Ids without a token, such as an embedding's padding rows, are left out. */
  decode(ids: Iterable<number>, options: { skip_special_tokens?: boolean } = {}): string {
    const pieces: string[] = [];
    for (const id of ids) {
      const piece = this.pieces[id];
      if (piece !== undefined && !(options.skip_special_tokens && this.specialIds.has(id))) pieces.push(piece);
    }
    return decodePieces(pieces, this.file.decoder);
  }

  token_to_id(token: string): number | undefined {
    return this.ids.get(token);
  }

  id_to_token(id: number): string | undefined {
    return this.pieces[id];
  }

  /** SHA-256 of the tokenizer.json as save() writes it, 64 hexadecimal digits: what token files are bound to. */
  get hash(): string {
    this.digest ??= createHash('sha256').update(formatTokenizerJson(this.file)).digest('hex');
    return this.digest;
  }

  /** @throws UsageError if the tokenizer has none; so do the ids below */
  get pad_token_id(): number {
    return this.idOfPart('pad_token');
  }
  get eos_token_id(): number {
    return this.idOfPart('eos_token');
  }
  get unk_token_id(): number {
    return this.idOfPart('unk_token');
  }
  /** What decoding starts with: the pad token, as in T5. */
  get decoder_start_token_id(): number {
    return this.pad_token_id;
  }

  private idOfPart(part: keyof SpecialTokens): number {
    const token = this.special[part];
    const id = token === undefined ? undefined : this.ids.get(token);
    if (id === undefined) throw new UsageError(`tokenizer: it has no ${part}, expected one in tokenizer_config.json`);
    return id;
  }

  /** Writes tokenizer.json, tokenizer_config.json and special_tokens_map.json, which transformers' AutoTokenizer loads. */
  save(directory: string): void {
    const additional = this.file.added_tokens
      .map(({ content }) => content)
      .filter((token) => !Object.values(this.special).includes(token));
    const names = { ...this.special, additional_special_tokens: additional };
    const config = {
      tokenizer_class: 'PreTrainedTokenizerFast',
      clean_up_tokenization_spaces: false,
      model_max_length: 1e30, // transformers' "no limit"
      ...names,
    };
    makeFolder(directory);
    writeWhole(join(directory, 'tokenizer.json'), formatTokenizerJson(this.file));
    writeWhole(join(directory, 'tokenizer_config.json'), `${JSON.stringify(config, null, 2)}\n`);
    writeWhole(join(directory, 'special_tokens_map.json'), `${JSON.stringify(names, null, 2)}\n`);
  }

  /** Frees the native memory now rather than with the object. */
  dispose(): void {
    if (this.handle === 0) return;
    freed.unregister(this);
    tokenizerLibrary().free(this.handle);
    this.handle = 0;
  }

  private open(): number {
    if (this.handle === 0) throw new UsageError('tokenizer: used after dispose()');
    return this.handle;
  }
}

function joinTexts(texts: readonly string[]): TextBatch {
  const parts = texts.map((text) => utf8.encode(text));
  const offsets = new Uint32Array(texts.length + 1);
  let total = 0;
  parts.forEach((part, i) => {
    offsets[i + 1] = total += part.length;
  });
  if (total > BATCH_BYTES) throw tooLarge(total);
  const bytes = new Uint8Array(total);
  parts.forEach((part, i) => {
    bytes.set(part, offsets[i]);
  });
  return { bytes, offsets };
}

const tooLarge = (bytes: number) =>
  new UsageError(`encodeBatch: ${bytes} bytes of text, expected at most ${BATCH_BYTES}; encode fewer texts at a time`);

/** Bytes of all texts. Native code trusts what this has checked. */
function checkOffsets(bytes: Uint8Array, offsets: Uint32Array): number {
  if (offsets.length === 0) throw new UsageError('encodeBatch: offsets is empty, expected one entry more than texts');
  for (let i = 1; i < offsets.length; i++)
    if (offsets[i]! < offsets[i - 1]!)
      throw new UsageError(`encodeBatch: offsets[${i}] is ${offsets[i]}, expected at least ${offsets[i - 1]}`);
  if (offsets.at(-1)! > bytes.length)
    throw new UsageError(`encodeBatch: offsets end at ${offsets.at(-1)}, the text has ${bytes.length} bytes`);
  const size = offsets.at(-1)! - offsets[0]!;
  if (size > BATCH_BYTES) throw tooLarge(size);
  return size;
}

/** Hands a checked file to native code. */
function openEncoder(file: TokenizerFile, ids: Map<string, number>, path: string): number {
  const library = tokenizerLibrary();
  const handle = library.create();
  if (handle === 0) throw new FormatError(`${path}: out of memory`);
  try {
    fillEncoder(handle, file, ids, path);
    return handle;
  } catch (error) {
    library.free(handle);
    throw error;
  }
}

function fillEncoder(handle: number, file: TokenizerFile, ids: Map<string, number>, path: string): void {
  const library = tokenizerLibrary();
  const { model, added_tokens, template, pattern } = file;
  const call = (result: number) => {
    if (result === BAD_STRINGS)
      throw new FormatError(`${path}: a token contains half a surrogate pair, expected valid text`);
    return checked(path, result);
  };
  const pieces = packStrings([...model.vocab.keys()]);
  const unknown = model.unk_token === null ? -1 : model.vocab.get(model.unk_token)!;
  const options = Int32Array.of(unknown, +model.byte_fallback, +model.fuse_unk, +model.ignore_merges);
  const pieceIds = Int32Array.from(model.vocab.values());
  call(library.bpe(handle, pieces.text, pieces.text.length, pieces.units, pieceIds, pieceIds.length, options));

  const parts: string[] = [];
  for (const [left, right] of model.merges) parts.push(left, right);
  const merges = packStrings(parts);
  const wrong = new Uint32Array(1);
  const merged = library.merges(handle, merges.text, merges.text.length, merges.units, model.merges.length, wrong);
  if (merged === MISSING_PIECE) {
    const [left, right] = model.merges[wrong[0]!]!;
    const missing = [left, right, left + right].find((piece) => !model.vocab.has(piece));
    throw new FormatError(
      `${path}: model.merges[${wrong[0]}] needs ${JSON.stringify(missing)}, which is not in model.vocab`,
    );
  }
  call(merged);

  if (pattern !== null) {
    const rules = patternRules(pattern) as Int32Array;
    call(library.rules(handle, rules, rules.length / 2));
  }
  const tokens = packStrings(added_tokens.map(({ content }) => content));
  const column = (value: (token: (typeof added_tokens)[0]) => number) => Int32Array.from(added_tokens, value);
  call(
    library.added(
      handle,
      tokens.text,
      tokens.text.length,
      tokens.units,
      column(({ id }) => id),
      column(({ lstrip, rstrip, special }) => (lstrip ? 1 : 0) | (rstrip ? 2 : 0) | (special ? 4 : 0)),
      column(({ normalized }) => +normalized),
      added_tokens.length,
    ),
  );
  const idsOf = (names: string[]) => Int32Array.from(names, (token) => ids.get(token)!);
  const { prefix, suffix } = template;
  call(library.template(handle, idsOf(prefix), prefix.length, idsOf(suffix), suffix.length));
}
