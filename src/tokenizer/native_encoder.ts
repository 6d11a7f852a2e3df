/** Encoding in C++: a tokenizer.json whose parts native code knows, handed over once. */
import { BackendError, FormatError, UsageError } from '../util/errors.ts';
import { BAD_STRINGS, checked, MISSING_PIECE, packStrings, tokenizerLibrary } from './native.ts';
import { patternRules } from './patterns.ts';
import { type BpeModel, checkMerges, type TokenizerFile } from './tokenizer_json.ts';

/** Ids of text i: ids[offsets[i] … offsets[i+1]). */
export interface EncodedBatch {
  ids: Int32Array;
  offsets: Uint32Array;
}

/** What native code does with a file. */
interface Plan {
  model: BpeModel;
  /** Pairs kind, option (patterns.ts); undefined: the text is one piece. */
  rules: Int32Array | undefined;
}

/** The plan of a file, or undefined where only TypeScript knows all its parts. */
function planOf({ model, normalizer, pre_tokenizer, added_tokens }: TokenizerFile): Plan | undefined {
  if (model.type !== 'BPE' || model.continuing_subword_prefix !== '' || model.end_of_word_suffix !== '')
    return undefined;
  if (normalizer !== null && !(normalizer.type === 'Sequence' && normalizer.normalizers.length === 0)) return undefined;
  if (added_tokens.some(({ single_word }) => single_word)) return undefined;
  if (pre_tokenizer === null) return { model, rules: undefined };
  const steps = pre_tokenizer.type === 'Sequence' ? pre_tokenizer.pretokenizers : [pre_tokenizer];
  const [split] = steps;
  if (steps.length !== 1 || split?.type !== 'Split' || !('Regex' in split.pattern)) return undefined;
  if (split.behavior !== 'Isolated' || split.invert) return undefined;
  const rules = patternRules(split.pattern.Regex);
  return typeof rules === 'string' ? undefined : { model, rules };
}

const freed = new FinalizationRegistry((handle: number) => tokenizerLibrary().free(handle));

export class NativeEncoder {
  private handle: number;
  private readonly around: number;

  private constructor(handle: number, around: number) {
    this.handle = handle;
    this.around = around;
    freed.register(this, handle, this);
  }

  /**
   * An encoder that puts `prefix` and `suffix` around a text, or undefined where TypeScript must do it: for a file with
   * other parts, or without a compiled library. `path` is for messages. @throws FormatError for a merge without its piece
   */
  static open(
    file: TokenizerFile,
    prefix: readonly number[],
    suffix: readonly number[],
    path: string,
  ): NativeEncoder | undefined {
    const plan = planOf(file);
    if (!plan || !libraryIsThere()) return undefined;
    const library = tokenizerLibrary();
    const handle = library.create();
    if (handle === 0) throw new BackendError(`${path}: out of memory`);
    try {
      fill(handle, plan, file, path);
      const call = library.template(
        handle,
        Int32Array.from(prefix),
        prefix.length,
        Int32Array.from(suffix),
        suffix.length,
      );
      checked(path, call);
      return new NativeEncoder(handle, prefix.length + suffix.length);
    } catch (error) {
      library.free(handle);
      throw error;
    }
  }

  /** Native code trusts offsets that rise and end within the bytes. */
  encode(
    bytes: Uint8Array,
    offsets: Uint32Array,
    options: { special: boolean; split: boolean; threads: number },
  ): EncodedBatch {
    const count = offsets.length - 1;
    const size = offsets[count]! - offsets[0]!;
    const flags = (options.special ? 1 : 0) | (options.split ? 2 : 0);
    const ids = new Int32Array(size + count * this.around);
    const idOffsets = new Uint32Array(count + 1);
    if (this.handle === 0) throw new UsageError('tokenizer: used after dispose()');
    const call = tokenizerLibrary().encode(this.handle, bytes, offsets, count, flags, options.threads, ids, idOffsets);
    return { ids: ids.slice(0, checked('encodeBatch', call)), offsets: idOffsets };
  }

  dispose(): void {
    if (this.handle === 0) return;
    freed.unregister(this);
    tokenizerLibrary().free(this.handle);
    this.handle = 0;
  }
}

function libraryIsThere(): boolean {
  try {
    tokenizerLibrary();
    return true;
  } catch (error) {
    if (error instanceof BackendError) return false;
    throw error;
  }
}

function fill(handle: number, { model, rules }: Plan, { added_tokens }: TokenizerFile, path: string): void {
  const library = tokenizerLibrary();
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
  if (merged === MISSING_PIECE) checkMerges(model, path);
  call(merged);

  if (rules) call(library.rules(handle, rules, rules.length / 2));
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
}
