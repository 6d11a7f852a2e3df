/** How a tokenizer cuts a corpus. */
import type { Tokenizer } from './tokenizer.ts';

export interface TokenizerStatistics {
  documents: number;
  bytes: number;
  characters: number;
  /** Runs of characters that are not white space. */
  words: number;
  tokens: number;
  /** Tokens that stand for unknown text. */
  unknown: number;
  /** Tokens of one byte, of characters that are not in the vocabulary. */
  byteTokens: number;
  /** Different ids. */
  used: number;
}

const BYTE = /^<0x[0-9A-F]{2}>$/;
const BATCH_CHARACTERS = 1 << 20;

/** Counts documents as they come, without special tokens; `result` gives the counts so far. */
export class TokenizerMeter {
  private readonly tokenizer: Tokenizer;
  private readonly perId: Float64Array;
  private readonly counts = { documents: 0, bytes: 0, characters: 0, words: 0 };
  private waiting: string[] = [];
  private size = 0;

  constructor(tokenizer: Tokenizer) {
    this.tokenizer = tokenizer;
    this.perId = new Float64Array(tokenizer.vocab_size);
  }

  add(text: string): void {
    this.waiting.push(text);
    this.size += text.length;
    if (this.size >= BATCH_CHARACTERS) this.flush();
  }

  private flush(): void {
    const { counts } = this;
    for (const text of this.waiting) {
      counts.documents++;
      counts.bytes += Buffer.byteLength(text);
      for (const _ of text) counts.characters++;
      for (const _ of text.matchAll(/\S+/g)) counts.words++;
    }
    const options = { add_special_tokens: false, split_special_tokens: true };
    for (const id of this.tokenizer.encodeBatch(this.waiting, options).ids) this.perId[id]!++;
    this.waiting = [];
    this.size = 0;
  }

  result(): TokenizerStatistics {
    this.flush();
    const found = { ...this.counts, tokens: 0, unknown: 0, byteTokens: 0, used: 0 };
    const { unk_token } = this.tokenizer.special;
    this.perId.forEach((count, id) => {
      if (count === 0) return;
      const piece = this.tokenizer.id_to_token(id) ?? '';
      found.tokens += count;
      found.used++;
      if (piece === unk_token) found.unknown += count;
      else if (BYTE.test(piece)) found.byteTokens += count;
    });
    return found;
  }
}
