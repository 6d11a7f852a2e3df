/**
 * Heads on the encoder alone: token and sequence classification, question answering, and the bare encoder.
 *
 * T5 differs: Hugging Face's sequence classification and question answering run the decoder too; FAT5 argues that the
 * encoder is enough, at half the size. Their names of the heads' weights are kept.
 */
import { activation } from '../ops/activation/activation.ts';
import { add } from '../ops/add/add.ts';
import { addBias } from '../ops/bias/bias.ts';
import { crossEntropy } from '../ops/cross_entropy/cross_entropy.ts';
import { linear } from '../ops/linear/linear.ts';
import { binaryCrossEntropyWithLogits, meanSquaredError } from '../ops/pointwise_loss/pointwise_loss.ts';
import { reshape } from '../ops/reshape.ts';
import { scale } from '../ops/scale/scale.ts';
import { selectRows } from '../ops/select_rows/select_rows.ts';
import { transpose } from '../ops/transpose/transpose.ts';
import { differentiate } from '../tensor/autograd.ts';
import { scope } from '../tensor/scope.ts';
import { Tensor } from '../tensor/tensor.ts';
import { IGNORED } from '../util/batch.ts';
import { UsageError } from '../util/errors.ts';
import type { T5Config } from './config.ts';
import {
  type EncoderInputs,
  labelRange,
  type MatrixInput,
  matrix,
  type Source,
  sameShape,
  sourceOf,
} from './inputs.ts';
import { ANSWER_ENDS, type Architecture } from './parameter_table.ts';
import { drop, type Pass, type Random, siteOf } from './pass.ts';
import { PretrainedT5, takeResult } from './pretrained.ts';
import { type ResultTensor, resultTensor } from './result.ts';

/** The bare encoder. */
export class T5EncoderModel extends PretrainedT5 {
  /** As `encode`. @throws UsageError */
  forward(inputs: EncoderInputs): Promise<{ last_hidden_state: ResultTensor }> {
    return this.encode(inputs);
  }
}

type Outputs = { logits: Tensor; loss?: Tensor };

/** The loss of one batch's logits; the labels have been checked and are uploaded when it runs. */
type Loss = (logits: Tensor) => Tensor;

/** Inputs with labels for a training step. */
export interface HeadBatch<Inputs> {
  inputs: Inputs;
  /** Labels that count, or with class_weights what they count together: what the loss is a mean over. */
  tokens: number;
}
/** Micro-batches of the three heads. */
export type TokenClassificationBatch = HeadBatch<TokenClassificationInputs>;
export type SequenceClassificationBatch = HeadBatch<SequenceClassificationInputs>;
export type QuestionAnsweringBatch = HeadBatch<QuestionAnsweringInputs>;

/** What every head does: its logits and loss as results, and the gradients. */
abstract class EncoderHead<Inputs extends EncoderInputs> extends PretrainedT5 {
  /** The head on the encoder's states [B,S,D]. */
  protected abstract head(states: Tensor, source: Source, pass: Pass): Tensor;
  /** Checks the labels; undefined where there are none. */
  protected abstract lossFor(inputs: Inputs, source: Source): Loss | undefined;

  protected compute(source: Source, loss: Loss | undefined, random?: Random): Outputs {
    const pass = this.pass(random);
    const states = this.statesOf(source, pass);
    const logits = this.head(states, source, pass);
    return { logits, ...(loss && { loss: loss(logits) }) };
  }

  /** Runs the model; tensors of the result belong to the caller. */
  protected outputs(inputs: Inputs): Outputs {
    const source = sourceOf(inputs, this.config);
    const loss = this.lossFor(inputs, source);
    return scope(() => this.compute(source, loss));
  }

  /** The loss and its gradient for every parameter, by Hugging Face's names. @throws UsageError */
  async lossAndGradients(inputs: Inputs): Promise<{ loss: number; gradients: Record<string, ResultTensor> }> {
    const source = sourceOf(inputs, this.config);
    const loss = this.lossFor(inputs, source);
    if (!loss) throw new UsageError('lossAndGradients: labels are missing, expected what the loss is measured against');
    return this.gradientsOf(() => ({ loss: this.compute(source, loss).loss! }));
  }

  /**
   * Runs a micro-batch forward and backward and adds the gradients of its mean loss * tokens / denominator to the
   * parameters' (which must be `trainable`); with `rng` dropout is on. Returns float32 [1], to be disposed of: the mean
   * loss * tokens. @throws UsageError for labels that do not fit
   */
  accumulateGradients(
    { inputs, tokens }: HeadBatch<Inputs>,
    { denominator, rng }: { denominator: number; rng?: Random | undefined },
  ): Tensor {
    const source = sourceOf(inputs, this.config);
    const lossFor = this.lossFor(inputs, source);
    if (!lossFor)
      throw new UsageError('accumulateGradients: labels are missing, expected what the loss is measured against');
    const { sum } = differentiate(() => {
      const loss = this.compute(source, lossFor, rng).loss!;
      return { loss: scale(loss, tokens / denominator), sum: scale(loss, tokens) };
    });
    return sum;
  }

