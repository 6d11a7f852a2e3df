/**
 * sentencepiece's precompiled rules: a double-array trie (Darts-clone) from character sequences to places in a table of
 * NUL-terminated replacements. Source: google/sentencepiece, normalizer.cc; the bit layout is Darts-clone's.
 */
import { FormatError } from '../../util/errors.ts';

/** Longer rules are taken for damage: it bounds the time per character. */
const LONGEST_RULE = 255;

export interface CharsMatch {
  /** Bytes matched. */
  length: number;
  replacement: string;
}

export class Charsmap {
  private readonly units: Uint32Array;
  private readonly table: Buffer;
  private readonly replacements = new Map<number, string>();

  /** `path` is for messages. @throws FormatError if the sizes contradict each other */
  constructor(blob: Uint8Array, path: string) {
    const bytes = Buffer.from(blob.buffer, blob.byteOffset, blob.byteLength);
    const trie = bytes.length >= 4 ? bytes.readUInt32LE(0) : 0;
    if (trie === 0 || trie % 4 !== 0 || trie > bytes.length - 4)
      throw new FormatError(
        `${path}: precompiled_charsmap has a trie of ${trie} bytes in ${bytes.length}, expected rules of sentencepiece`,
      );
    this.table = bytes.subarray(4 + trie);
    if (this.table.length === 0 || this.table.at(-1) !== 0)
      throw new FormatError(`${path}: precompiled_charsmap does not end with a zero byte, expected replacements`);
    this.units = new Uint32Array(Uint8Array.from(bytes.subarray(4, 4 + trie)).buffer);
  }

  /** The longest rule at bytes[at …]. */
  longest(bytes: Uint8Array, at: number): CharsMatch | undefined {
    return this.walk(bytes, at, false);
  }

  /** The shortest rule at the start: what Hugging Face's normalizer takes. */
  shortest(bytes: Uint8Array): CharsMatch | undefined {
    return this.walk(bytes, 0, true);
  }

  private walk(bytes: Uint8Array, at: number, shortest: boolean): CharsMatch | undefined {
    const { units } = this;
    const end = Math.min(bytes.length, at + LONGEST_RULE);
    let found: CharsMatch | undefined;
    let node = offsetOf(units[0]!);
    for (let i = at; i < end; i++) {
      const byte = bytes[i]!;
      if (byte === 0) break; // the end of a key
      node ^= byte;
      const unit = units[node];
      if (unit === undefined || (unit & 0x800000ff) !== byte) break;
      node ^= offsetOf(unit);
      if (unit & 0x100) {
        const leaf = units[node];
        if (leaf === undefined) break;
        found = { length: i + 1 - at, replacement: this.replacement(leaf & 0x7fffffff) };
        if (shortest) break;
      }
    }
    return found;
  }

  private replacement(start: number): string {
    let text = this.replacements.get(start);
    if (text === undefined) {
      text = this.table.toString('utf8', start, Math.max(start, this.table.indexOf(0, start)));
      this.replacements.set(start, text);
    }
    return text;
  }
}

const offsetOf = (unit: number) => (unit >>> 10) << ((unit & 0x200) >>> 6);
