/** Regular expressions of tokenizer.json (Oniguruma's dialect) as JavaScript's. */
import { FormatError } from '../../util/errors.ts';
import type { Pattern } from '../schema.ts';
import { SPACES, WORD } from './unicode.ts';

const classes: Record<string, string> = {
  s: `[${SPACES}]`,
  S: `[^${SPACES}]`,
  w: `[${WORD}]`,
  W: `[^${WORD}]`,
  d: '\\p{Nd}',
  D: '\\P{Nd}',
  h: '[0-9a-fA-F]',
  H: '[^0-9a-fA-F]',
  A: '(?<![^])',
  z: '(?![^])',
};
const insideClass: Record<string, string> = { s: SPACES, w: WORD, d: '\\p{Nd}', h: '0-9a-fA-F' };
/** Letters whose case variants are more than two. */
const moreCases: Record<string, string> = { s: 'sS\\u017f', k: 'kK\\u212a' };

/** A global expression for a pattern. @throws FormatError naming the pattern; `who` names file and field */
export function compilePattern(pattern: Pattern, who: string): RegExp {
  if ('String' in pattern) return new RegExp(pattern.String.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&'), 'gu');
  try {
    return new RegExp(translate(pattern.Regex), 'gu');
  } catch (cause) {
    const message = (cause as Error).message;
    throw new FormatError(`${who}: pattern ${JSON.stringify(pattern.Regex)} is not supported: ${message}`, { cause });
  }
}

/** Walks an expression once; `(?i:…)` becomes both cases of its letters, possessive quantifiers greedy ones. */
function translate(source: string): string {
  let out = '';
  let inClass = 0;
  let quantified = false; // the last thing written is a quantifier
  const groups: boolean[] = []; // ignoring case?
  let ignoreCase = false;
  for (let i = 0; i < source.length; i++) {
    const c = source[i]!;
    if (c === '\\') {
      out += escaped(source[++i] ?? '', inClass > 0);
      if (source[i + 1] === '{' && /[pPxu]/.test(source[i]!)) {
        const end = source.indexOf('}', i);
        out += source.slice(i + 1, end + 1);
        i = end < 0 ? source.length : end;
      }
      quantified = false;
      continue;
    }
    if (inClass > 0) {
      if (c === '[') inClass++;
      if (c === ']') inClass--;
      if (c === '[' || (c === ']' && inClass > 0)) throw new SyntaxError('a class within a class');
      out += c;
      continue;
    }
    if (c === '[') inClass = 1;
    if (c === '(') {
      groups.push(ignoreCase);
      const flags = /^\?([imx]*)(?:-[imx]*)?([:)])/.exec(source.slice(i + 1, i + 9));
      if (flags && flags[1] !== '') {
        if (flags[1] !== 'i' || flags[2] !== ':') throw new SyntaxError(`option ${flags[1]}`);
        ignoreCase = true;
        out += '(?:';
        i += flags[0].length;
        continue;
      }
    }
    if (c === ')') ignoreCase = groups.pop() ?? false;
    if (c === '+' && quantified) continue; // possessive
    quantified = c === '?' || c === '*' || c === '+' || c === '}';
    out +=
      ignoreCase && /[a-zA-Z]/.test(c) ? `[${moreCases[c.toLowerCase()] ?? c.toLowerCase() + c.toUpperCase()}]` : c;
  }
  return out;
}

function escaped(c: string, inClass: boolean): string {
  const known = inClass ? insideClass[c] : classes[c];
  if (known !== undefined) return known;
  if (inClass && classes[c] !== undefined) throw new SyntaxError(`\\${c} within a class`);
  if (/[a-zA-Z0-9]/.test(c)) {
    if (/[pPnrtfvbBuxk0-9]/.test(c)) return `\\${c}`;
    throw new SyntaxError(`\\${c}`);
  }
  return /[\\^$.*+?()[\]{}|/]/.test(c) || (inClass && c === '-') ? `\\${c}` : c;
}
