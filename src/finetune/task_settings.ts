/** Every setting of the tasks: type, default, unit and one line of documentation, written once. */
import * as z from 'zod';
import { count, countOrZero, oneOf, positive, share, text } from '../train/config.ts';
import { textMetrics } from './tasks/text_to_text.ts';

const columns = z.union([text.transform((name) => [name]), z.array(text).min(1)]);
const beams = count.default(1).describe('beams while predicting');
const classWeights = z
  .union([z.literal('balanced'), z.array(positive).min(1)], '"balanced" or a list of positive numbers')
  .optional()
  .describe('what each class counts in the loss; balanced: all alike, by their labels in the training rows');
const labels = z.array(text).optional().describe('the classes; those of the training rows, sorted, when left out');

/** The settings of each task, by its name. */
export const taskSettings = {
  text_to_text: z.strictObject({
    name: z.literal('text_to_text'),
    input: columns.describe('column of the source, or several that are joined'),
    target: text.describe('column of the target; a list of texts are references that are all right'),
    prefix: z.string().default('').describe('put in front of every source'),
    separator: z.string().default(' ').describe('between the columns of the source'),
    metrics: z
      .array(oneOf(...textMetrics))
      .min(1)
      .default(['rouge'])
      .describe('what predictions are scored by'),
    use_stemmer: z.boolean('true or false').default(true).describe('rouge: compare stems of English words'),
    num_beams: beams,
    teacher: z
      .strictObject({
        model: text.describe('folder of a model or of a run'),
        num_beams: beams,
      })
      .optional()
      .describe('a larger model whose texts are the targets of the training rows, instead of theirs'),
  }),
  classification: z.strictObject({
    name: z.literal('classification'),
    input: columns.describe('column of the text, or the two of a pair'),
    target: text.describe('column of the label, the list of labels, or the number'),
    kind: oneOf('single_label', 'multi_label', 'regression').default('single_label').describe('what is predicted'),
    labels,
    class_weights: classWeights,
    threshold: share.default(0.5).describe('multi_label: probability from which a class is predicted'),
  }),
  token_classification: z.strictObject({
    name: z.literal('token_classification'),
    tokens: text.default('tokens').describe('column of the list of words'),
    tags: text.default('tags').describe('column of the list of tags'),
    labels,
    class_weights: classWeights,
    stride: countOrZero
      .optional()
      .describe('tokens that windows of a long text share; a quarter of train.max_length when left out'),
  }),
  question_answering: z.strictObject({
    name: z.literal('question_answering'),
    kind: oneOf('extractive', 'text')
      .default('extractive')
      .describe('extractive: a part of the context, by the encoder alone; text: written by encoder and decoder'),
    question: text.default('question').describe('column of the question'),
    context: text.default('context').describe('column of the text that has the answer'),
    answers: text.default('answers').describe('column of {text: [...], answer_start: [...]}; empty lists: no answer'),
    stride: countOrZero.default(128).describe('tokens that windows of a long context share'),
    max_answer_length: count.default(30).describe('extractive: longest predicted answer, tokens'),
    num_beams: count.default(1).describe('text: beams while predicting'),
  }),
  similarity: z.strictObject({
    name: z.literal('similarity'),
    input: z.tuple([text, text], 'two names of columns').describe('columns of the two sentences'),
    target: text
      .optional()
      .describe('column of how alike they are; left out: each row belongs together, no two rows do'),
    max_score: positive.default(5).describe('target that means a cosine of 1'),
    loss: oneOf('cosine', 'contrastive')
      .optional()
      .describe("cosine: the target's; contrastive: the partner among those of the batch. By the target when left out"),
    positive_from: z
      .number('a number in [0, 1]')
      .min(0, 'a number in [0, 1]')
      .max(1, 'a number in [0, 1]')
      .default(0.8)
      .describe(
        'contrastive with target: share of max_score from which the sentences of a training row belong together',
      ),
    temperature: positive.default(0.05).describe('contrastive: cosines are divided by this'),
  }),
  instructions: z.strictObject({
    name: z.literal('instructions'),
    tasks: text.optional().describe('folder of the task files; ../../tasks beside the list of names when left out'),
    instances: count.default(100).describe('instances of a task'),
    definition: z.boolean('true or false').default(true).describe("begin with the task's definition"),
    positive_examples: countOrZero.default(2).describe('worked examples to follow'),
    negative_examples: countOrZero.default(0).describe('worked examples of what is wrong'),
    explanations: z.boolean('true or false').default(false).describe('explain the worked examples'),
    num_beams: beams,
  }),
  preferences: z.strictObject({
    name: z.literal('preferences'),
    prompt: text.default('prompt').describe('column of the prompt'),
    chosen: text.default('chosen').describe('column of the answer that is preferred'),
    rejected: text.default('rejected').describe('column of the other answer'),
    prefix: z.string().default('').describe('put in front of every prompt'),
    beta: positive.default(0.1).describe('how near the model stays to the one that it starts from; more is nearer'),
    label_smoothing: z
      .number('a number in [0, 0.5)')
      .min(0, 'a number in [0, 0.5)')
      .lt(0.5, 'a number in [0, 0.5)')
      .default(0)
      .describe('share of the pairs that are taken to be the wrong way round'),
  }),
  mixture: z.strictObject({
    name: z.literal('mixture'),
    limit: count.default(2 ** 19).describe('a set counts as at most this many rows'),
    temperature: z
      .number('a number from 1')
      .min(1, 'a number from 1')
      .default(1)
      .describe('1: sets are seen in proportion to their rows; more: more evenly'),
  }),
};

/** One set of a mixture's file. */
const mixtureSet = z.strictObject({
  name: z
    .string('a text')
    .regex(/^[^/]+$/, 'a text without "/"')
    .describe('what its scores are called after'),
  weight: positive.default(1).describe('how much more often its rows are seen'),
  train: columns.optional().describe('files or globs of training rows, from the folder of the mixture on'),
  validation: columns.optional(),
  test: columns.optional(),
  task: z.discriminatedUnion('name', [taskSettings.text_to_text, taskSettings.instructions]),
});

/** What a mixture's file holds. */
export const mixtureSettings = z.strictObject({ sets: z.array(mixtureSet).min(1, 'at least one set') });
export type MixtureSet = z.output<typeof mixtureSet>;
