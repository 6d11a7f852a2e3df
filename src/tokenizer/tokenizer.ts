/** Text to token ids and back, with transformers.js's names. */
import { availableParallelism } from 'node:os';
import { UsageError } from '../util/errors.ts';
import type { BatchEncoding, IdTensor } from './batch_encoding.ts';
import { type CallOptions, type CallTexts, encodeCall } from './call.ts';
import { Callable } from './callable.ts';
import { type Engine, jsonEngine } from './engine.ts';
import type { EncodedBatch, NativeEncoder } from './native_encoder.ts';
import { cleanUp } from './pipeline/decoders.ts';
import { type Encoding, emptyEncoding, specialEncoding } from './pipeline/encoding.ts';
import { compilePostProcessor, type PostProcess } from './pipeline/post_processors.ts';
import { saveTokenizer } from './save.ts';
import type { AddedToken } from './schema.ts';
import { checkOffsets, joinTexts, type TextBatch, textsOf } from './text_batch.ts';
import { noConfig, type SpecialTokens, type TokenizerConfig } from './tokenizer_config.ts';
import { formatTokenizerJson, type TokenizerFile, vocabularyOf } from './tokenizer_json.ts';
import type { Vocabulary } from './vocabulary.ts';

export interface EncodeOptions {
  /** Add what the post-processor adds, in T5 the end of sequence. Default true. */
  add_special_tokens?: boolean;
  /** Special tokens spelled out in the text are ordinary text: right for corpora. Default false, as in transformers. */
  split_special_tokens?: boolean;
}

export interface EncodePairOptions extends EncodeOptions {
  text_pair?: string;
}

export interface EncodeBatchOptions extends EncodeOptions {
  /** Default: one per processor, one for little text. The ids do not depend on it. */
  threads?: number;
}

export interface DecodeOptions {
  skip_special_tokens?: boolean;
  /** Take the spaces before English punctuation away; default: as tokenizer_config.json says, else false. */
  clean_up_tokenization_spaces?: boolean;
  /** spiece.model only: put spaces around sentinels, as transformers' slow tokenizers did. Default false. */
  spaces_between_special_tokens?: boolean;
}

/** Texts below this many bytes are not worth a second thread. */
const BYTES_PER_THREAD = 1 << 16;
/** transformers' "no limit". */
const NO_LIMIT = 1e30;

export interface TokenizerOptions {
  config?: TokenizerConfig;
  /** How text is encoded; by default as the file says. */
  engine?: Engine;
  /** The spiece.model that it came from. */
  spiece?: Uint8Array;
  /** Encode in TypeScript only: the same ids, slower. */
  native?: boolean;
}

/** A tokenizer can be called: transformers.js's tokenizers can. */
interface TokenizerCall {
  /** Encodes one text or many into what a model takes; see CallOptions. */
  (
    texts: CallTexts,
    options: CallOptions & { return_tensor: false; padding?: boolean | string },
  ): BatchEncoding<number[] | number[][]>;
  (texts: CallTexts, options?: CallOptions): BatchEncoding<IdTensor>;
}

export class Tokenizer extends (Callable as unknown as new () => TokenizerCall) {
  readonly file: TokenizerFile;
  readonly special: SpecialTokens;
  readonly config: TokenizerConfig;
  /** One more than the highest id: the rows that an embedding needs. */
  readonly vocab_size: number;
  /** Ids of <extra_id_0>, <extra_id_1>, …: the first marks the first masked span, as in Hugging Face's T5. */
  readonly sentinels: readonly number[];
  /** Ids of UL2's mode tokens [R], [S] and [X], where the vocabulary has them. */
  readonly modeTokens: { readonly R: number; readonly S: number; readonly X: number } | undefined;
  /** Longest input of the model in tokens; Infinity where no file says one. */
  model_max_length: number;
  padding_side: 'left' | 'right';
  truncation_side: 'left' | 'right';
  readonly id_to_token: (id: number) => string | undefined;
  readonly postProcess: PostProcess;
  /** The spiece.model that it came from; undefined for a tokenizer.json. */
  readonly spiece: Uint8Array | undefined;
  /** Ids that encoding puts before and behind a text. */
  readonly around: { prefix: number[]; suffix: number[] };
  private readonly vocabulary: Vocabulary;
  /** Added tokens, those that are in the vocabulary included. */
  private readonly added: Map<string, number>;
  private readonly specialIds: Set<number>;
  private readonly engine: Engine;
  private native: NativeEncoder | undefined;
  private disposed = false;
  private digest: string | undefined;

