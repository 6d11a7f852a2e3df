/** Who gets tokens as soon as they are known. The classes are transformers.js's. */
import { UsageError } from '../../util/errors.ts';
import { StreamDecoder } from '../../util/stream_decoder.ts';
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
  /** Gets pieces of text, cut before spaces and behind Chinese characters; written to standard output by default. */
  callback_function?: (text: string) => void;
  /** Gets the ids of each `put`. */
  token_callback_function?: (ids: number[]) => void;
}

/** Text of one answer, as soon as later tokens can no longer change it. */
export class TextStreamer implements Streamer {
  private readonly stream: StreamDecoder<{ skip_special_tokens?: boolean }>;
  private readonly options: TextStreamerOptions;
  private atPrompt = true;

  constructor(tokenizer: Decoder, options: TextStreamerOptions = {}) {
    this.stream = new StreamDecoder(tokenizer, { skip_special_tokens: options.skip_special_tokens ?? false });
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
    this.emit(this.stream.put(row));
  }

  /** Writes what is left; the streamer is ready for another answer. */
  end(): void {
    this.atPrompt = true;
    this.emit(this.stream.end(), true);
  }

  private emit(text: string, last = false): void {
    if (this.options.callback_function) {
      if (text.length > 0) this.options.callback_function(text);
    } else process.stdout.write(last ? `${text}\n` : text);
  }
}
