/** Opens a tokenizer from disk. */
import { isUtf8 } from 'node:buffer';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { HubOptions } from '../hub/hub.ts';
import { FormatError, UsageError } from '../util/errors.ts';
import { openSentencePieceModel, parseSentencePieceModel } from './sentencepiece_model.ts';
import { spieceTokenizer } from './spiece.ts';
import { Tokenizer, type TokenizerOptions } from './tokenizer.ts';
import { parseTokenizerConfig, specialTokens, type TokenizerConfig } from './tokenizer_config.ts';
import { openTokenizerJson, parseTokenizerJson, vocabularyOf } from './tokenizer_json.ts';

/** A tokenizer.json of a million pieces has a tenth of this. */
const MAXIMUM_BYTES = 256 << 20;

export const AutoTokenizer = {
  /**
   * The tokenizer of a folder (tokenizer.json or else spiece.model, beside tokenizer_config.json), of such a file, or of
   * a model of the hub by its name, whose tokenizer is downloaded into the cache.
   * @throws UsageError if there is none, or if the hub refuses
   * @throws FormatError if it is damaged or not supported, naming file and field
   */
  async from_pretrained(place: string, options: Omit<HubOptions, 'files'> = {}): Promise<Tokenizer> {
    if (existsSync(place)) return openTokenizer(place);
    const { resolveModel } = await import('../hub/hub.ts'); // not needed by a process that has its files
    return openTokenizer(await resolveModel(place, { ...options, files: 'tokenizer' }));
  },
};

/** `AutoTokenizer.from_pretrained` of a folder or file, without a promise. */
export function openTokenizer(directoryOrFile: string, options: Pick<TokenizerOptions, 'native'> = {}): Tokenizer {
  if (!existsSync(directoryOrFile))
    throw new UsageError(
      `${directoryOrFile}: not found, expected a tokenizer.json, a spiece.model or a folder with one`,
    );
  const path = statSync(directoryOrFile).isDirectory() ? fileIn(directoryOrFile) : directoryOrFile;
  const config = readConfig(dirname(path));
  if (path.endsWith('.model')) {
    const spiece = readFile(path);
    const model =
      options.native === false ? parseSentencePieceModel(spiece, path) : openSentencePieceModel(spiece, path);
    const { file, special, engine } = spieceTokenizer(model, config, path);
    return new Tokenizer(file, special, path, { ...options, config: config ?? {}, engine, spiece });
  }
  const text = readText(path);
  const file = options.native === false ? parseTokenizerJson(text.toString(), path) : openTokenizerJson(text, path);
  const known = new Set(file.added_tokens.map(({ content }) => content));
  const vocabulary = vocabularyOf(file.model);
  const special = specialTokens(config ?? {}, (token) => known.has(token) || vocabulary.idOf(token) !== undefined);
  return new Tokenizer(file, special, path, { ...options, config: config ?? {} });
}

/** The file of a folder that says most: transformers takes them in this order, too. */
function fileIn(directory: string): string {
  const names = ['tokenizer.json', 'spiece.model', 'sentencepiece.model', 'tokenizer.model'];
  const found = names.map((name) => join(directory, name)).find((path) => existsSync(path));
  if (found !== undefined) return found;
  throw new UsageError(`${directory}: has no ${names.slice(0, 2).join(' and no ')}, expected one of them`);
}

/** tokenizer_config.json, and of an older special_tokens_map.json what it lacks. */
function readConfig(directory: string): TokenizerConfig | undefined {
  let config: TokenizerConfig | undefined;
  for (const name of ['special_tokens_map.json', 'tokenizer_config.json']) {
    const path = join(directory, name);
    if (existsSync(path)) config = { ...config, ...parseTokenizerConfig(readText(path).toString(), path) };
  }
  return config;
}

function readText(path: string): Buffer {
  const bytes = readFile(path);
  if (!isUtf8(bytes)) throw new FormatError(`${path}: not UTF-8 text, expected JSON`);
  return bytes;
}

function readFile(path: string): Buffer {
  const { size } = statSync(path);
  if (size > MAXIMUM_BYTES) throw new FormatError(`${path}: ${size} bytes, expected at most ${MAXIMUM_BYTES}`);
  return readFileSync(path);
}
