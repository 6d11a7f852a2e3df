/** A tokenizer as `prepare` needs it: plain ids, and a hash that names the vocabulary. */
import { createHash } from 'node:crypto';
import type { DocumentEncoder } from '../data/prepare.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { formatTokenizerJson } from '../tokenizer/tokenizer_json.ts';

/** SHA-256 of the tokenizer.json that the tokenizer is saved as. */
export const tokenizerHash = (tokenizer: Tokenizer): string =>
  createHash('sha256').update(formatTokenizerJson(tokenizer.file)).digest('hex');

/** Special tokens spelled out in a corpus are ordinary text there. */
export const documentEncoder = (tokenizer: Tokenizer): DocumentEncoder => ({
  hash: tokenizerHash(tokenizer),
  vocab_size: tokenizer.vocab_size,
  encodeBatch: (texts) => tokenizer.encodeBatch(texts, { add_special_tokens: false, split_special_tokens: true }),
});
