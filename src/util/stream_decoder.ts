/** Text of tokens as they come: only what later tokens can no longer change. */

/** What a tokenizer has to do with it. */
interface Decoder<Options> {
  decode(ids: number[], options?: Options): string;
}

/** Tokens that stay in front of new ones, so that decoding knows what they follow. */
const CONTEXT = 16;

/** Characters of scripts without spaces: each stands for itself. */
const IDEOGRAPH = /[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u{20000}-\u{2fa1f}]$/u;

/**
 * Decodes a growing sequence in time proportional to its length: `put` gives whole words and no half characters, `end`
 * the rest. The parts joined are `tokenizer.decode` of all ids.
 */
export class StreamDecoder<Options extends object = object> {
  private readonly tokenizer: Decoder<Options>;
  private readonly options: Options | undefined;
  private ids: number[] = [];
  /** Text of `ids` that has been given out or waits as `pending`. */
  private known = '';
  private pending = '';

  constructor(tokenizer: Decoder<Options>, options?: Options) {
    this.tokenizer = tokenizer;
    this.options = options;
  }

  /** Takes the next ids; gives the text up to the space before the word that may still grow, or to a Chinese character. */
  put(ids: readonly (number | bigint)[]): string {
    for (const id of ids) this.ids.push(Number(id));
    const text = this.tokenizer.decode(this.ids, this.options);
    if (text.endsWith('\ufffd') || !text.startsWith(this.known)) return ''; // a character that is not complete
    this.pending += text.slice(this.known.length);
    this.known = text;
    if (this.ids.length > 4 * CONTEXT) this.shorten();
    const cut = IDEOGRAPH.test(this.pending) ? this.pending.length : this.pending.search(/\s+\S*$/u);
    if (cut <= 0) return '';
    const ready = this.pending.slice(0, cut);
    this.pending = this.pending.slice(cut);
    return ready;
  }

  /** The rest; the decoder is then ready for another sequence. */
  end(): string {
    const text = this.tokenizer.decode(this.ids, this.options);
    const rest = this.pending + (text.startsWith(this.known) ? text.slice(this.known.length) : '');
    this.ids = [];
    this.known = '';
    this.pending = '';
    return rest;
  }

  private shorten(): void {
    const kept = this.ids.slice(-CONTEXT);
    const known = this.tokenizer.decode(kept, this.options);
    if (known === '' || !this.known.endsWith(known.trimStart())) return; // cut within a character
    this.ids = kept;
    this.known = known;
  }
}
