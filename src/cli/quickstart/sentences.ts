/** Held-out sentences with masked words, chosen before any training: always the same ones of a corpus. */
import { readFileSync } from 'node:fs';

export interface MaskedSentence {
  /** With <extra_id_0> and <extra_id_1> in the places of words. */
  masked: string;
  original: string;
}

const WORDS = { fewest: 10, most: 22 };

/** `count` sentences spread over a JSON Lines file of passages, two masks each. */
export function maskedSentences(path: string, count: number): MaskedSentence[] {
  const passages = readFileSync(path, 'utf8').trim().split('\n');
  const sentences = passages.flatMap((line) => plainSentences((JSON.parse(line) as { text: string }).text));
  const found: MaskedSentence[] = [];
  for (let i = 0; i < Math.min(count, sentences.length); i++)
    found.push(maskWords(sentences[Math.floor(((i + 0.5) * sentences.length) / count)]!));
  return found;
}

/** Sentences of ordinary words. */
function plainSentences(text: string): string[] {
  return text
    .split(/(?<=[.!?])\s+|\n+/)
    .map((sentence) => sentence.trim())
    .filter((sentence) => {
      const words = sentence.split(' ');
      const plain = words.filter((word) => /^[\p{L}'’-]+[,.;:!?]?$/u.test(word));
      return (
        /^\p{Lu}.*[.!?]$/u.test(sentence) &&
        words.length >= WORDS.fewest &&
        words.length <= WORDS.most &&
        plain.length >= words.length - 1
      );
    });
}

/** Masks one word in the first half and one in the second, the longest of each that closes no clause. */
function maskWords(original: string): MaskedSentence {
  const words = original.split(' ');
  const half = words.length >> 1;
  const pick = (from: number, to: number) => {
    let best = from;
    for (let i = from; i < to; i++)
      if (/^[\p{L}'’-]+$/u.test(words[i]!) && words[i]!.length > words[best]!.length) best = i;
    return best;
  };
  const places = [pick(1, half), pick(half + 1, words.length - 1)];
  const masked = words.map((word, i) => (places.includes(i) ? `<extra_id_${places.indexOf(i)}>` : word)).join(' ');
  return { masked, original };
}
