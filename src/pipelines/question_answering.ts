/** question-answering: the part of a context that answers a question; long contexts are read in windows. */
import { type Answer, answerAll, windowsOf } from '../eval/answers.ts';
import type { T5ForQuestionAnswering } from '../model/heads.ts';
import { UsageError } from '../util/errors.ts';
import { checkCount, checkOptions, type Parts, type Texts, textsOf } from './parts.ts';

export interface QuestionAnsweringOptions {
  /** Answers wanted, the likeliest first: 1 by default. */
  top_k?: number;
  /** Tokens of an answer at most: 15 by default. */
  max_answer_len?: number;
  /** Tokens of question and context that the model reads at a time: 384, or what the model takes if that is less. */
  max_seq_len?: number;
  /** Tokens that windows of a long context share: 128, or half of what the question leaves if that is less. */
  doc_stride?: number;
  /** Whether '' may be the answer: false by default. */
  handle_impossible_answer?: boolean;
}

/** An answer, or a list where top_k is not 1, for a question; a list of either for a list of questions. */
export interface QuestionAnswering {
  (question: string, context: string, options?: QuestionAnsweringOptions & { top_k?: 1 }): Promise<Answer>;
  (question: string, context: string, options: QuestionAnsweringOptions): Promise<Answer[]>;
  (
    questions: readonly string[],
    contexts: readonly string[],
    options?: QuestionAnsweringOptions & { top_k?: 1 },
  ): Promise<Answer[]>;
  (questions: readonly string[], contexts: readonly string[], options: QuestionAnsweringOptions): Promise<Answer[][]>;
}

const MAX_ANSWER = 15;
const MAX_SEQUENCE = 384;
const STRIDE = 128;
const optionNames = ['top_k', 'max_answer_len', 'max_seq_len', 'doc_stride', 'handle_impossible_answer'];

export const questionAnswering = (parts: Parts<T5ForQuestionAnswering>): QuestionAnswering => {
  const { model, tokenizer, batch_size, task } = parts;
  const call = async (question: Texts, context: Texts, options: QuestionAnsweringOptions = {}) => {
    const questions = textsOf(task, question, 'a question');
    const contexts = textsOf(task, context, 'a context');
    if (questions.length !== contexts.length)
      throw new UsageError(`${task}: ${questions.length} questions with ${contexts.length} contexts, expected as many`);
    checkOptions(task, options, optionNames);
    const { top_k = 1, max_answer_len = MAX_ANSWER, handle_impossible_answer = false } = options;
    const max_length = options.max_seq_len ?? Math.min(MAX_SEQUENCE, tokenizer.model_max_length);
    checkCount(task, 'top_k', top_k);
    checkCount(task, 'max_answer_len', max_answer_len);
    checkCount(task, 'max_seq_len', max_length);
    const asked = questions.map((one, i) => {
      const room = max_length - tokenizer.encode(one).length - 1;
      const stride = options.doc_stride ?? Math.min(STRIDE, Math.floor(Math.max(room, 0) / 2));
      return { context: contexts[i]!, windows: windowsOf(tokenizer, one, contexts[i]!, { max_length, stride }) };
    });
    const limits = { top_k, max_answer_len, handle_impossible_answer, rows: batch_size };
    const found = await answerAll(model, asked, { ...limits, pad: model.config.pad_token_id });
    const results = top_k === 1 ? found.map(([best]) => best ?? noAnswer) : found;
    return typeof question === 'string' ? results[0]! : results;
  };
  return call as QuestionAnswering;
};

/** What a context without a single character gives. */
const noAnswer: Answer = { answer: '', score: 0, start: 0, end: 0 };
