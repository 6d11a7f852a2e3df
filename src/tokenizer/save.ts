/** Writes a tokenizer's folder. */
import { join } from 'node:path';
import { makeFolder, writeWhole } from '../util/new_file.ts';
import type { Tokenizer } from './tokenizer.ts';
import { formatTokenizerJson } from './tokenizer_json.ts';

/** Writes the tokenizer's file, tokenizer.json or spiece.model, with tokenizer_config.json and special_tokens_map.json. */
export function saveTokenizer(directory: string, tokenizer: Tokenizer): void {
  const names = { ...tokenizer.special, additional_special_tokens: tokenizer.additional_special_tokens };
  const config = {
    tokenizer_class: tokenizer.spiece ? (tokenizer.config.tokenizer_class ?? 'T5Tokenizer') : 'PreTrainedTokenizerFast',
    ...(tokenizer.spiece ? { legacy: tokenizer.config.legacy ?? true, extra_ids: tokenizer.config.extra_ids } : {}),
    clean_up_tokenization_spaces: tokenizer.config.clean_up_tokenization_spaces ?? false,
    model_max_length: Number.isFinite(tokenizer.model_max_length) ? tokenizer.model_max_length : 1e30,
    ...names,
  };
  makeFolder(directory);
  if (tokenizer.spiece) writeWhole(join(directory, 'spiece.model'), tokenizer.spiece);
  else writeWhole(join(directory, 'tokenizer.json'), formatTokenizerJson(tokenizer.file));
  writeWhole(join(directory, 'tokenizer_config.json'), `${JSON.stringify(config, null, 2)}\n`);
  writeWhole(join(directory, 'special_tokens_map.json'), `${JSON.stringify(names, null, 2)}\n`);
}
