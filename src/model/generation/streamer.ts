/** Who gets tokens as soon as they are known. The classes are transformers.js's. */
import { UsageError } from '../../util/errors.ts';
import type { Decoder } from './stopping.ts';

/** What gets tokens as they are written. */
export interface Streamer {
  /** The tokens of the prompt first, then the newest token of every row; padding for rows that have ended. */
  put(ids: number[][]): void;
  end(): void;
}

export interface TextStreamerOptions {
  /** Leave the prompt's tokens out; false by default. */
  skip_prompt?: boolean;
  skip_special_tokens?: boolean;
  /** Gets pieces of text, cut behind spaces, line ends and Chinese characters; written to standard output by default. */
  callback_function?: (text: string) => void;
  /** Gets the ids of each `put`. */
  token_callback_function?: (ids: number[]) => void;
}

/** The spaces of East Asian scripts: each character stands for itself. */
const IDEOGRAPH = /[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u{20000}-\u{2fa1f}]$/u;

/** Text of one answer, as soon as later tokens can no longer change it. */
export class TextStreamer implements Streamer {
  private readonly tokenizer: Decoder;
  private readonly options: TextStreamerOptions;
  private tokens: number[] = [];
  private written = 0;
  private atPrompt = true;

  constructor(tokenizer: Decoder, options: TextStreamerOptions = {}) {
    this.tokenizer = tokenizer;
    this.options = options;
  }

  /** @throws UsageError for more than one row */
  put(ids: number[][]): void {
    if (ids.length !== 1) throw new UsageError(`TextStreamer: got ${ids.length} rows, expected a batch of one`);
    const prompt = this.atPrompt;
    this.atPrompt = false;
    if (prompt && this.options.skip_prompt) return;
    const [row] = ids as [number[]];
    this.options.token_callback_function?.(row);
    this.tokens.push(...row);
    const text = this.text();
    if (text.endsWith('\n')) {
      this.emit(text.slice(this.written));
      this.tokens = [];
      this.written = 0;
    } else {
      const end = IDEOGRAPH.test(text) ? text.length : text.lastIndexOf(' ') + 1;
      this.emit(text.slice(this.written, end));
      this.written = Math.max(this.written, end);
    }
  }

  /** Writes what is left; the streamer is ready for another answer. */
  end(): void {
    const rest = this.tokens.length > 0 ? this.text().slice(this.written) : '';
    this.tokens = [];
    this.written = 0;
    this.atPrompt = true;
    this.emit(rest, true);
  }

  private text(): string {
    return this.tokenizer.decode(this.tokens, { skip_special_tokens: this.options.skip_special_tokens ?? false });
  }

  private emit(text: string, last = false): void {
    if (this.options.callback_function) {
      if (text.length > 0) this.options.callback_function(text);
    } else process.stdout.write(last ? `${text}\n` : text);
  }
}
