/**
 * T5 that learns from pairs of answers to one prompt, one preferred: direct preference optimization.
 * The loss and its source: ops/preference. T5 differs: the answers are the decoder's whole text, so every label counts.
 */
import { columnSums } from '../ops/column_sums/column_sums.ts';
import { TERMS } from '../ops/cross_entropy/cross_entropy.ts';
import { linearCrossEntropy, linearCrossEntropyTerms } from '../ops/cross_entropy/linear_cross_entropy.ts';
import { preferenceKernel } from '../ops/preference/preference.ts';
import { reshape } from '../ops/reshape.ts';
import { selectRows } from '../ops/select_rows/select_rows.ts';
import { differentiate, run } from '../tensor/autograd.ts';
import type { Parameters } from '../tensor/parameters.ts';
import { dispose, scope } from '../tensor/scope.ts';
import { Tensor } from '../tensor/tensor.ts';
import { UsageError } from '../util/errors.ts';
import type { T5Config } from './config.ts';
import { decoder } from './decoder.ts';
import { encoder } from './encoder.ts';
import type { HeadBatch } from './heads.ts';
import { batchOf, type Seq2SeqBatch } from './inputs.ts';
import type { Architecture } from './parameter_table.ts';
import type { Pass, Random } from './pass.ts';
import { PretrainedT5 } from './pretrained.ts';
import { headScale, type Seq2Seq, seq2seqParameters, uploadBatch } from './seq2seq.ts';

type Rows = readonly (readonly number[])[];

/** Answers to B prompts. */
export interface AnsweredPrompts {
  /** Prompts [B,S], padded to one length, and 1 for their tokens, 0 for padding. */
  input_ids: Rows;
  attention_mask: Rows;
  /** [A*B,T], -100 behind their ends: an answer to each prompt, then another one to each, and so on. */
  labels: Rows;
}

/** Two answers to each prompt, the preferred ones first. */
export interface PreferencePairs extends AnsweredPrompts {
  /** Log-probabilities [2B] of the answers in the model that this one must stay near, in nats. */
  reference: readonly number[];
  /** How near: what differences of log-probabilities are multiplied by. */
  beta: number;
  /** Share of the pairs that are taken to be the wrong way round. */
  label_smoothing: number;
}

const ANSWERS = 2;

/** An encoder-decoder that learns which of two answers is preferred; its files are T5ForConditionalGeneration's. */
export class T5ForPreferences extends PretrainedT5 {
  static override readonly architecture: Architecture = 'conditional_generation';
  private readonly seq2seq: Seq2Seq;

  constructor(config: T5Config, parameters: Parameters) {
    super(config, parameters);
    this.seq2seq = seq2seqParameters(parameters, config);
  }

  /** The log-probability of each answer [A*B], in nats. @throws UsageError for inputs that do not fit each other */
  async logProbabilities(inputs: AnsweredPrompts): Promise<number[]> {
    const { batch, answers } = this.batchFor(inputs);
    const terms = scope(() => this.terms(this.states(batch, answers, this.pass()), batch));
    const values = await terms.read();
    dispose(terms);
    const { rows, targetLength } = batch;
    return Array.from({ length: rows }, (_, row) => {
      let sum = 0;
      for (let t = 0; t < targetLength; t++) sum -= values[(row * targetLength + t) * TERMS + 1]!;
      return sum;
    });
  }

  /**
   * As in the other models that can be trained; tokens are pairs. Returns float32 [4], to be disposed of: sums of the
   * losses, of nothing, of pairs in the right order, of margins. @throws UsageError for answers that are not two a prompt
   */
  accumulateGradients(
    { inputs, tokens }: HeadBatch<PreferencePairs>,
    { denominator, rng }: { denominator: number; rng?: Random | undefined },
  ): Tensor {
    const { batch, answers } = this.batchFor(inputs);
    const { beta, label_smoothing: labelSmoothing, reference } = inputs;
    if (answers !== ANSWERS || reference.length !== batch.rows || batch.rows !== ANSWERS * tokens)
      throw new UsageError(
        `preferences: ${batch.rows} answers with ${reference.length} log-probabilities, expected two of each for ${tokens} prompts`,
      );
    return differentiate(() => {
      const { backend, config, seq2seq } = this;
      const states = this.states(batch, answers, this.pass(rng));
      const kept = { terms: this.terms(states, batch).view(ANSWERS, tokens, batch.targetLength, TERMS) };
      const scalars = { beta, labelSmoothing, scale: 1 / denominator };
      const given = { ...kept, reference: Tensor.from(backend, 'f32', [ANSWERS, tokens], reference) };
      const { weights, rows } = run(preferenceKernel, given, { scalars });
      const stats = Tensor.empty(backend, 'f32', [4]);
      run(columnSums, { x: rows, sums: stats }, { scalars: { beta: 0 } });
      const labels = this.labels(batch);
      const alpha = headScale(config);
      // its gradient is the loss's, its value is not
      const { loss } = linearCrossEntropy(states, seq2seq.head, labels, { denominator: 1, alpha, weights });
      return { loss, stats };
    }).stats;
  }

  private batchFor({ input_ids, attention_mask, labels }: AnsweredPrompts): { batch: Seq2SeqBatch; answers: number } {
    const answers = labels.length / input_ids.length;
    if (!Number.isInteger(answers))
      throw new UsageError(`labels: ${labels.length} rows, expected as many for each of ${input_ids.length} prompts`);
    const repeated = (rows: Rows): Rows => Array<Rows>(answers).fill(rows).flat();
    const inputs = { input_ids: repeated(input_ids), attention_mask: repeated(attention_mask), labels };
    return { batch: batchOf(inputs, this.config), answers };
  }

  /** The decoder's states of all answers; each prompt is read once. */
  private states(batch: Seq2SeqBatch, answers: number, pass: Pass): Tensor {
    const { backend, seq2seq } = this;
    const { source, target } = uploadBatch(backend, batch, this.config);
    const rows = batch.rows / answers;
    const S = batch.sourceLength;
    const first = (t: Tensor) => t.part(0, rows * S).view(rows, S);
    const key = source.segments.key && first(source.segments.key);
    const states = encoder(seq2seq.encoder, { ids: first(source.ids), segments: { query: undefined, key } }, pass);
    const indices = Int32Array.from({ length: batch.rows * S }, (_, i) => i % (rows * S));
    const repeated = selectRows(states, Tensor.from(backend, 'i32', [indices.length], indices));
    return decoder(seq2seq.decoder, target, reshape(repeated, batch.rows, S, states.shape.at(-1)!), pass);
  }

  private labels({ labels, rows, targetLength }: Seq2SeqBatch): Tensor {
    return Tensor.from(this.backend, 'i32', [rows, targetLength], labels);
  }

  /** Terms of cross_entropy of every label; no gradient flows through them. */
  private terms(states: Tensor, batch: Seq2SeqBatch): Tensor {
    const { head } = this.seq2seq;
    const alpha = headScale(this.config);
    return linearCrossEntropyTerms(states.view(...states.shape), head.view(...head.shape), this.labels(batch), alpha);
  }
}
