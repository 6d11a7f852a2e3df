/** The normalizers of tokenizer.json, with the alignments of Hugging Face tokenizers. */
import { once } from '../../util/once.ts';
import type { Normalizer } from '../schema.ts';
import { BYTE_CHARACTERS } from './byte_level.ts';
import { Charsmap } from './charsmap.ts';
import { mapCharacters, type NormalizedText, prepend, replaceMatches, TextBuilder } from './normalized_text.ts';
import { compilePattern } from './regex.ts';
import { isSpace, LEADING_SPACES, trailingSpaces } from './unicode.ts';

export type Normalize = (text: NormalizedText) => NormalizedText;

/** What a normalizer of the file does. `who` names file and field. @throws FormatError for a pattern or charsmap */
export function compileNormalizer(part: Normalizer | null, who: string): Normalize {
  if (part === null) return (text) => text;
  switch (part.type) {
    case 'Sequence': {
      const steps = part.normalizers.map((step) => compileNormalizer(step, who));
      return (text) => steps.reduce((now, step) => step(now), text);
    }
    case 'NFC':
    case 'NFD':
    case 'NFKC':
    case 'NFKD': {
      const form = part.type;
      return (text) => unicodeForm(text, form);
    }
    case 'Nmt':
      return nmt;
    case 'Lowercase':
      return lowercase;
    case 'StripAccents':
      return (text) => mapCharacters(text, (c) => (/\p{M}/u.test(c) ? '' : undefined));
    case 'ByteLevel':
      return bytesOf;
    case 'Strip':
      return (text) => strip(text, part.strip_left, part.strip_right);
    case 'Replace': {
      const pattern = compilePattern(part.pattern, who);
      return (text) => replaceMatches(text, pattern, part.content);
    }
    case 'Prepend':
      return (text) => prepend(text, part.prepend);
    case 'Precompiled': {
      if (!part.precompiled_charsmap) return (text) => text;
      const charsmap = new Charsmap(Buffer.from(part.precompiled_charsmap, 'base64'), who);
      return (text) => precompiled(text, charsmap);
    }
    case 'BertNormalizer':
      return (text) => {
        if (part.clean_text) text = cleanText(text);
        if (part.handle_chinese_chars) text = mapCharacters(text, (c) => (CHINESE.test(c) ? ` ${c} ` : undefined));
        if (part.strip_accents ?? part.lowercase)
          text = mapCharacters(unicodeForm(text, 'NFD'), (c) => (/\p{Mn}/u.test(c) ? '' : undefined));
        return part.lowercase ? lowercase(text) : text;
      };
  }
}

/** Rust lowers character by character, without the context of a final sigma. */
const lowercase: Normalize = (text) =>
  mapCharacters(text, (c) => {
    const lower = c.toLowerCase();
    return lower === c ? undefined : lower;
  });

const NMT_REMOVED = /(?![\t\n\f\r\0\x80-\x8e\x90-\x9e])\p{Cc}/u; // most control characters
const NMT_SPACES = /[\t\n\f\r\u1680\u200b-\u200f\u2028\u2029\u2581\ufeff\ufffd]/;
const nmt: Normalize = (text) =>
  mapCharacters(text, (c) => (NMT_REMOVED.test(c) ? '' : NMT_SPACES.test(c) ? ' ' : undefined));

const CHINESE =
  /[\u4e00-\u9fff\u3400-\u4dbf\u{20000}-\u{2a6df}\u{2a700}-\u{2b73f}\u{2b740}-\u{2b81f}\u{2b920}-\u{2ceaf}\uf900-\ufaff\u{2f800}-\u{2fa1f}]/u;
const cleanText: Normalize = (text) =>
  mapCharacters(text, (c) => {
    if (c === '\t' || c === '\n' || c === '\r') return ' ';
    if (c === '\0' || c === '\ufffd' || /[\p{Cc}\p{Cf}\p{Co}\p{Cn}]/u.test(c)) return '';
    return c !== ' ' && isSpace(c) ? ' ' : undefined;
  });

/** One character per UTF-8 byte. */
export const bytesOf: Normalize = (text) =>
  mapCharacters(text, (c) => Array.from(Buffer.from(c), (byte) => BYTE_CHARACTERS[byte]).join(''));

function strip(text: NormalizedText, left: boolean, right: boolean): NormalizedText {
  const start = left ? (LEADING_SPACES.exec(text.text)?.[0].length ?? 0) : 0;
  const end = right
    ? Math.max(start, text.text.length - trailingSpaces(text.text, text.text.length))
    : text.text.length;
  return start === 0 && end === text.text.length ? text : text.slice(start, end);
}

