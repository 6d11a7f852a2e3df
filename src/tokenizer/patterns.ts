/**
 * Pre-tokenizer patterns. A tokenizer.json carries a regular expression; the native matcher knows the alternatives that
 * BPE tokenizers use, one rule each, tried in order as the alternatives of the expression are.
 */

/** What the pre-tokenizer ByteLevel cuts by. */
export const GPT2_PATTERN = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/** FAT5's French tokenizer: punctuation apart from words, single digits. */
export const FRENCH_PATTERN = ' ?\\p{L}+|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+';

/** FAT5's English tokenizer: contractions, one character before a word, up to three digits. */
export const ENGLISH_PATTERN =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/** Numbers of enum RuleKind in pretokenize.h. */
const LETTERS = 0;
const NUMBERS = 1;
const OTHERS = 2;
const NEWLINES = 3;
const INNER_SPACES = 4;
const SPACES = 5;
const CONTRACTIONS = 6;
const SPACED_NUMBERS = 7;

/** Alternative -> kind and option of struct Rule. */
const rules: Record<string, [number, number]> = {
  '\\p{L}+': [LETTERS, 0],
  ' ?\\p{L}+': [LETTERS, 1],
  '[^\\r\\n\\p{L}\\p{N}]?\\p{L}+': [LETTERS, 2],
  '\\p{N}': [NUMBERS, 1],
  '\\p{N}{1}': [NUMBERS, 1],
  '\\p{N}{1,2}': [NUMBERS, 2],
  '\\p{N}{1,3}': [NUMBERS, 3],
  '\\p{N}+': [NUMBERS, 0],
  '[^\\s\\p{L}\\p{N}]+': [OTHERS, 0],
  ' ?[^\\s\\p{L}\\p{N}]+': [OTHERS, 1],
  ' ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*': [OTHERS, 3],
  '\\s*[\\r\\n]+': [NEWLINES, 0],
  '\\s*[\\r\\n]': [NEWLINES, 0],
  '\\s+(?!\\S)': [INNER_SPACES, 0],
  '\\s+': [SPACES, 0],
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)": [CONTRACTIONS, 0],
  "(?:'s|'t|'re|'ve|'m|'ll|'d)": [CONTRACTIONS, 1],
  ' ?\\p{N}+': [SPACED_NUMBERS, 0],
};

/** GPT-2 writes them as alternatives of their own, in front of all others. */
const GPT2_CONTRACTIONS = /^'s\|'t\|'re\|'ve\|'m\|'ll\|'d(?=\|)/;

/** Alternatives at the top level of an expression. */
function alternatives(pattern: string): string[] {
  const found = [''];
  let depth = 0;
  for (let i = 0; i < pattern.length; i++) {
    const character = pattern[i]!;
    if (character === '(' || character === '[') depth++;
    if (character === ')' || character === ']') depth--;
    if (character === '|' && depth === 0) found.push('');
    else found[found.length - 1] += character === '\\' ? character + (pattern[++i] ?? '') : character;
  }
  return found;
}

/**
 * The rules of a pattern as pairs kind, option; or a string that says what of it is not supported. Every character
 * must be matched by some rule, as it is in all published patterns of this family.
 */
export function patternRules(pattern: string): Int32Array | string {
  const found: [number, number][] = [];
  for (const alternative of alternatives(pattern.replace(GPT2_CONTRACTIONS, '(?:$&)'))) {
    const rule = Object.hasOwn(rules, alternative) ? rules[alternative] : undefined;
    if (!rule) return `alternative "${alternative}"`;
    found.push(rule);
  }
  for (const [kind, what] of [
    [LETTERS, 'letters'],
    [found.some(([k]) => k === SPACED_NUMBERS) ? SPACED_NUMBERS : NUMBERS, 'numbers'],
    [OTHERS, 'punctuation'],
    [SPACES, 'spaces'],
  ] as const)
    if (!found.some(([k]) => k === kind)) return `a pattern without ${what}`;
  return Int32Array.from(found.flat());
}