  /** `path` is for messages. @throws FormatError if pieces and merges contradict each other */
  constructor(file: TokenizerFile, special: SpecialTokens, path: string, options: TokenizerOptions = {}) {
    super();
    this.file = file;
    this.special = special;
    this.config = options.config ?? noConfig;
    this.model_max_length = limitOf(this.config.model_max_length ?? file.truncation?.max_length);
    this.padding_side = this.config.padding_side ?? (file.padding?.direction === 'Left' ? 'left' : 'right');
    this.truncation_side = this.config.truncation_side ?? (file.truncation?.direction === 'Left' ? 'left' : 'right');
    const vocabulary = vocabularyOf(file.model);
    this.vocabulary = vocabulary;
    this.added = new Map(file.added_tokens.map(({ content, id }) => [content, id]));
    const beyond: string[] = [];
    for (const { content, id } of file.added_tokens) if (vocabulary.pieceOf(id) === undefined) beyond[id] = content;
    this.id_to_token = (id) => beyond[id] ?? vocabulary.pieceOf(id);
    this.vocab_size = Math.max(vocabulary.count, beyond.length);
    this.specialIds = new Set(file.added_tokens.filter((token) => token.special).map((token) => token.id));
    this.sentinels = this.findSentinels();
    const [R, S, X] = ['[R]', '[S]', '[X]'].map((token) => this.token_to_id(token));
    this.modeTokens = R !== undefined && S !== undefined && X !== undefined ? { R, S, X } : undefined;
    this.postProcess = compilePostProcessor(file.post_processor);
    this.around = aroundText(this.postProcess);
    this.spiece = options.spiece;
    this.engine = options.engine ?? jsonEngine(file, path);
    if (options.native !== false) this.native = this.engine.native(this.around.prefix, this.around.suffix);
    if (!this.native) this.engine.pipeline(); // so that what the file cannot mean is an error now
  }

  private findSentinels(): number[] {
    const found: number[] = [];
    for (
      let id = this.token_to_id('<extra_id_0>');
      id !== undefined;
      id = this.token_to_id(`<extra_id_${found.length}>`)
    )
      found.push(id);
    return found;
  }

  /** What calling the tokenizer does. */
  _call(texts: CallTexts, options: CallOptions = {}): BatchEncoding<IdTensor | number[] | number[][]> {
    return encodeCall(this, texts, options);
  }

  /** Ids of a text, or of a text and its pair. Lone surrogates count as U+FFFD. */
  encode(text: string, options: EncodePairOptions = {}): number[] {
    if (options.text_pair !== undefined) return this.encodePlus(text, options).ids;
    return [...this.encodeBatch([text], { ...options, threads: 1 }).ids];
  }

  /** Ids of a text in UTF-8. Bytes that are not UTF-8 become their byte tokens, or what stands for U+FFFD without them. */
  encodeBytes(bytes: Uint8Array, options: EncodeOptions = {}): Int32Array {
    return this.encodeBatch({ bytes, offsets: Uint32Array.of(0, bytes.length) }, { ...options, threads: 1 }).ids;
  }

