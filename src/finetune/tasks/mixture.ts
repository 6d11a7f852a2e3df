/**
 * Several tasks that write text, trained on together. Which sets there are says a file; how often the rows of each are seen
 * is proportional to
 *
 *   weight * min(rows, limit)^(1 / temperature)
 *
 * An epoch has as many examples as there are training rows. Small sets begin again within it, large ones go on in the next.
 *
 * Source: Raffel et al. 2020, arXiv:1910.10683, section 3.5.2 (examples-proportional and temperature-scaled mixing).
 * T5 differs: the shares are met exactly in every epoch instead of being drawn.
 */
import { dirname, resolve } from 'node:path';
import { permutation } from '../../data/random.ts';
import type { Seq2SeqBatch } from '../../model/inputs.ts';
import type { T5ForConditionalGeneration } from '../../model/t5.ts';
import { checkSettings, readYaml } from '../../train/config_file.ts';
import { UsageError } from '../../util/errors.ts';
import { allRows, type Row } from '../rows.ts';
import type { AnyTask, Scores, Task, TaskTools } from '../task.ts';
import { type MixtureSet, mixtureSettings } from '../task_settings.ts';
import { instructions } from './instructions.ts';
import { textToText } from './text_to_text.ts';
import { textTraining, type Written } from './writing.ts';

export interface MixtureOptions {
  limit: number;
  temperature: number;
  /** Of the instructions' instances. */
  seed: number;
}

interface Example extends Written {
  set: string;
  /** As the set's own task knows it: this object's tokens are its. */
  own: Written;
}

interface OpenSet {
  settings: MixtureSet;
  task: AnyTask & { rows?: (sources: readonly string[], split: string, limit?: number) => Promise<Row[]> };
  /** Indices of its examples among all for training. */
  training: number[];
}

/** What a row of a mixture holds: the set and its own row. */
type Tagged = { set: string; row: Row };

/** The sets of mixture files; scores are the sets' own, called METRIC_SET, and the mean of their main metrics. */
export function mixture(
  options: MixtureOptions,
  tools: TaskTools,
): Task<Example, Seq2SeqBatch, T5ForConditionalGeneration> & { rows: NonNullable<OpenSet['task']['rows']> } {
  const sets = new Map<string, OpenSet>();
  const open = (settings: MixtureSet, file: string): OpenSet => {
    const known = sets.get(settings.name);
    if (known && JSON.stringify(known.settings) !== JSON.stringify(settings))
      throw new UsageError(`${file}: set "${settings.name}" is another one before, expected a name of its own`);
    const { task } = settings;
    const made =
      task.name === 'text_to_text' ? textToText(task, tools) : instructions({ ...task, seed: options.seed }, tools);
    const set: OpenSet = known ?? { settings, task: made, training: [] };
    sets.set(settings.name, set);
    return set;
  };
  const setOf = (name: string): OpenSet => sets.get(name)!;
  /** Runs a function over the examples of each set; the set's name, its examples and their places among all. */
  const bySet = (examples: readonly Example[]) => {
    return [...placesBy(examples.map(({ set }) => set))].map(([name, places]) => ({
      name,
      task: setOf(name).task,
      places,
      own: places.map((i) => examples[i]!.own),
    }));
  };
  return {
    ...textTraining(tools),
    columns: [],
    metric: 'mean',
    /** @param sources mixture files */
    async rows(sources, split, limit) {
      const rows: Row[] = [];
      for (const file of sources)
        for (const settings of readMixture(file)) {
          const { task } = open(settings, file);
          const files = settings[split as 'train']?.map((path) => resolve(dirname(file), path));
          if (!files) continue;
          const found = await (task.rows ? task.rows(files, split, limit) : allRows(files, task.columns, limit));
          for (const row of found) rows.push({ place: row.place, values: { set: settings.name, row } });
        }
      if (rows.length === 0)
        throw new UsageError(`${sources.join(', ')}: no set has "${split}", expected files of rows in at least one`);
      return rows;
    },
    examples(rows, split) {
      const examples = new Array<Example>(rows.length);
      for (const [name, places] of placesBy(rows.map(({ values }) => (values as Tagged).set))) {
        const set = setOf(name);
        const own = set.task.examples(
          places.map((i) => (rows[i]!.values as Tagged).row),
          split,
        ) as Written[];
        for (const [k, i] of places.entries()) examples[i] = { set: name, own: own[k]!, ...own[k]! };
        if (split === 'train') set.training = places;
      }
      return examples;
    },
    async prepare({ directory, train, heldOut, ...parts }) {
      const held = new Map(bySet(heldOut).map(({ name, own }) => [name, own]));
      for (const { name, task, own, places } of bySet(train)) {
        const inner = { ...parts, directory: `${directory}/${name}`, train: own, heldOut: held.get(name) ?? [] };
        if (task.prepare && !(await task.prepare(inner))) return false;
        for (const [k, i] of places.entries()) Object.assign(train[i]!, own[k]);
      }
      return true;
    },
    epoch(seed, epoch) {
      const seen = [...sets.values()].filter(({ training }) => training.length > 0);
      const total = seen.reduce((sum, { training }) => sum + training.length, 0);
      const counts = apportioned(total, mixingRates(seen.map(sizeOf), options));
      return seen.flatMap(({ training }, k) => streamed(training, counts[k]!, { seed, stream: k, epoch }));
    },
    wanted: ({ set, own }) => ({ set, wanted: setOf(set).task.wanted(own) }),
    async predict(model, examples) {
      const predictions = new Array<unknown>(examples.length);
      for (const { task, own, places } of bySet(examples)) {
        const found = await task.predict(model, own);
        for (const [k, i] of places.entries()) predictions[i] = found[k];
      }
      return predictions;
    },
    signatures(examples) {
      const all = bySet(examples).flatMap(({ name, task, own }) =>
        Object.entries(task.signatures?.(own) ?? {}).map(([metric, signature]) => [`${metric}_${name}`, signature]),
      );
      return Object.fromEntries(all) as Record<string, string>;
    },
    scores(examples, predictions): Scores {
      const scores: Scores = {};
      const main: number[] = [];
      for (const { name, task, own, places } of bySet(examples)) {
        const found = task.scores(
          own,
          places.map((i) => predictions[i]),
        );
        main.push(found[task.metric]!);
        for (const [metric, value] of Object.entries(found)) scores[`${metric}_${name}`] = value;
      }
      return { mean: main.reduce((a, b) => a + b, 0) / main.length, ...scores };
    },
  };
}

