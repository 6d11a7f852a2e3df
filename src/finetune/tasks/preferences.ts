/**
 * Pairs of answers to a prompt, one preferred: direct preference optimization. How likely the model that the run starts
 * from finds each answer is measured once and kept in runs/NAME/reference.jsonl.
 */
import { join } from 'node:path';
import type { HeadBatch } from '../../model/heads.ts';
import { type PreferencePairs, T5ForPreferences } from '../../model/preference.ts';
import { IGNORED } from '../../util/batch.ts';
import { UsageError } from '../../util/errors.ts';
import { inGroups, padded } from '../../util/id_rows.ts';
import { madeOnce } from '../once.ts';
import { type Row, textOf } from '../rows.ts';
import { fitted, type Scores, sourcesOf, type Task, type TaskTools } from '../task.ts';

export interface PreferencesOptions {
  /** Columns of the prompt and of the two answers. */
  prompt: string;
  chosen: string;
  rejected: string;
  /** Put in front of every prompt. */
  prefix: string;
  /** How near the model stays to the one that it starts from. */
  beta: number;
  /** Share of the pairs that are taken to be the wrong way round. */
  label_smoothing: number;
}

/** Log-probabilities of the preferred answer and of the other one, in nats. */
type Likelihoods = readonly [chosen: number, rejected: number];

interface Example {
  source: number[];
  chosen: number[];
  rejected: number[];
  texts: { prompt: string; chosen: string; rejected: string };
  /** In the model that the run starts from; known once the task is prepared. */
  reference?: Likelihoods | undefined;
}

/** Groups of examples of similar length that are measured before anything is kept. */
const GROUPS = 8;

/** What an answer has gained over the model that the run started from: beta times the log-probability's difference. */
interface Rewards {
  chosen_reward: number;
  rejected_reward: number;
}

/** Training on which of two answers is preferred; predictions are the rewards of both. */
export function preferences(
  options: PreferencesOptions,
  tools: TaskTools,
): Task<Example, HeadBatch<PreferencePairs>, T5ForPreferences> {
  const { tokenizer, max_target_length } = tools;
  const { beta, label_smoothing } = options;
  const example = (row: Row): Example => {
    const texts = {
      prompt: options.prefix + textOf(row, options.prompt),
      chosen: textOf(row, options.chosen),
      rejected: textOf(row, options.rejected),
    };
    const [chosen, rejected] = [texts.chosen, texts.rejected].map((text) =>
      fitted(tools, row.place, text, 'max_target_length'),
    );
    if (`${chosen}` === `${rejected}`)
      throw new UsageError(
        `${row.place}: "${options.chosen}" and "${options.rejected}" are the same in their first ` +
          `${max_target_length} tokens, expected two answers; remove the row or raise train.max_target_length`,
      );
    return { source: fitted(tools, row.place, texts.prompt), chosen: chosen!, rejected: rejected!, texts };
  };
  const answered = (group: readonly Example[]) => {
    const answers = [...group.map(({ chosen }) => chosen), ...group.map(({ rejected }) => rejected)];
    return { ...sourcesOf(group, tokenizer), labels: padded(answers, IGNORED).input_ids };
  };
  const lengthOf = ({ source, chosen, rejected }: Example) => source.length + chosen.length + rejected.length;
  const likelihoods = (model: T5ForPreferences, examples: readonly Example[]) =>
    inGroups(examples, tools.rows, lengthOf, async (group): Promise<Likelihoods[]> => {
      const found = await model.logProbabilities(answered(group));
      return group.map((_, i) => [found[i]!, found[group.length + i]!] as const);
    });
  return {
    columns: [options.prompt, options.chosen, options.rejected],
    metric: 'accuracy',
    model: T5ForPreferences,
    configuration: () => ({}),
    examples: (rows) => rows.map(example),
    lengthOf,
    wanted: ({ texts }) => texts,
    async prepare({ directory, train, heldOut, origin, open, ...parts }) {
      const examples = [...train, ...heldOut];
      let model: T5ForPreferences | undefined;
      try {
        const found = await madeOnce<Likelihoods>({
          ...parts,
          path: join(directory, 'reference.jsonl'),
          about: [origin, examples.map(({ source, chosen, rejected }) => [source, chosen, rejected])],
          count: examples.length,
          part: tools.rows * GROUPS,
          what: 'reference likelihoods',
          async make(from, to) {
            model ??= await open();
            return likelihoods(model, examples.slice(from, to));
          },
        });
        for (const [i, example] of examples.entries()) example.reference = found?.[i];
        return found !== undefined;
      } finally {
        model?.dispose();
      }
    },
    batch: (group) => ({
      inputs: {
        ...answered(group),
        reference: [0, 1].flatMap((side) => group.map(({ reference }) => reference![side]!)),
        beta,
        label_smoothing,
      },
      tokens: group.length,
    }),
    async predict(model, examples): Promise<Rewards[]> {
      const found = await likelihoods(model, examples);
      return found.map(([chosen, rejected], i) => {
        const [before, other] = examples[i]!.reference!;
        return { chosen_reward: beta * (chosen - before), rejected_reward: beta * (rejected - other) };
      });
    },
    scores(_, predictions): Scores {
      const rewards = predictions as Rewards[];
      const mean = (of: (one: Rewards) => number) => rewards.reduce((sum, one) => sum + of(one), 0) / rewards.length;
      return {
        accuracy: 100 * mean((one) => (one.chosen_reward > one.rejected_reward ? 1 : 0)),
        margin: mean((one) => one.chosen_reward - one.rejected_reward),
        chosen_reward: mean((one) => one.chosen_reward),
        rejected_reward: mean((one) => one.rejected_reward),
      };
    },
  };
}
