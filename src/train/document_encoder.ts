/** A tokenizer as `prepare` needs it. */
import type { DocumentEncoder } from '../data/prepare.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';

/** Plain ids: special tokens spelled out in a corpus are ordinary text there. */
export const documentEncoder = (tokenizer: Tokenizer): DocumentEncoder => ({
  hash: tokenizer.hash,
  vocab_size: tokenizer.vocab_size,
  encodeBatch: (texts) => tokenizer.encodeBatch(texts, { add_special_tokens: false, split_special_tokens: true }),
});