  protected dense(x: Tensor, name: string): Tensor {
    return addBias(linear(x, this.parameters.get(`${name}.weight`)), this.parameters.get(`${name}.bias`));
  }
}

/** The numbers of a result's optional loss and its logits. */
async function resultOf({ logits, loss }: Outputs): Promise<ClassifierOutput> {
  const value = loss && (await takeResult(loss)).data[0]!;
  return { ...(value !== undefined && { loss: value }), logits: await takeResult(logits) };
}

/** `loss` with labels; `logits` [B,S,L] of tokens or [B,L] of rows. */
export interface ClassifierOutput {
  loss?: number;
  logits: ResultTensor;
}

/** Tokens, and what each is. */
export interface TokenClassificationInputs extends EncoderInputs {
  /** Classes [B,S], -100 where there is no loss. */
  labels?: MatrixInput | undefined;
  /** What a label of each class counts in the loss, [num_labels]; 1 when left out. */
  class_weights?: readonly number[] | undefined;
}

/** A class for every token: dropout, then a linear layer. */
export class T5ForTokenClassification extends EncoderHead<TokenClassificationInputs> {
  static override readonly architecture: Architecture = 'token_classification';

  /** Logits [B,S,num_labels] and, with labels, the mean cross entropy with the configuration's label_smoothing. @throws UsageError */
  async forward(inputs: TokenClassificationInputs): Promise<ClassifierOutput> {
    return resultOf(this.outputs(inputs));
  }

  protected override head(states: Tensor, _: Source, pass: Pass): Tensor {
    return this.dense(drop(states, siteOf('head', 0), pass, pass.config.classifier_dropout), 'classifier');
  }

  protected override lossFor({ labels, class_weights }: TokenClassificationInputs, source: Source): Loss | undefined {
    if (!labels) return undefined;
    const wanted = matrix(labels, 'labels', labelRange(this.config.num_labels));
    sameShape(wanted, 'labels', source, 'input_ids');
    return classLoss(wanted.values, this.config, class_weights);
  }
}

/** Texts, and what each is. */
export interface SequenceClassificationInputs extends EncoderInputs {
  /** A class or a number per row, or rows of 0 and 1 per class where several may hold. */
  labels?: readonly number[] | MatrixInput | undefined;
  /**
   * What a label of each class counts in the loss, [num_labels]; 1 when left out. Where several may hold: what it counts
   * that a class holds.
   */
  class_weights?: readonly number[] | undefined;
}

/** One verdict per row, from the state of its last end token: dropout, dense, tanh, dropout, linear. */
export class T5ForSequenceClassification extends EncoderHead<SequenceClassificationInputs> {
  static override readonly architecture: Architecture = 'sequence_classification';

  /**
   * Logits [B,num_labels] and, with labels, the loss of config.problem_type; where that is null, squared error for one
   * label, cross entropy for classes (with label_smoothing), binary cross entropy for rows of labels.
   * @throws UsageError for labels that do not fit, or a row without an end token
   */
  async forward(inputs: SequenceClassificationInputs): Promise<ClassifierOutput> {
    return resultOf(this.outputs(inputs));
  }

  protected override head(states: Tensor, source: Source, pass: Pass): Tensor {
    const last = Tensor.from(states.backend, 'i32', [source.rows], lastEnds(source, pass.config.eos_token_id));
    const dropped = (x: Tensor, site: number) => drop(x, siteOf('head', site), pass, pass.config.classifier_dropout);
    const pooled = dropped(selectRows(states, last), 0);
    const hidden = activation(this.dense(pooled, 'classification_head.dense'), 'tanh');
    return this.dense(dropped(hidden, 1), 'classification_head.out_proj');
  }

  protected override lossFor(
    { labels, class_weights }: SequenceClassificationInputs,
    { rows }: Source,
  ): Loss | undefined {
    if (!labels) return undefined;
    const { num_labels, problem_type } = this.config;
    const isList = Array.isArray(labels) && !Array.isArray(labels[0]);
    const kind =
      problem_type ??
      (num_labels === 1 ? 'regression' : isList ? 'single_label_classification' : 'multi_label_classification');
    if (kind === 'single_label_classification') {
      const classes = matrix(isList ? [labels as number[]] : (labels as MatrixInput), 'labels', labelRange(num_labels));
      if (classes.values.length !== rows) throw new UsageError(`labels: ${classes.values.length}, expected ${rows}`);
      return classLoss(classes.values, this.config, class_weights);
    }
    const target = Float32Array.from((isList ? labels : flat(labels as MatrixInput)) as ArrayLike<number>);
    if (target.length !== rows * num_labels)
      throw new UsageError(`labels: ${target.length} numbers, expected ${rows} rows of ${num_labels}`);
    const bad = target.find((t) => !(kind === 'regression' ? Number.isFinite(t) : t >= 0 && t <= 1));
    if (bad !== undefined)
      throw new UsageError(`labels: ${bad}, expected ${kind === 'regression' ? 'a number' : 'a number in [0, 1]'}`);
    if (class_weights) checkWeights(class_weights, num_labels);
    const counts = class_weights && target.map((t, i) => 1 + (class_weights[i % num_labels]! - 1) * t);
    return (logits) => {
      const upload = (values: Float32Array) => Tensor.from(logits.backend, 'f32', [rows, num_labels], values);
      if (kind === 'regression') return meanSquaredError(logits, upload(target));
      return binaryCrossEntropyWithLogits(logits, upload(target), counts && upload(counts));
    };
  }
}

