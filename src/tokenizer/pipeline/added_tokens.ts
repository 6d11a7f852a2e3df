/** Finds added tokens in text before the model sees it: leftmost, then longest, with what they strip around them. */
import type { AddedToken } from '../schema.ts';
import { ENDS_WITH_WORD, isSpace, STARTS_WITH_WORD, trailingSpaces } from './unicode.ts';

/** A part of a text: a token, or what lies between tokens. */
export interface TextPart {
  start: number;
  end: number;
  token?: AddedToken;
}

/** Cuts texts at the given tokens; `spelling` is how a token looks in them. skipSpecial: special ones are ordinary text. */
export function tokenFinder(
  tokens: readonly AddedToken[],
  spelling: (token: AddedToken) => string = ({ content }) => content,
): (text: string, skipSpecial: boolean) => TextPart[] {
  const bySpelling = new Map(tokens.map((token) => [spelling(token), token]));
  bySpelling.delete('');
  const longestFirst = [...bySpelling.keys()].sort((a, b) => b.length - a.length);
  const pattern = new RegExp(longestFirst.map((text) => text.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&')).join('|'), 'g');
  return (text, skipSpecial) => {
    const parts: TextPart[] = [];
    let last = 0;
    for (const match of longestFirst.length === 0 ? [] : text.matchAll(pattern)) {
      const token = bySpelling.get(match[0])!;
      let start = match.index;
      let end = start + match[0].length;
      if (skipSpecial && token.special) continue;
      if (token.single_word && !standsAlone(text, start, end)) continue;
      if (token.lstrip) start = Math.max(start - trailingSpaces(text, start), last);
      if (token.rstrip) while (end < text.length && isSpace(text[end]!)) end++;
      start = Math.max(start, last);
      if (last < start) parts.push({ start: last, end: start });
      parts.push({ start, end, token });
      last = end;
    }
    if (last < text.length) parts.push({ start: last, end: text.length });
    return parts;
  };
}

function standsAlone(text: string, start: number, end: number): boolean {
  const before = text.slice(Math.max(0, start - 2), start);
  return !ENDS_WITH_WORD.test(before) && !STARTS_WITH_WORD.test(text.slice(end, end + 2));
}