  /** Ids of many texts in one native call. @throws UsageError for more than 1 GiB of text */
  encodeBatch(texts: readonly string[] | TextBatch, options: EncodeBatchOptions = {}): EncodedBatch {
    if (this.disposed) throw new UsageError('tokenizer: used after dispose()');
    const special = options.add_special_tokens !== false;
    const split = options.split_special_tokens === true;
    const { bytes, offsets } = 'bytes' in texts ? texts : joinTexts(texts);
    const size = checkOffsets(bytes, offsets);
    const threads =
      options.threads ?? Math.max(1, Math.min(availableParallelism(), Math.ceil(size / BYTES_PER_THREAD)));
    if (!Number.isInteger(threads) || threads < 1 || threads > 1024)
      throw new UsageError(`encodeBatch: threads is ${threads}, expected 1 to 1024`);
    const encode = (text: string) => {
      const { ids } = this.engine.pipeline().encode(text, split);
      return special ? [...this.around.prefix, ...ids, ...this.around.suffix] : ids;
    };
    if (this.native) {
      const one = (i: number) => encode(textsOf(bytes, offsets.subarray(i, i + 2))[0]!);
      return this.native.encode(bytes, offsets, { special, split, threads }, one);
    }
    const rows = textsOf(bytes, offsets).map(encode);
    const found = new Uint32Array(rows.length + 1);
    rows.forEach((row, i) => {
      found[i + 1] = found[i]! + row.length;
    });
    return { ids: Int32Array.from(rows.flat()), offsets: found };
  }

  /** All that is known about a text's tokens: offsets, words, masks. Slower than encode, which gives the same ids. */
  encodePlus(text: string, options: EncodePairOptions = {}): Encoding {
    const texts = [text, ...(options.text_pair === undefined ? [] : [options.text_pair])];
    const encodings = texts.map((part) => this.encodeText(part, options.split_special_tokens ?? false));
    return this.postProcess.run(encodings, options.add_special_tokens !== false);
  }

  /** One text's tokens before the post-processor. */
  encodeText(text: string, split: boolean): Encoding {
    if (this.disposed) throw new UsageError('tokenizer: used after dispose()');
    return this.engine.pipeline().encode(text.replace(/\p{Surrogate}/gu, '\ufffd'), split);
  }

  /** The pieces that a text is cut into. */
  tokenize(text: string, options: EncodePairOptions = {}): string[] {
    return this.encodePlus(text, { add_special_tokens: false, ...options }).tokens;
  }

  /** Text of ids. Ids without a token, such as an embedding's padding rows, are left out. */
  decode(ids: Iterable<number | bigint>, options: DecodeOptions = {}): string {
    const pieces = [];
    for (const value of ids) {
      const id = Number(value);
      const piece = this.id_to_token(id);
      const special = this.specialIds.has(id);
      if (piece !== undefined && !(options.skip_special_tokens && special)) pieces.push({ piece, special });
    }
    if (pieces.length === 0) return '';
    const text = this.engine.decode(pieces, {
      spaces_between_special_tokens: options.spaces_between_special_tokens ?? false,
    });
    const clean = options.clean_up_tokenization_spaces ?? this.config.clean_up_tokenization_spaces ?? false;
    return clean ? cleanUp(text) : text;
  }

  batch_decode(rows: Iterable<Iterable<number | bigint>> | IdTensor, options: DecodeOptions = {}): string[] {
    const nested = 'tolist' in rows ? rows.tolist() : rows;
    return Array.from(nested, (row: Iterable<number | bigint>) => this.decode(row, options));
  }

  token_to_id(token: string): number | undefined {
    return this.added.get(token) ?? this.vocabulary.idOf(token);
  }

  /** Ids of tokens; what is no token has the unknown token's id. @throws UsageError if there is no unknown token */
  convert_tokens_to_ids(tokens: string): number;
  convert_tokens_to_ids(tokens: readonly string[]): number[];
  convert_tokens_to_ids(tokens: string | readonly string[]): number | number[] {
    const idOf = (token: string) => this.token_to_id(token) ?? this.unk_token_id;
    return typeof tokens === 'string' ? idOf(tokens) : tokens.map(idOf);
  }

  /** Tokens of ids; the unknown token for ids without one. */
  convert_ids_to_tokens(ids: Iterable<number | bigint>): string[] {
    return Array.from(ids, (id) => this.id_to_token(Number(id)) ?? this.special.unk_token ?? '');
  }

