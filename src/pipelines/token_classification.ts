/** token-classification: a class for each token, or entities of whole words and phrases. */
import { softmax, trimmedOffsets } from '../eval/answers.ts';
import type { T5ForTokenClassification } from '../model/heads.ts';
import { UsageError } from '../util/errors.ts';
import { inGroups, padded } from '../util/id_rows.ts';
import { suggestion } from '../util/suggest.ts';
import { checkOptions, type Each, labelOf, noteCut, type Parts, type Texts, textsOf } from './parts.ts';

/**
 * none: tokens as they are. simple: neighbouring tokens of one entity together. The others first decide for whole words:
 * by their first token, their surest token (max) or the mean of all their tokens' probabilities.
 */
export const aggregationStrategies = ['none', 'simple', 'first', 'average', 'max'] as const;
export type AggregationStrategy = (typeof aggregationStrategies)[number];

export interface TokenClassificationOptions {
  aggregation_strategy?: AggregationStrategy;
  /** Classes that are left out: ["O"] by default. */
  ignore_labels?: readonly string[];
}

interface Place {
  word: string;
  /** Probability; the mean over the tokens or words of an entity. */
  score: number;
  /** Characters [start, end) of the text, in UTF-16 code units as JavaScript counts. */
  start: number;
  end: number;
}
export type ClassifiedToken = Place & { entity: string; index: number };
export type Entity = Place & { entity_group: string };

export type TokenClassification = <
  T extends Texts,
  const O extends TokenClassificationOptions = { aggregation_strategy: 'none' },
>(
  texts: T,
  options?: O,
) => Promise<
  Each<T, (O extends { aggregation_strategy: 'simple' | 'first' | 'average' | 'max' } ? Entity : ClassifiedToken)[]>
>;

/** A token or a word with the probabilities of its classes. */
interface Unit {
  start: number;
  end: number;
  index: number;
  scores: number[];
}

export const tokenClassification = (parts: Parts<T5ForTokenClassification>): TokenClassification => {
  const { model, task } = parts;
  const call = async (given: Texts, options: TokenClassificationOptions = {}) => {
    const texts = textsOf(task, given);
    checkOptions(task, options, ['aggregation_strategy', 'ignore_labels']);
    const { aggregation_strategy: strategy = 'none', ignore_labels = ['O'] } = options;
    if (!aggregationStrategies.includes(strategy))
      throw new UsageError(
        `${task}: aggregation_strategy is "${strategy}", ${suggestion(String(strategy), aggregationStrategies)}`,
      );
    const results = (await unitsOf(parts, texts)).map((tokens, i) => {
      const text = texts[i]!;
      if (strategy !== 'none') {
        const units = strategy === 'simple' ? tokens.filter(isVisible) : wordsOf(text, tokens, strategy);
        return entitiesOf(text, units, model).filter(({ entity_group }) => !ignore_labels.includes(entity_group));
      }
      const all = tokens.filter(isVisible).map(({ start, end, index, scores }) => {
        const best = likeliest(scores);
        const place = { index, word: text.slice(start, end), start, end };
        return { entity: labelOf(model, best), score: scores[best]!, ...place };
      });
      return all.filter(({ entity }) => !ignore_labels.includes(entity));
    });
    return typeof given === 'string' ? results[0]! : results;
  };
  return call as unknown as TokenClassification;
};

/** Whether there are characters: a piece that is only a space speaks for the word behind it, but not for itself. */
const isVisible = ({ start, end }: Unit) => start < end;

const likeliest = (scores: readonly number[]) => scores.indexOf(Math.max(...scores));

/** The tokens of each text, without the end token. */
function unitsOf(
  { model, tokenizer, batch_size, task }: Parts<T5ForTokenClassification>,
  texts: readonly string[],
): Promise<Unit[][]> {
  const rows = texts.map((text, i) => {
    const { ids, offsets, special_tokens_mask } = tokenizer.encodePlus(text);
    const limit = tokenizer.model_max_length;
    const places = trimmedOffsets(text, offsets).flatMap(([start, end], index) =>
      special_tokens_mask[index] ? [] : [{ start, end, index }],
    );
    if (ids.length <= limit) return { ids, places };
    noteCut(task, i, ids.length, limit);
    const kept = limit - 1;
    return {
      ids: [...ids.slice(0, kept), tokenizer.eos_token_id],
      places: places.filter(({ index }) => index < kept),
    };
  });
  return inGroups(
    rows,
    batch_size,
    ({ ids }) => ids.length,
    async (group) => {
      const { logits } = await model.forward(
        padded(
          group.map(({ ids }) => ids),
          model.config.pad_token_id,
        ),
      );
      const [, columns, classes] = logits.dims as [number, number, number];
      return group.map(({ places }, row) =>
        places.map((place) => {
          const at = (row * columns + place.index) * classes;
          return { ...place, scores: softmax(logits.data.subarray(at, at + classes)) };
        }),
      );
    },
  );
}

/**
 * Tokens joined into words: stretches of text without white space.
 *
 * T5 differs: transformers takes a piece that is only a space for a word of its own. It is the first token of the word
 * behind it, which is where training puts the word's label.
 */
function wordsOf(text: string, tokens: readonly Unit[], strategy: 'first' | 'average' | 'max'): Unit[] {
  const words: Unit[][] = [];
  for (const token of tokens) {
    const before = words.at(-1)?.at(-1);
    if (before && !/\s/.test(text.slice(before.end, token.start))) words.at(-1)!.push(token);
    else words.push([token]);
  }
  const units = words.map((parts) => ({
    start: parts[0]!.start,
    end: parts.at(-1)!.end,
    index: parts[0]!.index,
    scores: wordScores(parts, strategy),
  }));
  return units.filter(isVisible);
}

function wordScores(parts: readonly Unit[], strategy: 'first' | 'average' | 'max'): number[] {
  const [first, ...rest] = parts.map(({ scores }) => scores);
  if (strategy === 'first') return first!;
  if (strategy === 'average')
    return first!.map((score, k) => rest.reduce((sum, other) => sum + other[k]!, score) / parts.length);
  const surest = parts.map(({ scores }) => Math.max(...scores));
  return parts[likeliest(surest)]!.scores;
}

/** Neighbours of one entity together, by the prefixes of BIO and BIOES. */
function entitiesOf(text: string, units: readonly Unit[], model: T5ForTokenClassification): Entity[] {
  const groups: { tag: string; units: { unit: Unit; score: number }[] }[] = [];
  let open: string | undefined;
  for (const unit of units) {
    const best = likeliest(unit.scores);
    const [prefix, tag] = prefixAndTag(labelOf(model, best));
    const one = { unit, score: unit.scores[best]! };
    if (open === tag && prefix !== 'B' && prefix !== 'S') {
      groups.at(-1)!.units.push(one);
      if (prefix === 'E') open = undefined;
    } else {
      groups.push({ tag, units: [one] });
      open = prefix === 'S' ? undefined : tag;
    }
  }
  return groups.map(({ tag, units: own }) => {
    const [start, end] = [own[0]!.unit.start, own.at(-1)!.unit.end];
    const score = own.reduce((sum, { score: one }) => sum + one, 0) / own.length;
    return { entity_group: tag, score, word: text.slice(start, end), start, end };
  });
}

function prefixAndTag(label: string): [prefix: string, tag: string] {
  const [, prefix, tag] = /^([BIES])-(.*)$/.exec(label) ?? [];
  return prefix === undefined ? ['I', label] : [prefix, tag!];
}
