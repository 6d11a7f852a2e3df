/** Unigram training as its definition says it, over every substring and every segmentation: slow, for small corpora. */

export interface ReferenceOptions {
  /** Pieces at most at the end, characters included. */
  room: number;
  target: number;
  maxLength: number;
  shrinking: number;
  iterations: number;
}

type Scores = Map<string, number>;

/** Digamma by the recurrence up to 50 and three terms of the series. */
function digamma(x: number): number {
  let result = 0;
  for (; x < 50; x++) result -= 1 / x;
  return result + Math.log(x) - 1 / (2 * x) - 1 / (12 * x ** 2) + 1 / (120 * x ** 4);
}

const sum = (values: Iterable<number>) => [...values].reduce((a, b) => a + b, 0);

/** Substrings that occur twice and whose occurrences go on in more than one way; ends of words are all different. */
function seeds(words: Map<string, number>, maxLength: number): Scores {
  const count: Scores = new Map();
  const followers = new Map<string, Set<string>>();
  const places = new Map<string, number>();
  for (const [word, weight] of words)
    for (let start = 0; start < word.length; start++)
      for (let end = start + 1; end <= word.length && end - start <= maxLength; end++) {
        const piece = word.slice(start, end);
        count.set(piece, (count.get(piece) ?? 0) + weight);
        places.set(piece, (places.get(piece) ?? 0) + 1);
        if (!followers.has(piece)) followers.set(piece, new Set());
        followers.get(piece)!.add(end < word.length ? word[end]! : `end of ${word}`);
      }
  const found: Scores = new Map();
  for (const [piece, times] of count) {
    const branches = followers.get(piece)!.size > 1 || [...followers.get(piece)!][0]!.length > 1;
    if (piece.length === 1 || (times >= 2 && branches)) found.set(piece, times * piece.length);
  }
  const total = Math.log(sum(found.values()));
  for (const [piece, covered] of found) found.set(piece, Math.log(covered) - total);
  return found;
}

/** All ways to spell a word, each with the sum of its scores; characters that are no piece cost the penalty. */
function segmentations(word: string, scores: Scores): { pieces: string[]; score: number }[] {
  const unknown = Math.min(...scores.values()) - 10;
  const ways: { pieces: string[]; score: number }[][] = [[{ pieces: [], score: 0 }]];
  for (let end = 1; end <= word.length; end++) {
    ways[end] = [];
    for (let start = 0; start < end; start++) {
      const piece = word.slice(start, end);
      const score = scores.get(piece) ?? (piece.length === 1 ? unknown : undefined);
      if (score !== undefined)
        for (const way of ways[start]!) ways[end]!.push({ pieces: [...way.pieces, piece], score: way.score + score });
    }
  }
  return ways[word.length]!;
}

const likeliest = (ways: { pieces: string[]; score: number }[]) => ways.reduce((a, b) => (b.score > a.score ? b : a));

function expectationMaximisation(words: Map<string, number>, scores: Scores): Scores {
  const expected: Scores = new Map();
  for (const [word, weight] of words) {
    const ways = segmentations(word, scores);
    const total = sum(ways.map((way) => Math.exp(way.score)));
    for (const { pieces, score } of ways)
      for (const piece of pieces) expected.set(piece, (expected.get(piece) ?? 0) + (weight * Math.exp(score)) / total);
  }
  const kept = [...expected].filter(([piece, count]) => scores.has(piece) && count >= 0.5);
  const total = digamma(sum(kept.map(([, count]) => count)));
  return new Map(kept.map(([piece, count]) => [piece, digamma(count) - total]));
}

function prune(words: Map<string, number>, scores: Scores, { target, shrinking }: ReferenceOptions): Scores {
  const counts: Scores = new Map();
  for (const [word, weight] of words)
    for (const piece of likeliest(segmentations(word, scores)).pieces)
      counts.set(piece, (counts.get(piece) ?? 0) + weight);
  const total = sum(counts.values());
  const losses: [string, number][] = [];
  const kept = new Set<string>();
  for (const piece of scores.keys()) {
    const count = counts.get(piece);
    if (count === undefined) continue;
    if (piece.length === 1) kept.add(piece);
    else {
      const others = segmentations(piece, scores).filter(({ pieces }) => pieces.length > 1);
      const { pieces, score } = likeliest(others);
      if (score > scores.get(piece)!) continue;
      const without = sum(pieces.map((p) => Math.log((counts.get(p) ?? 0) + count)));
      const after = without - pieces.length * Math.log(total + count * (pieces.length - 1));
      losses.push([piece, count * (Math.log(count / total) - after)]);
    }
  }
  losses.sort((a, b) => b[1] - a[1]);
  const size = Math.max(target, Math.trunc(shrinking * scores.size));
  for (const [piece] of losses.slice(0, Math.max(0, size - kept.size))) kept.add(piece);
  return new Map([...scores].filter(([piece]) => kept.has(piece)));
}

/** Pieces and log probabilities of words and how often each occurs. */
export function referenceUnigram(words: Map<string, number>, options: ReferenceOptions): Scores {
  let scores = seeds(words, options.maxLength);
  const characters = [...scores.keys()].filter((piece) => piece.length === 1);
  for (let before = 0; ; ) {
    for (let i = 0; i < options.iterations; i++) scores = expectationMaximisation(words, scores);
    before = scores.size;
    if (before <= options.target) break;
    scores = prune(words, scores, options);
    if (scores.size === before) break;
  }
  const others = [...scores].filter(([piece]) => piece.length > 1).sort((a, b) => b[1] - a[1]);
  const found: Scores = new Map(others.slice(0, options.room - characters.length));
  for (const character of characters) found.set(character, scores.get(character) ?? Number.NaN);
  return found;
}