  convert_tokens_to_string(tokens: readonly string[]): string {
    const pieces = tokens.map((piece) => ({ piece, special: this.specialIds.has(this.token_to_id(piece) ?? -1) }));
    return this.engine.decode(pieces, { spaces_between_special_tokens: false });
  }

  /** Token -> id, added tokens included. */
  get_vocab(): Map<string, number> {
    return new Map([...this.vocabulary.toMap(), ...this.added]);
  }

  get added_tokens(): readonly AddedToken[] {
    return this.file.added_tokens;
  }

  get all_special_tokens(): string[] {
    return [...new Set([...Object.values(this.special), ...this.special_added])];
  }
  get all_special_ids(): number[] {
    return this.convert_tokens_to_ids(this.all_special_tokens);
  }
  /** Special tokens that play no part: sentinels, mode tokens and the user's own. */
  get additional_special_tokens(): string[] {
    const parts = Object.values(this.special);
    return this.special_added.filter((token) => !parts.includes(token));
  }
  private get special_added(): string[] {
    return this.file.added_tokens.filter(({ special }) => special).map(({ content }) => content);
  }

  /** SHA-256 of the file, 64 hexadecimal digits: what token files are bound to. */
  get hash(): string {
    const { createHash } = process.getBuiltinModule('node:crypto'); // most processes never need it
    this.digest ??= createHash('sha256')
      .update(this.spiece ?? formatTokenizerJson(this.file))
      .digest('hex');
    return this.digest;
  }

  get pad_token(): string | undefined {
    return this.special.pad_token;
  }
  get eos_token(): string | undefined {
    return this.special.eos_token;
  }
  get bos_token(): string | undefined {
    return this.special.bos_token;
  }
  get unk_token(): string | undefined {
    return this.special.unk_token;
  }
  get sep_token(): string | undefined {
    return this.special.sep_token;
  }
  get cls_token(): string | undefined {
    return this.special.cls_token;
  }
  get mask_token(): string | undefined {
    return this.special.mask_token;
  }

  /** @throws UsageError if the tokenizer has none; so do the ids below */
  get pad_token_id(): number {
    return this.idOfPart('pad_token');
  }
  get eos_token_id(): number {
    return this.idOfPart('eos_token');
  }
  get bos_token_id(): number {
    return this.idOfPart('bos_token');
  }
  get unk_token_id(): number {
    return this.idOfPart('unk_token');
  }
  get sep_token_id(): number {
    return this.idOfPart('sep_token');
  }
  get cls_token_id(): number {
    return this.idOfPart('cls_token');
  }
  get mask_token_id(): number {
    return this.idOfPart('mask_token');
  }
  /** What decoding starts with: the pad token, as in T5. */
  get decoder_start_token_id(): number {
    return this.pad_token_id;
  }

  private idOfPart(part: keyof SpecialTokens): number {
    const token = this.special[part];
    const id = token === undefined ? undefined : this.token_to_id(token);
    if (id === undefined) throw new UsageError(`tokenizer: it has no ${part}, expected one in tokenizer_config.json`);
    return id;
  }

  /** Writes tokenizer.json or spiece.model, tokenizer_config.json and special_tokens_map.json, which transformers' AutoTokenizer loads. */
  save(directory: string): void {
    saveTokenizer(directory, this);
  }

  /** Frees the native memory now rather than with the object. */
  dispose(): void {
    this.disposed = true;
    this.native?.dispose();
  }
}

/** Length limit of a configuration: transformers writes 1e30 for none. */
const limitOf = (length: number | null | undefined) =>
  length === null || length === undefined || length >= NO_LIMIT ? Number.POSITIVE_INFINITY : length;

/** What a post-processor puts around one text, found by giving it a text. */
function aroundText(post: PostProcess): { prefix: number[]; suffix: number[] } {
  const mark = { ...emptyEncoding(), ...specialEncoding(['text'], [-1], 0) };
  const { ids } = post.run([mark], true);
  const at = ids.indexOf(-1);
  return { prefix: ids.slice(0, at), suffix: ids.slice(at + 1) };
}
