/** Held-out sentences with a masked word, chosen before any training: always the same ones of a corpus. */
import { readFileSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import { plainWord, sentencesOf } from './corpus.ts';

export interface MaskedSentence {
  /** The sentence with <extra_id_0> in the place of a word. */
  masked: string;
  /** That word. */
  word: string;
}

const WORDS = { fewest: 8, most: 30 };
/** Words that may be masked: enough to leave a choice. */
const FEWEST_PLAIN = 4;

/** At most `count` sentences spread over a JSON Lines file of held-out documents, each once. */
export function maskedSentences(path: string, count: number): MaskedSentence[] {
  const documents = readFileSync(path, 'utf8').trim().split('\n');
  const texts = documents.flatMap((line) => sentencesOf((JSON.parse(line) as { text: string }).text));
  const all = [...new Set(texts)].map(maskWord).filter((sentence) => sentence !== undefined);
  return spread(all.length, count).map((i) => all[i]!);
}

/** At most `count` of the numbers below `length`, evenly spread. */
export function spread(length: number, count: number): number[] {
  const picked = Math.min(count, length);
  return Array.from({ length: picked }, (_, i) => Math.floor(((i + 0.5) * length) / picked));
}

/** Masks a plain word that neither begins the sentence nor closes a clause; which one, the sentence's checksum says. */
function maskWord(sentence: string): MaskedSentence | undefined {
  const words = sentence.split(' ');
  const places = words.flatMap((word, i) => (i > 0 && plainWord.test(word) ? [i] : []));
  if (!/^\p{Lu}.*[.!?]$/u.test(sentence) || words.length < WORDS.fewest || words.length > WORDS.most) return undefined;
  if (places.length < Math.max(FEWEST_PLAIN, words.length / 2)) return undefined;
  const place = places[crc32(sentence) % places.length]!;
  return { masked: words.map((word, i) => (i === place ? '<extra_id_0>' : word)).join(' '), word: words[place]! };
}

/**
 * What the model reads: a mask of its own at the end as well, since T5's noise always covers a text's last token: the
 * last mask of a text stands for its end, and here that one is not asked about.
 */
export const question = ({ masked }: MaskedSentence): string => `${masked} <extra_id_1>`;

export interface Score {
  /** Words that the model wrote exactly. */
  right: number;
  of: number;
  /** What always writing the most frequent of the masked words would get. */
  frequent: { word: string; right: number };
}

/** Compares the model's words with the true ones. */
export function score(sentences: readonly MaskedSentence[], answers: readonly string[]): Score {
  const counts = new Map<string, number>();
  for (const { word } of sentences) counts.set(word, (counts.get(word) ?? 0) + 1);
  const [word, right] = [...counts].reduce((a, b) => (b[1] > a[1] ? b : a), ['', 0]);
  return {
    right: sentences.filter((sentence, i) => sentence.word === answers[i]).length,
    of: sentences.length,
    frequent: { word, right },
  };
}
