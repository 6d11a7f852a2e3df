/** The pre-tokenizers of tokenizer.json: each cuts every part of the text into smaller ones. */
import { GPT2_PATTERN } from '../patterns.ts';
import type { Metaspace, PreTokenizer, SplitBehavior } from '../schema.ts';
import { type NormalizedText, prepend, replaceMatches } from './normalized_text.ts';
import { bytesOf } from './normalizers.ts';
import { compilePattern } from './regex.ts';
import { scriptCuts } from './scripts.ts';
import { RUST_WORD, SPACES } from './unicode.ts';

export type PreTokenize = (part: NormalizedText) => NormalizedText[];

const GPT2 = compilePattern({ Regex: GPT2_PATTERN }, 'ByteLevel');
const SPACE = new RegExp(`[${SPACES}]`, 'gu');
const WORDS = new RegExp(`[${RUST_WORD}]+|[^${RUST_WORD}${SPACES}]+`, 'gu');
const PUNCTUATION = /[!-/:-@[-`{-~\p{P}]/gu;
const NUMERIC = /\p{N}/gu;

/** What a pre-tokenizer of the file does. @throws FormatError for a pattern; `who` names file and field */
export function compilePreTokenizer(part: PreTokenizer | null, who: string): PreTokenize {
  if (part === null) return (text) => [text];
  switch (part.type) {
    case 'Sequence': {
      const steps = part.pretokenizers.map((step) => compilePreTokenizer(step, who));
      return (text) => steps.reduce((parts, step) => parts.flatMap(step), [text]);
    }
    case 'ByteLevel':
      return (text) => {
        if (part.add_prefix_space && !text.text.startsWith(' ')) text = prepend(text, ' ');
        return (part.use_regex ? split(text, GPT2, 'Isolated') : [text]).map(bytesOf);
      };
    case 'Metaspace':
      return metaspace(part);
    case 'Whitespace':
      return (text) => split(text, WORDS, 'Removed', 'invert');
    case 'WhitespaceSplit':
      return (text) => split(text, SPACE, 'Removed');
    case 'BertPreTokenizer':
      return (text) => split(text, SPACE, 'Removed').flatMap((word) => split(word, PUNCTUATION, 'Isolated'));
    case 'UnicodeScripts':
      return (text) => text.parts(scriptCuts(text.text));
    case 'Punctuation':
      return (text) => split(text, PUNCTUATION, part.behavior);
    case 'Digits':
      return (text) => split(text, NUMERIC, part.individual_digits ? 'Isolated' : 'Contiguous');
    case 'CharDelimiterSplit': {
      const delimiter = compilePattern({ String: part.delimiter }, who);
      return (text) => split(text, delimiter, 'Removed');
    }
    case 'FixedLength': {
      const chunks = new RegExp(`[^]{1,${part.length}}`, 'gu');
      return (text) => split(text, chunks, 'Isolated');
    }
    case 'Split': {
      const pattern = compilePattern(part.pattern, who);
      return (text) => split(text, pattern, part.behavior, part.invert ? 'invert' : undefined);
    }
  }
}

/** Where spaces get their mark in front of the text. Older files have a flag instead. */
export const prependScheme = (part: Metaspace) =>
  part.add_prefix_space === false ? 'never' : (part.prepend_scheme ?? 'always');

function metaspace(part: Metaspace): PreTokenize {
  const scheme = prependScheme(part);
  const mark = compilePattern({ String: part.replacement }, 'Metaspace');
  return (text) => {
    text = replaceMatches(text, / /gu, part.replacement);
    const wanted = scheme === 'always' || (scheme === 'first' && text.original(0, text.text.length)[0] === 0);
    if (wanted && !text.text.startsWith(part.replacement)) text = prepend(text, part.replacement);
    return part.split ? split(text, mark, 'MergedWithNext') : [text];
  };
}

type Cut = [start: number, end: number, matched: boolean];

/** Cuts a text at the matches of a pattern; 'invert' exchanges matches and what lies between them. */
function split(text: NormalizedText, pattern: RegExp, behavior: SplitBehavior, invert?: 'invert'): NormalizedText[] {
  const matches: Cut[] = [];
  let last = 0;
  for (const match of text.text.matchAll(pattern)) {
    const end = match.index + match[0].length;
    if (match.index > last) matches.push([last, match.index, invert !== undefined]);
    matches.push([match.index, end, invert === undefined]);
    last = end;
  }
  if (last < text.text.length) matches.push([last, text.text.length, invert !== undefined]);
  return text.parts(joined(matches, behavior).map(([start, end]) => [start, end] as const));
}

function joined(matches: Cut[], behavior: SplitBehavior): Cut[] {
  if (behavior === 'Isolated') return matches;
  if (behavior === 'Removed') return matches.filter(([, , matched]) => !matched);
  if (behavior === 'MergedWithNext') matches.reverse();
  const found: Cut[] = [];
  let before = false;
  for (const cut of matches) {
    const [start, end, matched] = cut;
    const join = behavior === 'Contiguous' ? matched === before : matched && !before;
    const previous = found.at(-1);
    if (!join || !previous) found.push([...cut]);
    else if (behavior === 'MergedWithNext') previous[0] = start;
    else previous[1] = end;
    before = matched;
  }
  return behavior === 'MergedWithNext' ? found.reverse() : found;
}
