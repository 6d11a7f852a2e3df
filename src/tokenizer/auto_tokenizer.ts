/** Opens a tokenizer from disk. */
import { isUtf8 } from 'node:buffer';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { FormatError, UsageError } from '../util/errors.ts';
import { type SpecialTokens, Tokenizer } from './tokenizer.ts';
import { parseTokenizerJson, type TokenizerFile } from './tokenizer_json.ts';

/** A tokenizer.json of a million pieces has a tenth of this. */
const MAXIMUM_BYTES = 256 << 20;

/** What the tokens are called where no tokenizer_config.json says it. */
const usualNames: Required<SpecialTokens> = {
  bos_token: '<s>',
  eos_token: '</s>',
  unk_token: '<unk>',
  sep_token: '<sep>',
  pad_token: '<pad>',
  cls_token: '<cls>',
  mask_token: '<mask>',
};

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
export function openTokenizer(directoryOrFile: string): Tokenizer {
  if (!existsSync(directoryOrFile))
    throw new UsageError(`${directoryOrFile}: not found, expected a tokenizer.json or a folder with one`);
  const path = statSync(directoryOrFile).isDirectory() ? join(directoryOrFile, 'tokenizer.json') : directoryOrFile;
  if (!existsSync(path)) throw new UsageError(`${path}: not found, expected the tokenizer of this folder`);
  const file = parseTokenizerJson(readText(path), path);
  return new Tokenizer(file, specialTokens(dirname(path), file), path);
}

function readText(path: string): string {
  const { size } = statSync(path);
  if (size > MAXIMUM_BYTES) throw new FormatError(`${path}: ${size} bytes, expected at most ${MAXIMUM_BYTES}`);
  const bytes = readFileSync(path);
  if (!isUtf8(bytes)) throw new FormatError(`${path}: not UTF-8 text, expected JSON`);
  return bytes.toString();
}

/** The parts that tokenizer_config.json names, or else the tokens of the usual names. */
function specialTokens(directory: string, file: TokenizerFile): SpecialTokens {
  const path = join(directory, 'tokenizer_config.json');
  const config = existsSync(path) ? parseObject(readText(path), path) : {};
  const known = (token: string) =>
    file.model.vocab.has(token) || file.added_tokens.some(({ content }) => content === token);
  const found: SpecialTokens = {};
  for (const part of Object.keys(usualNames) as (keyof SpecialTokens)[]) {
    const named = config[part];
    const content = typeof named === 'object' && named !== null ? (named as { content?: unknown }).content : named;
    const token = typeof content === 'string' ? content : part in config ? undefined : usualNames[part];
    if (token !== undefined && known(token)) found[part] = token;
  }
  return found;
}

function parseObject(text: string, path: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  } catch (cause) {
    throw new FormatError(`${path}: not JSON: ${(cause as Error).message}`, { cause });
  }
  throw new FormatError(`${path}: not an object, expected the fields of a tokenizer_config.json`);
}