/** A starter with the marks behind it; jamo and half-width voicing marks compose as well. */
const CLUSTERS = /[\u1100-\u11ff\uac00-\ud7a3]+[\p{M}\uff9e\uff9f]*|\P{M}[\p{M}\uff9e\uff9f]*|\p{M}+/gu;

type Form = 'NFC' | 'NFD' | 'NFKC' | 'NFKD';

function unicodeForm(text: NormalizedText, form: Form): NormalizedText {
  if (text.text.normalize(form) === text.text) return text;
  const builder = new TextBuilder(text);
  for (const match of text.text.matchAll(CLUSTERS)) {
    const [cluster] = match;
    if (cluster.normalize(form) === cluster) builder.keep(match.index, match.index + cluster.length);
    else alignCluster(cluster, match.index, form, builder);
  }
  return builder.finish();
}

/**
 * Counts as Hugging Face does: a decomposition adds characters behind its first, a composition takes as many as it joins;
 * the results then stand for the characters of the input in order, wherever marks were moved to.
 */
function alignCluster(cluster: string, start: number, form: Form, builder: TextBuilder): void {
  const decomposed = form === 'NFC' || form === 'NFD' ? 'NFD' : 'NFKD';
  const parts: { part: string; added: number; used: boolean }[] = [];
  const places: number[] = [];
  let at = start;
  for (const c of cluster) {
    let added = 0;
    for (const part of c.normalize(decomposed)) {
      parts.push({ part, added, used: false });
      added = 1;
    }
    places.push(at);
    at += c.length;
  }
  let next = 0;
  for (const c of cluster.normalize(form)) {
    let change = 1;
    for (const wanted of form === decomposed ? [c] : c.normalize('NFD')) {
      const source = parts.find(({ part, used }) => !used && part === wanted);
      change += (source?.added ?? 0) - 1;
      if (source) source.used = true;
    }
    if (change > 0) builder.put(c, places[next - 1] ?? start);
    else {
      builder.put(c, places[next] ?? start);
      next += 1 - change;
    }
  }
}

/** Made when a text needs it: that takes 10 ms. */
const graphemes = once(() => new Intl.Segmenter('en', { granularity: 'grapheme' }));
/** Whether a text has clusters of more than one character at all. */
const JOINING = /[\p{M}\p{Emoji_Modifier}\r\u1100-\u11ff\u{1f1e6}-\u{1f1ff}\p{Cf}\uff9e\uff9f]/u;

/** Cuts in windows: the time that the engine takes for a cluster grows with the text it is given. */
function* clustersOf(text: string): Generator<[start: number, cluster: string]> {
  let window = 256;
  for (let from = 0; from < text.length; ) {
    const clusters = [...graphemes().segment(text.slice(from, from + window))];
    const last = from + window >= text.length;
    if (!last) clusters.pop(); // it may go on
    for (const { segment, index } of clusters) yield [from + index, segment];
    const read = clusters.reduce((sum, { segment }) => sum + segment.length, 0);
    window = read === 0 ? 2 * window : 256;
    from += read;
  }
}

/** As Hugging Face does it: the shortest rule of a cluster below six bytes replaces all of it, else character by character. */
function precompiled(text: NormalizedText, charsmap: Charsmap): NormalizedText {
  const builder = new TextBuilder(text);
  let kept = 0;
  let changed = false;
  const replace = (start: number, end: number, replacement: string) => {
    builder.keep(kept, start);
    putOver(text, start, end, replacement, builder);
    kept = end;
    changed = true;
  };
  const single = (cluster: string, start: number) => {
    let at = start;
    for (const c of cluster) {
      const rule = charsmap.shortest(Buffer.from(c));
      if (rule) replace(at, at + c.length, rule.replacement);
      at += c.length;
    }
  };
  if (!JOINING.test(text.text)) single(text.text, 0);
  else
    for (const [start, cluster] of clustersOf(text.text)) {
      const bytes = Buffer.from(cluster);
      const rule = bytes.length < 6 ? charsmap.shortest(bytes) : undefined;
      if (rule) replace(start, start + cluster.length, rule.replacement);
      else single(cluster, start);
    }
  if (!changed) return text;
  builder.keep(kept, text.text.length);
  return builder.finish();
}

/** Characters of the replacement stand for those of the match one by one, further ones for the last. */
function putOver(text: NormalizedText, start: number, end: number, replacement: string, builder: TextBuilder): void {
  let at = start;
  let last = start;
  for (const c of replacement) {
    builder.put(c, at < end ? at : last);
    if (at < end) {
      last = at;
      at += (text.text.codePointAt(at) ?? 0) > 0xffff ? 2 : 1;
    }
  }
}
