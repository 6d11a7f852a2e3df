/**
 * Questions answered by writing: the model reads the question with each window of its context and writes the answer, or
 * nothing where the window has none. The likeliest text that any window gives is the answer; '' where all give none.
 */
import { NO_ANSWER, windowsOf } from '../../eval/answers.ts';
import type { Seq2SeqBatch } from '../../model/inputs.ts';
import { T5ForPreferences } from '../../model/preference.ts';
import type { T5ForConditionalGeneration } from '../../model/t5.ts';
import { IGNORED } from '../../util/batch.ts';
import { inGroups, padded } from '../../util/id_rows.ts';
import { type Row, textOf } from '../rows.ts';
import { fitted, sourcesOf, type Task, type TaskTools } from '../task.ts';
import { answersOf, inRow, positions, scoresOfAnswers } from './answers.ts';
import type { QuestionAnsweringTaskOptions } from './question_answering.ts';
import { textTraining, type Written, written } from './writing.ts';

export type TextAnswersOptions = Omit<QuestionAnsweringTaskOptions, 'max_answer_length'> & { num_beams: number };

/** While training one window; else a question with all of them. */
interface Example {
  windows: Written[];
  texts: string[];
}

/** A text for each row. */
export function textAnswers(
  options: TextAnswersOptions,
  tools: TaskTools,
): Task<Example, Seq2SeqBatch, T5ForConditionalGeneration> {
  const { tokenizer, max_length } = tools;
  const training = textTraining(tools);
  const exampleOf = (row: Row): Example => {
    const context = textOf(row, options.context);
    const question = `question: ${textOf(row, options.question)} context:`;
    const { texts, place } = answersOf(row, context, options.answers);
    const windows = inRow(row, () => windowsOf(tokenizer, question, context, { max_length, stride: options.stride }));
    const targets = [texts[0] ?? '', ''].map((text) => fitted(tools, row.place, text, 'max_target_length'));
    const targetOf = (window: (typeof windows)[number]) =>
      targets[positions(window, place).first === NO_ANSWER ? 1 : 0]!;
    return { texts, windows: windows.map((window) => ({ source: window.ids, target: targetOf(window) })) };
  };
  return {
    columns: [options.question, options.context, options.answers],
    metric: 'f1',
    model: training.model,
    configuration: training.configuration,
    examples(rows, split) {
      const examples = rows.map(exampleOf);
      if (split !== 'train') return examples;
      return examples.flatMap(({ windows, texts }) => windows.map((window) => ({ windows: [window], texts })));
    },
    lengthOf: ({ windows }) => Math.max(...windows.map(training.lengthOf)),
    wanted: ({ texts }) => texts,
    batch: (examples, config) =>
      training.batch(
        examples.map(({ windows }) => windows[0]!),
        config,
      ),
    async predict(model, examples) {
      const windows = examples.flatMap((example) => example.windows);
      const texts = await written(model, tools, windows, options.num_beams);
      const scores = await likelihoods(model, tools, windows, texts);
      let next = 0;
      return examples.map((example) => {
        let best = { text: '', score: Number.NEGATIVE_INFINITY };
        for (const _ of example.windows) {
          const [text, score] = [texts[next]!, scores[next]!];
          next++;
          if (text !== '' && score > best.score) best = { text, score };
        }
        return best.text;
      });
    },
    scores: (examples, predictions) => scoresOfAnswers(examples, predictions as string[]),
  };
}

/** Log-probability of each text after its source, in nats. */
async function likelihoods(
  { config, parameters, adapters }: T5ForConditionalGeneration,
  { tokenizer, rows, max_target_length }: TaskTools,
  windows: readonly Written[],
  texts: readonly string[],
): Promise<number[]> {
  const scorer = new T5ForPreferences(config, parameters); // the same parameters, which are not its to free
  scorer.adapters = adapters;
  const answers = windows.map(({ source }, i) => ({
    source,
    target: tokenizer.encode(texts[i]!).slice(0, max_target_length),
  }));
  const lengthOf = ({ source }: Written) => source.length;
  return inGroups(answers, rows, lengthOf, (group) =>
    scorer.logProbabilities({
      ...sourcesOf(group, tokenizer),
      labels: padded(
        group.map(({ target }) => target),
        IGNORED,
      ).input_ids,
    }),
  );
}