/** Where each name is in a list. */
function placesBy(names: readonly string[]): Map<string, number[]> {
  const places = new Map<string, number[]>(names.map((name) => [name, []]));
  for (const [i, name] of names.entries()) places.get(name)!.push(i);
  return places;
}

const sizeOf = ({ training, settings }: OpenSet) => ({ rows: training.length, weight: settings.weight });

function readMixture(file: string): MixtureSet[] {
  const { sets } = checkSettings(mixtureSettings, readYaml(file, "a mixture's sets"), file);
  const names = sets.map(({ name }) => name);
  const twice = names.find((name, i) => names.indexOf(name) < i);
  if (twice !== undefined) throw new UsageError(`${file}: two sets are called "${twice}", expected different names`);
  return sets;
}

/** The share of each set in what is seen; they sum to 1. */
export function mixingRates(
  sets: readonly { rows: number; weight: number }[],
  { limit, temperature }: Pick<MixtureOptions, 'limit' | 'temperature'>,
): number[] {
  const raw = sets.map(({ rows, weight }) => weight * Math.min(rows, limit) ** (1 / temperature));
  const sum = raw.reduce((a, b) => a + b, 0);
  return raw.map((rate) => rate / sum);
}

/** Whole numbers that sum to `total`, each within 1 of its share; the largest remainders are rounded up. */
export function apportioned(total: number, rates: readonly number[]): number[] {
  const counts = rates.map((rate) => Math.floor(rate * total));
  const left = total - counts.reduce((a, b) => a + b, 0);
  const rest = (i: number) => rates[i]! * total - counts[i]!;
  const order = [...rates.keys()].sort((a, b) => rest(b) - rest(a) || a - b);
  for (const i of order.slice(0, left)) counts[i]!++;
  return counts;
}

/** The epoch's part of a stream that goes through items again and again, each time in another seeded order. */
function streamed(
  items: readonly number[],
  count: number,
  { seed, stream, epoch }: { seed: number; stream: number; epoch: number },
): number[] {
  const first = epoch * count;
  let pass = -1;
  let at = (i: number) => i;
  return Array.from({ length: count }, (_, i) => {
    const place = first + i;
    const current = Math.floor(place / items.length);
    // beyond the counters of order.ts, which are two an epoch
    if (current !== pass) at = permutation(items.length, seed, (stream + 1) * 2 ** 32 + current);
    pass = current;
    return items[at(place % items.length)]!;
  });
}
