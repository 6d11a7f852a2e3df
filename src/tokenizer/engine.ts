/** What a tokenizer does with text, whichever file it came from. */
import { once } from '../util/once.ts';
import { NativeEncoder } from './native_encoder.ts';
import { compileDecoder } from './pipeline/decoders.ts';
import { NormalizedText } from './pipeline/normalized_text.ts';
import { compileNormalizer } from './pipeline/normalizers.ts';
import { openPipeline, type Pipeline } from './pipeline/pipeline.ts';
import type { TokenizerFile } from './tokenizer_json.ts';

export interface Piece {
  piece: string;
  /** A special token, not part of the text. */
  special: boolean;
}

export interface Engine {
  /** TypeScript's way, with offsets; opened when first needed. */
  pipeline(): Pipeline;
  /** C++'s way, ids only, or undefined where there is none. */
  native(prefix: readonly number[], suffix: readonly number[]): NativeEncoder | undefined;
  decode(pieces: readonly Piece[], options: { spaces_between_special_tokens: boolean }): string;
}

/** The engine of a tokenizer.json. `path` is for messages. */
export function jsonEngine(file: TokenizerFile, path: string): Engine {
  const decode = compileDecoder(file.decoder, `${path}: decoder`);
  const spelling = normalizedSpelling(file, path);
  return {
    pipeline: once(() => openPipeline(file, path)),
    native: (prefix, suffix) => NativeEncoder.open(file, prefix, suffix, path),
    decode: (pieces) => decode(pieces.map(({ piece }) => spelling.get(piece) ?? piece)),
  };
}

/** Added tokens that are looked for in normalized text decode as they look there. */
function normalizedSpelling({ added_tokens, normalizer }: TokenizerFile, path: string): Map<string, string> {
  const tokens = added_tokens.filter(({ normalized }) => normalized);
  if (tokens.length === 0 || normalizer === null) return new Map();
  const normalize = compileNormalizer(normalizer, `${path}: normalizer`);
  return new Map(tokens.map(({ content }) => [content, normalize(NormalizedText.of(content)).text]));
}
