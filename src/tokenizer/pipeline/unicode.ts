/** What Rust and Oniguruma mean by spaces, words and punctuation, as classes of JavaScript expressions. */

/** Inside of a class: the property White_Space. JavaScript's \s has U+FEFF and lacks U+0085. */
export const SPACES = '\\p{White_Space}';
const LETTERS = '\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}';
/** Inside of a class: \w of Oniguruma, which patterns of files are written for. Latin-1's ¹²³¼½¾ are words to it, ④ is not. */
export const WORD = `${LETTERS}\\u00b2\\u00b3\\u00b9\\u00bc-\\u00be`;
/** Inside of a class: \w of Rust, which joiners belong to. */
export const RUST_WORD = `${LETTERS}\\u200c\\u200d`;

export const isSpace = (character: string) => SPACE.test(character);
export const SPACE = new RegExp(`^[${SPACES}]$`, 'u');
export const LEADING_SPACES = new RegExp(`^[${SPACES}]+`, 'u');
export const STARTS_WITH_WORD = new RegExp(`^[${RUST_WORD}]`, 'u');
export const ENDS_WITH_WORD = new RegExp(`[${RUST_WORD}]$`, 'u');

/** Units of the spaces at the end of text[0 … end); a plain loop, for expressions that end in $ look back from everywhere. */
export function trailingSpaces(text: string, end: number): number {
  let start = end;
  while (start > 0 && isSpace(text[start - 1]!)) start--;
  return end - start;
}
