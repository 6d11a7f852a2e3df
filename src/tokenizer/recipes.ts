/**
 * Which tokens a trained vocabulary starts and ends with, by recipe.
 *
 *   fat5   FAT5's order: <cls> <s> </s> <mask> <pad> <sep> <unk>, sentinels ascending, then mode tokens and bytes
 *   t5     T5's order: <pad> </s> <unk> and bytes first, sentinels last, <extra_id_0> the very last
 *
 * The user's special tokens and symbols stand before the bytes.
 * T5 differs: FAT5 has neither bytes nor mode tokens (it spells "[R]" in three pieces) and no end-of-sequence template.
 */
import type { SpecialTokens } from './tokenizer_config.ts';

export const recipes = ['fat5', 't5'] as const;
export type Recipe = (typeof recipes)[number];

export interface Layout {
  /** Tokens of the ids from 0. */
  first: string[];
  /** Tokens of the last ids; in a spiece.model they are left out, as T5 does it. */
  last: string[];
  /** Those that never arise from text. */
  special: Set<string>;
  /** The user's own, found in text. */
  symbols: string[];
  bytes: Set<string>;
  names: SpecialTokens & { eos_token: string; unk_token: string; pad_token: string };
}

export const byteTokens = Array.from(
  { length: 256 },
  (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`,
);

export interface LayoutOptions {
  recipe: Recipe;
  sentinels: number;
  byte_fallback: boolean;
  special_tokens: readonly string[];
  user_symbols: readonly string[];
}

/** The fixed tokens of a vocabulary. */
export function layoutOf({ recipe, sentinels, byte_fallback, special_tokens, user_symbols }: LayoutOptions): Layout {
  const extra = Array.from({ length: sentinels }, (_, i) => `<extra_id_${i}>`);
  const bytes = byte_fallback ? byteTokens : [];
  const names = { eos_token: '</s>', unk_token: '<unk>', pad_token: '<pad>' };
  const basic =
    recipe === 't5'
      ? ['<pad>', '</s>', '<unk>']
      : ['<cls>', '<s>', '</s>', '<mask>', '<pad>', '<sep>', '<unk>', ...extra, '[R]', '[S]', '[X]'];
  const last = recipe === 't5' ? extra.reverse() : [];
  const special = new Set([...basic, ...special_tokens, ...last]);
  const symbols = [...new Set(user_symbols)].filter((symbol) => !special.has(symbol));
  return {
    first: [...new Set([...basic, ...special_tokens, ...symbols, ...bytes])],
    last,
    special,
    symbols,
    bytes: new Set(bytes),
    names:
      recipe === 't5'
        ? names
        : { ...names, bos_token: '<s>', sep_token: '<sep>', cls_token: '<cls>', mask_token: '<mask>' },
  };
}
