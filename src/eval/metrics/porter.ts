/**
 * Porter's suffix stripper, with the changes that NLTK's stemmer makes to it: ROUGE scores are defined by that stemmer.
 *
 * Source: Porter 1980, "An algorithm for suffix stripping"; NLTK's extensions (irregular forms, -ied and -ies of short
 * words, y after consonants only, -fulli, -logi, two-letter stems in *o).
 */
type Condition = (stem: string) => boolean;
type Rule = readonly [suffix: string, replacement: string];

const irregular = new Map(
  Object.entries({
    sky: ['sky', 'skies'],
    die: ['dying'],
    lie: ['lying'],
    tie: ['tying'],
    news: ['news'],
    inning: ['innings', 'inning'],
    outing: ['outings', 'outing'],
    canning: ['cannings', 'canning'],
    howe: ['howe'],
    proceed: ['proceed'],
    exceed: ['exceed'],
    succeed: ['succeed'],
  }).flatMap(([stem, words]) => words.map((word) => [word, stem] as const)),
);

/** "cvcc" for "tree" spelt by consonants and vowels; y is a vowel behind a consonant. */
function letterKinds(word: string): string {
  let kinds = '';
  for (const letter of word) {
    const vowel = 'aeiou'.includes(letter) || (letter === 'y' && kinds.endsWith('c'));
    kinds += vowel ? 'v' : 'c';
  }
  return kinds;
}

/** Porter's m: how often a consonant follows a vowel. */
const measure = (stem: string): number => letterKinds(stem).split('vc').length - 1;
const positive: Condition = (stem) => measure(stem) > 0;
const aboveOne: Condition = (stem) => measure(stem) > 1;
const endsDouble: Condition = (stem) =>
  stem.length > 1 && stem.at(-1) === stem.at(-2) && letterKinds(stem).endsWith('c');

/** Porter's *o: consonant, vowel, consonant other than w, x, y at the end. */
function endsShort(stem: string): boolean {
  const kinds = letterKinds(stem);
  return kinds === 'vc' || (kinds.endsWith('cvc') && !'wxy'.includes(stem.at(-1)!));
}

/** Applies the first rule whose suffix the word has; where its condition fails the word stays as it is. */
function applyFirst(word: string, rules: readonly Rule[], condition: Condition): string {
  for (const [suffix, replacement] of rules)
    if (word.endsWith(suffix)) {
      const stem = word.slice(0, word.length - suffix.length);
      return condition(stem) ? stem + replacement : word;
    }
  return word;
}

function plural(word: string): string {
  if (word.length === 4 && word.endsWith('ies')) return word.slice(0, -1);
  const rules = [
    ['sses', 'ss'],
    ['ies', 'i'],
    ['ss', 'ss'],
    ['s', ''],
  ] as const;
  return applyFirst(word, rules, () => true);
}

function pastAndProgressive(word: string): string {
  if (word.endsWith('ied')) return word.slice(0, word.length === 4 ? -1 : -2);
  if (word.endsWith('eed')) return positive(word.slice(0, -3)) ? word.slice(0, -1) : word;
  const suffix = ['ed', 'ing'].find((s) => word.endsWith(s) && letterKinds(word.slice(0, -s.length)).includes('v'));
  if (!suffix) return word;
  const stem = word.slice(0, -suffix.length);
  if (/(at|bl|iz)$/.test(stem)) return `${stem}e`;
  if (endsDouble(stem)) return /[lsz]$/.test(stem) ? stem : stem.slice(0, -1);
  return measure(stem) === 1 && endsShort(stem) ? `${stem}e` : stem;
}

const yBehindConsonant: Condition = (stem) => stem.length > 1 && letterKinds(stem).endsWith('c');

const doubleSuffixes: readonly Rule[] = [
  ['ational', 'ate'],
  ['tional', 'tion'],
  ['enci', 'ence'],
  ['anci', 'ance'],
  ['izer', 'ize'],
  ['bli', 'ble'],
  ['alli', 'al'],
  ['entli', 'ent'],
  ['eli', 'e'],
  ['ousli', 'ous'],
  ['ization', 'ize'],
  ['ation', 'ate'],
  ['ator', 'ate'],
  ['alism', 'al'],
  ['iveness', 'ive'],
  ['fulness', 'ful'],
  ['ousness', 'ous'],
  ['aliti', 'al'],
  ['iviti', 'ive'],
  ['biliti', 'ble'],
  ['fulli', 'ful'],
];

function doubleSuffix(word: string): string {
  if (word.endsWith('alli') && positive(word.slice(0, -4))) return doubleSuffix(word.slice(0, -2));
  // the l of -logi counts as a part of its stem
  if (word.endsWith('logi')) return positive(word.slice(0, -3)) ? word.slice(0, -1) : word;
  return applyFirst(word, doubleSuffixes, positive);
}

const adjectives: readonly Rule[] = [
  ['icate', 'ic'],
  ['ative', ''],
  ['alize', 'al'],
  ['iciti', 'ic'],
  ['ical', 'ic'],
  ['ful', ''],
  ['ness', ''],
];

const residual = /(al|ance|ence|er|ic|able|ible|ant|ement|ment|ent|ion|ou|ism|ate|iti|ous|ive|ize)$/;

function residualSuffix(word: string): string {
  const suffix = residual.exec(word)?.[0];
  if (!suffix) return word;
  const stem = word.slice(0, -suffix.length);
  return aboveOne(stem) && (suffix !== 'ion' || /[st]$/.test(stem)) ? stem : word;
}

function finalE(word: string): string {
  if (!word.endsWith('e')) return word;
  const stem = word.slice(0, -1);
  const m = measure(stem);
  return m > 1 || (m === 1 && !endsShort(stem)) ? stem : word;
}

/** The stem of a lower-case English word. */
export function porterStem(word: string): string {
  const known = irregular.get(word);
  if (known) return known;
  if (word.length <= 2) return word;
  let stem = pastAndProgressive(plural(word));
  stem = applyFirst(stem, [['y', 'i']], yBehindConsonant);
  stem = residualSuffix(applyFirst(doubleSuffix(stem), adjectives, positive));
  stem = finalE(stem);
  return stem.endsWith('ll') && aboveOne(stem.slice(0, -1)) ? stem.slice(0, -1) : stem;
}
