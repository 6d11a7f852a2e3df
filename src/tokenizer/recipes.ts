/**
 * Which tokens a trained vocabulary starts and ends with, by recipe.
 *
 *   fat5   FAT5's order: <cls> <s> </s> <mask> <pad> <sep> <unk>, sentinels ascending, then mode tokens and bytes
 *   t5     T5's order: <pad> </s> <unk> and bytes first, mode tokens and sentinels last, <extra_id_0> the very last
 *
 * T5 differs: FAT5 has neither bytes nor mode tokens (it spells "[R]" in three pieces) and no end-of-sequence template.
 */
import type { SpecialTokens } from './tokenizer_config.ts';

export const recipes = ['fat5', 't5'] as const;
export type Recipe = (typeof recipes)[number];

export interface Layout {
  /** Tokens of the ids from 0. */
  first: string[];
  /** Tokens of the last ids. */
  last: string[];
  /** Those that never arise from text by merging. */
  special: Set<string>;
  names: SpecialTokens;
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
}

/** The fixed tokens of a vocabulary; special_tokens are the user's own, behind the mode tokens. */
export function layoutOf({ recipe, sentinels, byte_fallback, special_tokens }: LayoutOptions): Layout {
  const extra = Array.from({ length: sentinels }, (_, i) => `<extra_id_${i}>`);
  const modes = ['[R]', '[S]', '[X]', ...special_tokens];
  const bytes = byte_fallback ? byteTokens : [];
  const names = { eos_token: '</s>', unk_token: '<unk>', pad_token: '<pad>' };
  if (recipe === 't5') {
    const basic = ['<pad>', '</s>', '<unk>'];
    const last = [...modes, ...extra.reverse()];
    return { first: [...basic, ...bytes], last, special: new Set([...basic, ...last]), names };
  }
  const special = ['<cls>', '<s>', '</s>', '<mask>', '<pad>', '<sep>', '<unk>', ...extra, ...modes];
  return {
    first: [...special, ...bytes],
    last: [],
    special: new Set(special),
    names: { ...names, bos_token: '<s>', sep_token: '<sep>', cls_token: '<cls>', mask_token: '<mask>' },
  };
}
