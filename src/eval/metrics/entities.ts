/**
 * Entity-level precision, recall and F1 of tag sequences (B-, I-, E-, S- and O), as seqeval's default mode counts them:
 * an entity is right if its type and both ends are. An I- that follows no entity of its type begins one.
 *
 * Source: the CoNLL-2000 evaluation; behaviour of seqeval 1.2.2.
 */
import { UsageError } from '../../util/errors.ts';
import { type F1, f1Of } from './classification.ts';
import { paired } from './pairs.ts';

/** Words that a tag sequence takes together. */
export interface Entity {
  type: string;
  /** First and last word, both inclusive. */
  start: number;
  end: number;
}

function parseTag(tag: string): { tag: string; type: string } {
  const match = /^([BIES])(?:-(.*))?$/.exec(tag);
  if (tag !== 'O' && !match)
    throw new UsageError(`entities: tag is "${tag}", expected O, B-TYPE, I-TYPE, E-TYPE or S-TYPE`);
  return match ? { tag: match[1]!, type: match[2] || '_' } : { tag: 'O', type: '' };
}

/** The entities of one sentence. @throws UsageError for a tag of another form */
export function entitiesOf(tags: readonly string[]): Entity[] {
  const entities: Entity[] = [];
  let open: Entity | undefined;
  let before = 'O';
  tags.forEach((text, i) => {
    const { tag, type } = parseTag(text);
    const goesOn = open && type === open.type && (tag === 'I' || tag === 'E') && (before === 'B' || before === 'I');
    if (goesOn) open!.end = i;
    else if (tag === 'O') open = undefined;
    else entities.push((open = { type, start: i, end: i }));
    before = tag;
  });
  return entities;
}

/** Number of I- and E- tags that follow no entity of their type: 0 in valid BIO. @throws UsageError */
export function invalidTags(tags: readonly string[]): number {
  return tags.filter((text, i) => {
    const { tag, type } = parseTag(text);
    if (tag !== 'I' && tag !== 'E') return false;
    const last = parseTag(tags[i - 1] ?? 'O');
    return (last.tag !== 'B' && last.tag !== 'I') || last.type !== type;
  }).length;
}

/** Shares in [0, 1]. */
export interface EntityScores {
  micro: F1;
  macro: F1;
  weighted: F1;
  per_type: Record<string, F1>;
  /** Share of predicted tags that break the scheme. */
  invalid_tags: number;
  /** Share of words whose tag is right. */
  accuracy: number;
}

/** Scores over sentences of tags. @throws UsageError if a sentence and its prediction differ in length */
export function entityScores(
  predictions: readonly (readonly string[])[],
  references: readonly (readonly string[])[],
): EntityScores {
  paired('entities', predictions, references);
  const count = new Map<string, { hits: number; predicted: number; expected: number }>();
  const of = (type: string) => {
    if (!count.has(type)) count.set(type, { hits: 0, predicted: 0, expected: 0 });
    return count.get(type)!;
  };
  let [words, right, invalid] = [0, 0, 0];
  predictions.forEach((tags, s) => {
    const truth = references[s]!;
    if (tags.length !== truth.length)
      throw new UsageError(`entities: sentence ${s + 1} has ${tags.length} predicted tags, expected ${truth.length}`);
    words += tags.length;
    right += tags.filter((tag, i) => tag === truth[i]).length;
    invalid += invalidTags(tags);
    const key = ({ type, start, end }: Entity) => `${start} ${end} ${type}`;
    const expected = entitiesOf(truth);
    const known = new Set(expected.map(key));
    for (const { type } of expected) of(type).expected++;
    for (const entity of entitiesOf(tags)) {
      of(entity.type).predicted++;
      if (known.has(key(entity))) of(entity.type).hits++;
    }
  });
  const types = [...count.keys()].sort();
  const per_type = Object.fromEntries(
    types.map((type) => {
      const { hits, predicted, expected } = count.get(type)!;
      return [type, f1Of(hits, predicted, expected)];
    }),
  );
  const sum = (key: 'hits' | 'predicted' | 'expected') =>
    types.reduce((total, type) => total + count.get(type)![key], 0);
  const rows = Object.values(per_type);
  const support = sum('expected');
  const mean = (weight: (row: F1) => number): F1 => {
    const total = (key: 'precision' | 'recall' | 'f1') => rows.reduce((a, row) => a + weight(row) * row[key], 0);
    return { precision: total('precision'), recall: total('recall'), f1: total('f1'), support };
  };
  return {
    micro: f1Of(sum('hits'), sum('predicted'), support),
    macro: mean(() => 1 / Math.max(rows.length, 1)),
    weighted: mean((row) => row.support / Math.max(support, 1)),
    per_type,
    invalid_tags: invalid / Math.max(words, 1),
    accuracy: right / Math.max(words, 1),
  };
}
