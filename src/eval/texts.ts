/** A model on texts: tokenizing, decoding in batches, and back to text. */
import type { T5ForConditionalGeneration } from '../model/t5.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { UsageError } from '../util/errors.ts';
import { hasMask } from './fill.ts';

/** UL2's ways of reading: R and X fill masks (X long ones), S goes on after the end of the text. */
export const modes = ['auto', 'R', 'S', 'X', 'none'] as const;
export type Mode = (typeof modes)[number];

export interface WriteOptions {
  max_new_tokens: number;
  /** Token in front of the source; auto: R where there are masks, S elsewhere, none if the tokenizer has no modes. */
  mode: Mode;
}

/** What the model writes for each text, sentinels kept and other special tokens left out. @throws UsageError */
export async function writeTexts(
  model: T5ForConditionalGeneration,
  tokenizer: Tokenizer,
  texts: readonly string[],
  { max_new_tokens, mode }: WriteOptions,
): Promise<string[]> {
  const rows = texts.map((text) => [...modePrefix(tokenizer, text, mode), ...encodeMasked(tokenizer, text)]);
  const length = Math.max(...rows.map((row) => row.length));
  const pad = (row: readonly number[], value: number) => [
    ...row,
    ...new Array<number>(length - row.length).fill(value),
  ];
  const outputs = await model.generate({
    input_ids: rows.map((row) => pad(row, model.config.pad_token_id)),
    attention_mask: rows.map((row) =>
      pad(
        row.map(() => 1),
        0,
      ),
    ),
    max_new_tokens,
  });
  const sentinels = new Set(tokenizer.sentinels);
  const special = new Set(tokenizer.file.added_tokens.filter((token) => token.special).map((token) => token.id));
  return outputs.map((ids) => tokenizer.decode(ids.filter((id) => sentinels.has(id) || !special.has(id))).trim());
}

/**
 * Ids of a text with masks. Where pieces begin with a word's space, span corruption takes that space with the word: a
 * space left over before a mask would be a token that no training example has there.
 */
function encodeMasked(tokenizer: Tokenizer, text: string): number[] {
  const space = tokenizer.token_to_id(' ');
  const isLeftOver = space !== undefined && tokenizer.encode('a <extra_id_0>').includes(space);
  return tokenizer.encode(isLeftOver ? text.replace(/ +(?=<extra_id_\d+>)/g, '') : text);
}

function modePrefix({ modeTokens }: Tokenizer, text: string, mode: Mode): number[] {
  if (mode === 'none' || (mode === 'auto' && !modeTokens)) return [];
  if (!modeTokens)
    throw new UsageError(`generate: mode ${mode}: the tokenizer has no mode tokens, expected [R], [S], [X]`);
  return [modeTokens[mode === 'auto' ? (hasMask(text) ? 'R' : 'S') : mode]];
}
