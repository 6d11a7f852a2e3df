/**
 * sentencepiece's named normalisation rules, made from Unicode's own normal forms, as a precompiled charsmap:
 *
 *   nfkc          every character and every sequence that composes -> its normal form NFKC
 *   nmt_nfkc      and: control characters vanish, other spaces and invisible characters become a space, the full-width
 *                 tilde stays
 *   …_cf          and: without case, by simple case folding
 *
 *   charsmap = bytes of the trie (u32), trie (double_array.ts: sequence -> place of its normal form), normal forms, each
 *              ended by a zero byte; all little-endian
 */
import { doubleArray } from './double_array.ts';

/** sentencepiece's normalisation rules by name. */
export const normalizations = ['nmt_nfkc', 'nfkc', 'nmt_nfkc_cf', 'nfkc_cf', 'identity'] as const;
export type Normalization = (typeof normalizations)[number];

const range = (first: number, last: number) => Array.from({ length: last - first + 1 }, (_, i) => first + i);
const removed = [...range(0x1, 0x8), 0xb, ...range(0xe, 0x1f), 0x7f, 0x8f, 0x9f];
const spaces = [
  ...[0x9, 0xa, 0xc, 0xd, 0x1680, 0x200b, 0x200c, 0x200e, 0x200f],
  ...[0x2028, 0x2029, 0x2581, 0xfeff, 0xfffd],
];
const FULL_WIDTH_TILDE = '\uff5e';
/** What Unicode 17 added and an older JavaScript engine does not know: normal forms, small letters of capitals. */
const newest = new Map([['\ua7f1', 'S']]);
const newestSmall = new Map(
  [
    ...[0xa7ce, 0xa7d2, 0xa7d4].map((c) => [c, c + 1] as const),
    ...range(0x16ea0, 0x16eb8).map((c) => [c, c + 0x1b] as const),
  ].map((pair) => pair.map((c) => String.fromCodePoint(c)) as [string, string]),
);
/** Where characters with another normal form or another case are: all but ideographs, private use and higher planes. */
const blocks = [
  [0x1, 0x33ff],
  [0xa000, 0xd7ff],
  [0xf900, 0x1ffff],
  [0x2f800, 0x2fa1f],
] as const;
/** Characters in the longest sequence that composes to one. */
const LONGEST = 4;

function* characters(): Generator<string> {
  for (const [first, last] of blocks) for (let c = first; c <= last; c++) yield String.fromCodePoint(c);
}

const made = new Map<Normalization, Uint8Array>();
let base: ReadonlyMap<string, string> | undefined; // of nfkc

/** The charsmap of a rule; empty for identity. */
export function charsmap(name: Normalization): Uint8Array {
  let found = made.get(name);
  if (!found) {
    found = name === 'identity' ? new Uint8Array() : compile(normalizationRules(name));
    made.set(name, found);
  }
  return found;
}

/** Sequence -> normal form, for every sequence that does not follow from shorter ones by the longest match first. */
export function normalizationRules(name: Exclude<Normalization, 'identity'>): Map<string, string> {
  base ??= nfkc();
  const rules = new Map(base);
  if (name.startsWith('nmt')) {
    for (const c of removed) rules.set(String.fromCodePoint(c), '');
    for (const c of spaces) rules.set(String.fromCodePoint(c), ' ');
    rules.delete(FULL_WIDTH_TILDE);
  }
  if (name.endsWith('cf')) {
    for (const [from, to] of rules) rules.set(from, fold(to));
    for (const character of characters()) {
      const folded = fold(character);
      if (folded !== character && !rules.has(character)) rules.set(character, folded);
    }
  }
  return rules;
}

function nfkc(): Map<string, string> {
  const rules = new Map<string, string>();
  const spelledBy = new Map<string, string[]>(); // one character -> other characters with that normal form
  const composed: [string, string][] = []; // canonical or compatible parts, the one character that they make
  for (const character of characters()) {
    const form = newest.get(character) ?? character.normalize('NFKC');
    if (form !== character) rules.set(character, form);
    if (!isOne(form)) continue;
    if (form !== character) spelledBy.set(form, [...(spelledBy.get(form) ?? []), character]);
    const parts = form.normalize('NFKD');
    if (!isOne(parts)) composed.push([parts, form]);
  }
  const bySize: Map<string, string>[] = [];
  for (const [parts, form] of composed) {
    let sequences = [''];
    for (const part of parts) {
      const spelled = [part, ...(spelledBy.get(part) ?? [])];
      sequences = sequences.flatMap((start) => spelled.map((c) => start + c));
    }
    const size = [...parts].length;
    bySize[size] ??= new Map();
    for (const sequence of sequences) bySize[size].set(sequence, form);
  }
  for (const sequences of bySize) {
    const needed = [...(sequences ?? [])].filter(([from, to]) => apply(rules, from) !== to);
    for (const [from, to] of needed) rules.set(from, to);
  }
  return rules;
}

const isOne = (text: string) => text.length === (text.codePointAt(0)! > 0xffff ? 2 : 1);

/** A text by rules, the longest match first. */
function apply(rules: ReadonlyMap<string, string>, text: string): string {
  const characters = [...text];
  let result = '';
  for (let i = 0; i < characters.length; ) {
    let size = Math.min(LONGEST, characters.length - i);
    let form: string | undefined;
    for (; size > 0 && form === undefined; size--) form = rules.get(characters.slice(i, i + size).join(''));
    result += form ?? characters[i];
    i += form === undefined ? 1 : size + 1;
  }
  return result;
}

/** Simple case folding: one character for one, lower case; Cherokee, whose small letters are newer, upper case. */
function fold(text: string): string {
  let folded = '';
  for (const character of text) {
    const raised = character.toUpperCase();
    const upper = isOne(raised) ? raised : character;
    const lowered = newestSmall.get(upper) ?? upper.toLowerCase();
    if (character === 'ı' || /[\u13a0-\u13f5]/.test(upper)) folded += character === 'ı' ? character : upper;
    else folded += isOne(lowered) ? lowered : character;
  }
  return folded;
}

function compile(rules: ReadonlyMap<string, string>): Uint8Array {
  const utf8 = new TextEncoder();
  const sorted = Array.from(rules, ([from, to]) => ({ key: Buffer.from(from), to })).sort((a, b) =>
    Buffer.compare(a.key, b.key),
  );
  const places = new Map<string, number>();
  let text = '';
  let bytes = 0;
  const values = sorted.map(({ to }) => {
    let place = places.get(to);
    if (place === undefined) {
      place = bytes;
      places.set(to, place);
      text += `${to}\0`;
      bytes += Buffer.byteLength(to) + 1;
    }
    return place;
  });
  const units = doubleArray(
    sorted.map(({ key }) => key),
    values,
  );
  const blob = new Uint8Array(4 + 4 * units.length + bytes);
  const view = new DataView(blob.buffer);
  view.setUint32(0, 4 * units.length, true);
  units.forEach((value, i) => {
    view.setUint32(4 + 4 * i, value, true);
  });
  blob.set(utf8.encode(text), 4 + 4 * units.length);
  return blob;
}
