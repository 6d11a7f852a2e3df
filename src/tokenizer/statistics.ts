/** How a tokenizer cuts a corpus. */
import type { Tokenizer } from './tokenizer.ts';

export interface TokenizerStatistics {
  documents: number;
  bytes: number;
  /** Without white space. */
  characters: number;
  /** Those of them that pieces spell: neither unknown nor bytes. */
  known: number;
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
const plain = { add_special_tokens: false, split_special_tokens: true };

/** Counts documents as they come, without special tokens; `result` gives the counts so far. */
export class TokenizerMeter {
  private readonly tokenizer: Tokenizer;
  private readonly perId: Float64Array;
  private readonly perCharacter = new Float64Array(0x110000);
  private readonly counts = { documents: 0, bytes: 0, words: 0 };
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
      for (const [word] of text.matchAll(/\S+/g)) {
        counts.words++;
        for (const character of word) this.perCharacter[character.codePointAt(0)!]!++;
      }
    }
    for (const id of this.tokenizer.encodeBatch(this.waiting, plain).ids) this.perId[id]!++;
    this.waiting = [];
    this.size = 0;
  }

  result(): TokenizerStatistics {
    this.flush();
    const found = { ...this.counts, characters: 0, known: 0, tokens: 0, unknown: 0, byteTokens: 0, used: 0 };
    this.perCharacter.forEach((count, c) => {
      found.characters += count;
      if (count > 0 && this.isSpelled(String.fromCodePoint(c))) found.known += count;
    });
    this.perId.forEach((count, id) => {
      if (count === 0) return;
      found.tokens += count;
      found.used++;
      if (this.isUnknown(id)) found.unknown += count;
      else if (this.isByte(id)) found.byteTokens += count;
    });
    return found;
  }

  private isSpelled(character: string): boolean {
    return !this.tokenizer.encode(character, plain).some((id) => this.isUnknown(id) || this.isByte(id));
  }

  private isUnknown(id: number): boolean {
    return this.tokenizer.id_to_token(id) === this.tokenizer.special.unk_token;
  }

  private isByte(id: number): boolean {
    return BYTE.test(this.tokenizer.id_to_token(id) ?? '');
  }
}