const flat = (m: MatrixInput): ArrayLike<number> =>
  'data' in m ? Float64Array.from(m.data as ArrayLike<number>) : (m as readonly number[][]).flat();

/** Index of each row's last end token, in the rows laid end to end. @throws UsageError */
function lastEnds({ rows, columns, values, segments }: Source, eos: number): Int32Array {
  return Int32Array.from({ length: rows }, (_, b) => {
    for (let i = (b + 1) * columns - 1; i >= b * columns; i--)
      if (values[i] === eos && !(segments && segments[i]! < 0)) return i;
    throw new UsageError(
      `input_ids: row ${b} has no end token (eos_token_id ${eos}), whose state is what is classified`,
    );
  });
}

/** Questions with their texts, and where the answers are. */
export interface QuestionAnsweringInputs extends EncoderInputs {
  /** Where the answers begin and end, one position per row; positions beyond the row have no loss. */
  start_positions?: readonly number[] | undefined;
  end_positions?: readonly number[] | undefined;
}

/** `loss` with positions; how likely each token begins or ends the answer. */
export interface QuestionAnsweringOutput {
  loss?: number;
  /** [B,S]. */
  start_logits: ResultTensor;
  /** [B,S]. */
  end_logits: ResultTensor;
}

/** Start and end of the answer in the text: a linear layer with two outputs per token. */
export class T5ForQuestionAnswering extends EncoderHead<QuestionAnsweringInputs> {
  static override readonly architecture: Architecture = 'question_answering';

  /** Logits of every position being start or end; with positions, the mean of the two cross entropies. @throws UsageError */
  async forward(inputs: QuestionAnsweringInputs): Promise<QuestionAnsweringOutput> {
    const { loss, logits } = await resultOf(this.outputs(inputs)); // [2,B,S]
    const [, rows, columns] = logits.dims as [number, number, number];
    const part = (i: number) =>
      resultTensor([rows, columns], logits.data.slice(i * rows * columns, (i + 1) * rows * columns));
    return { ...(loss !== undefined && { loss }), start_logits: part(0), end_logits: part(1) };
  }

  protected override head(states: Tensor, { rows, columns }: Source): Tensor {
    const both = reshape(this.dense(states, 'qa_outputs'), rows * columns, ANSWER_ENDS);
    return reshape(transpose(both), ANSWER_ENDS, rows, columns);
  }

  protected override lossFor(inputs: QuestionAnsweringInputs, { rows, columns }: Source): Loss | undefined {
    const { start_positions, end_positions } = inputs;
    if (!start_positions || !end_positions) return undefined;
    const ends = [start_positions, end_positions].map((positions, i) => {
      const name = i === 0 ? 'start_positions' : 'end_positions';
      const { values } = matrix([positions], name, { from: 0, to: 2 ** 31 - 1 });
      if (values.length !== rows) throw new UsageError(`${name}: ${values.length} positions, expected ${rows}`);
      return values.map((at) => (at < columns ? at : IGNORED));
    });
    return (logits) => {
      const losses = ends.map((labels, i) => {
        const indices = Int32Array.from({ length: rows }, (_, b) => i * rows + b);
        return classLoss(labels)(selectRows(logits, Tensor.from(logits.backend, 'i32', [rows], indices)));
      });
      return scale(add(losses[0]!, losses[1]!), 1 / ANSWER_ENDS);
    };
  }
}

/**
 * Mean cross entropy over the labels that are not ignored, by what each counts; 0 if all are.
 * T5 differs: a weight multiplies its label's whole loss, PyTorch's the smoothed part by every class's own.
 */
function classLoss(labels: Int32Array, config?: T5Config, classWeights?: readonly number[]): Loss {
  if (config && classWeights) checkWeights(classWeights, config.num_labels);
  const counts = Float32Array.from(labels, (label) => (label === IGNORED ? 0 : (classWeights?.[label] ?? 1)));
  const denominator = counts.reduce((a, b) => a + b, 0) || 1;
  return (logits) => {
    const upload = (dtype: 'i32' | 'f32', values: Int32Array | Float32Array) =>
      Tensor.from(logits.backend, dtype, [labels.length], values);
    const weights = classWeights && upload('f32', counts);
    const labelSmoothing = config?.label_smoothing;
    return crossEntropy(logits, upload('i32', labels), { denominator, labelSmoothing, weights }).loss;
  };
}

function checkWeights(weights: readonly number[], classes: number): void {
  const bad = weights.find((weight) => !(weight > 0 && Number.isFinite(weight)));
  if (weights.length !== classes || bad !== undefined)
    throw new UsageError(
      `class_weights: ${bad === undefined ? `${weights.length} numbers` : `has ${bad}`}, expected ${classes} positive numbers`,
    );
}
