/** A model on texts: tokenizing, decoding in batches, and back to text. */
import type { GenerateOptions } from '../model/generation/generate.ts';
import type { T5ForConditionalGeneration } from '../model/t5.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { UsageError } from '../util/errors.ts';
import { inGroups, padded } from '../util/id_rows.ts';
import { hasMask } from './fill.ts';

/** UL2's ways of reading: R and X fill masks (X long ones), S goes on after the end of the text. */
export const modes = ['auto', 'R', 'S', 'X', 'none'] as const;
export type Mode = (typeof modes)[number];

export interface WriteOptions extends Omit<GenerateOptions, 'seed'> {
  /** For each text. */
  seed?: readonly number[] | undefined;
  /** Token in front of the source; auto: R where there are masks, S elsewhere, none if the tokenizer has no modes. */
  mode: Mode;
}

/** What the model writes for each text, sentinels kept and other special tokens left out. @throws UsageError */
export async function writeTexts(
  model: T5ForConditionalGeneration,
  tokenizer: Tokenizer,
  texts: readonly string[],
  options: WriteOptions,
): Promise<string[]> {
  return (await writeAnswers(model, tokenizer, texts, { ...options, rows: texts.length })).map(([first]) => first!);
}

/** The same with num_return_sequences answers for each, and `rows` texts of similar length at a time. @throws UsageError */
export async function writeAnswers(
  model: T5ForConditionalGeneration,
  tokenizer: Tokenizer,
  texts: readonly string[],
  { mode, rows, seed: seeds, ...options }: WriteOptions & { rows: number },
): Promise<string[][]> {
  const sentinels = new Set(tokenizer.sentinels);
  const special = new Set(tokenizer.file.added_tokens.filter((token) => token.special).map((token) => token.id));
  const textOf = (ids: readonly number[]) =>
    tokenizer.decode(ids.filter((id) => sentinels.has(id) || !special.has(id))).trim();
  const sources = texts.map((text) => [...modePrefix(tokenizer, text, mode), ...encodeMasked(tokenizer, text)]);
  const answers = await answersTo(model, sources, { ...options, tokenizer, rows, seed: seeds });
  return answers.map((several) => several.map(textOf));
}

/** Ids of the answers, num_return_sequences to each source: `rows` sources of similar length at a time. @throws UsageError */
export async function answersTo(
  model: T5ForConditionalGeneration,
  sources: readonly (readonly number[])[],
  { rows, seed: seeds, ...options }: Omit<WriteOptions, 'mode'> & { rows: number },
): Promise<number[][][]> {
  return inGroups(
    sources.map((ids, i) => ({ ids, seed: seeds?.[i] })),
    rows,
    ({ ids }) => ids.length,
    async (group) => {
      const inputs = padded(
        group.map(({ ids }) => ids),
        model.config.pad_token_id,
      );
      const own = seeds && { seed: group.map((one) => one.seed!) };
      const written = await model.generate({ ...inputs, ...options, ...own, return_dict_in_generate: false });
      const each = written.length / group.length;
      return group.map((_, i) => written.slice(i * each, (i + 1) * each));
    },
  );
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
