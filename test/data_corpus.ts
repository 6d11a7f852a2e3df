/** A prepared folder for tests whose every token is another number: what becomes of each can be followed. */
import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type DocumentEncoder, prepare } from '../src/data/prepare.ts';
import { uniform } from './harness.ts';

/** Ids below are specials, sentinels and prefixes; the n-th token of the corpus is FIRST_TOKEN + n. */
export const FIRST_TOKEN = 1000;
export const VOCABULARY = 2 ** 20;
export const EOS = 1;
export const START = 0;
export const PAD = 3;
/** Not in order, so that a list used the wrong way round shows. */
export const SENTINELS = Array.from({ length: 256 }, (_, i) => 100 + ((i * 77) % 256));
export const specials = { eos_token_id: EOS, decoder_start_token_id: START, pad_token_id: PAD, sentinels: SENTINELS };

/** Writes documents of these lengths as a corpus of several shards. */
export async function corpusOf(folder: string, lengths: number[], validation_every = 0): Promise<void> {
  mkdirSync(folder, { recursive: true });
  let next = FIRST_TOKEN;
  const lines = lengths.map((length) => {
    const line = `${next} ${length}`;
    next += length;
    return line;
  });
  const source = join(folder, 'documents.txt');
  writeFileSync(source, lines.join('\n'));
  const tokenizer: DocumentEncoder = {
    vocab_size: VOCABULARY,
    hash: createHash('sha256').update('numbers').digest('hex'),
    encodeBatch(texts) {
      const documents = texts.map((text) => {
        const [first, length] = text.split(' ').map(Number) as [number, number];
        return Array.from({ length }, (_, i) => first + i);
      });
      const offsets = [0];
      for (const document of documents) offsets.push(offsets[offsets.length - 1]! + document.length);
      return { ids: Int32Array.from(documents.flat()), offsets };
    },
  };
  const shard_tokens = Math.ceil((next - FIRST_TOKEN) / 3);
  await prepare({ sources: [source], document: 'line', output: folder, tokenizer, shard_tokens, validation_every });
}

/** Lengths of `count` documents: lognormal around `median`. */
export function lognormalLengths(count: number, median: number, sigma: number, seed: number): number[] {
  const random = uniform(seed);
  return Array.from({ length: count }, () => {
    const normal = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
    return Math.max(1, Math.round(median * Math.exp(sigma * normal)));
  });
}
