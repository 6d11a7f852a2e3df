/** Whether a tokenizer belongs to a model: ids that mean something else would be learnt without a sign of it. */
import { cachedFolder } from '../hub/hub.ts';
import { type T5ConfigInput, t5Config } from '../model/config.ts';
import { openTokenizer } from '../tokenizer/auto_tokenizer.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { UsageError } from '../util/errors.ts';
import type { FinetuneConfig } from './config.ts';

/** The ids that a model with random weights takes from its tokenizer. */
export const idsOf = ({ pad_token_id, eos_token_id, decoder_start_token_id }: Tokenizer) => ({
  pad_token_id,
  eos_token_id,
  decoder_start_token_id,
});

/** @throws UsageError if the tokenizer has more ids than the model, other ones for its ends, or other pieces than its own */
export function checkTokenizer(
  { model, tokenizer: named, weights }: FinetuneConfig,
  written: T5ConfigInput,
  tokenizer: Tokenizer,
): void {
  const remedy = named === undefined ? 'name its own in tokenizer' : "leave tokenizer out to take the model's own";
  const refuse = (what: string): never => {
    throw new UsageError(`${model}: ${what}; the tokenizer belongs to another model: ${remedy}`);
  };
  const vocabulary = written.vocab_size ?? 0;
  if (vocabulary < tokenizer.vocab_size)
    refuse(`vocab_size is ${vocabulary}, the tokenizer has ${tokenizer.vocab_size} ids`);
  if (weights === 'random') return;
  const config = t5Config(written, model);
  for (const name of ['pad_token_id', 'eos_token_id'] as const)
    if (config[name] !== tokenizer[name]) refuse(`${name} is ${config[name]}, the tokenizer's is ${tokenizer[name]}`);
  const own = named === undefined ? undefined : ownTokenizer(model);
  if (!own || own.hash === tokenizer.hash) return;
  const pieces = [own, tokenizer].map((one) => one.convert_ids_to_tokens([...Array(one.vocab_size).keys()]));
  const other = pieces[1]!.findIndex((piece, id) => pieces[0]![id] !== piece);
  if (other >= 0)
    refuse(
      `piece ${other} is ${JSON.stringify(pieces[0]![other])} in its tokenizer, ${JSON.stringify(pieces[1]![other])} in ${named}`,
    );
}

/** The tokenizer beside a model's weights, where there is one. */
function ownTokenizer(model: string): Tokenizer | undefined {
  try {
    return openTokenizer(cachedFolder(model)!);
  } catch (error) {
    if (error instanceof UsageError) return undefined;
    throw error;
  }
}
