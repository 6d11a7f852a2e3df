/** Opens a tokenizer from disk. */
import { isUtf8 } from 'node:buffer';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { FormatError, UsageError } from '../util/errors.ts';
import { Tokenizer, type TokenizerOptions } from './tokenizer.ts';
import { parseTokenizerConfig, specialTokens, type TokenizerConfig } from './tokenizer_config.ts';
import { parseTokenizerJson } from './tokenizer_json.ts';

/** A tokenizer.json of a million pieces has a tenth of this. */
const MAXIMUM_BYTES = 256 << 20;

export const AutoTokenizer = {
  /**
   * The tokenizer of a folder (tokenizer.json beside tokenizer_config.json) or of a tokenizer.json.
   * @throws UsageError if there is none
   * @throws FormatError if it is damaged or not supported, naming file and field
   */
  async from_pretrained(directoryOrFile: string): Promise<Tokenizer> {
    return openTokenizer(directoryOrFile);
  },
};

/** `AutoTokenizer.from_pretrained` without a promise. */
export function openTokenizer(directoryOrFile: string, options: Pick<TokenizerOptions, 'native'> = {}): Tokenizer {
  if (!existsSync(directoryOrFile))
    throw new UsageError(`${directoryOrFile}: not found, expected a tokenizer.json or a folder with one`);
  const path = statSync(directoryOrFile).isDirectory() ? join(directoryOrFile, 'tokenizer.json') : directoryOrFile;
  if (!existsSync(path)) throw new UsageError(`${path}: not found, expected the tokenizer of this folder`);
  const config = readConfig(dirname(path));
  const file = parseTokenizerJson(readText(path), path);
  const known = new Set(file.added_tokens.map(({ content }) => content));
  const vocab = file.model.type === 'Unigram' ? new Map(file.model.vocab) : file.model.vocab;
  const special = specialTokens(config, (token) => known.has(token) || vocab.has(token));
  return new Tokenizer(file, special, path, { ...options, config });
}

/** tokenizer_config.json, and of an older special_tokens_map.json what it lacks. */
function readConfig(directory: string): TokenizerConfig {
  let config: TokenizerConfig = {};
  for (const name of ['special_tokens_map.json', 'tokenizer_config.json']) {
    const path = join(directory, name);
    if (existsSync(path)) config = { ...config, ...parseTokenizerConfig(readText(path), path) };
  }
  return config;
}

function readText(path: string): string {
  const { size } = statSync(path);
  if (size > MAXIMUM_BYTES) throw new FormatError(`${path}: ${size} bytes, expected at most ${MAXIMUM_BYTES}`);
  const bytes = readFileSync(path);
  if (!isUtf8(bytes)) throw new FormatError(`${path}: not UTF-8 text, expected JSON`);
  return bytes.toString();
}
