/** T5ForConditionalGeneration: the encoder-decoder that reads one text and writes another. */
import type { CrossEntropy } from '../ops/cross_entropy/cross_entropy.ts';
import { differentiate } from '../tensor/autograd.ts';
import type { Parameters } from '../tensor/parameters.ts';
import { scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { Batch } from '../util/batch.ts';
import { UsageError } from '../util/errors.ts';
import type { T5Config } from './config.ts';
import { type GenerateOptions, generate } from './generation/generate.ts';
import type { GenerateOutput } from './generation/run.ts';
import { endSession } from './generation/session.ts';
import { batchOf, type EncoderInputs, type Seq2SeqInputs, sourceOf } from './inputs.ts';
import { type Architecture, SHARED } from './parameter_table.ts';
import type { Pass, Random } from './pass.ts';
import { PretrainedT5, takeResult } from './pretrained.ts';
import { type ResultTensor, resultTensor } from './result.ts';
import {
  type DeviceBatch,
  forward,
  logitsOf,
  lossOf,
  lossOfLogits,
  type Seq2Seq,
  seq2seqParameters,
  uploadBatch,
} from './seq2seq.ts';

/** What `forward` gives; `loss` with labels, in nats per label token. */
export interface Seq2SeqOutput {
  /** Mean over the labels that are not -100; absent without labels. */
  loss?: number;
  /** [B,T,V]. */
  logits: ResultTensor;
  /** [B,S,D]. */
  encoder_last_hidden_state: ResultTensor;
}

/** Encoder, decoder and head: text to text. Names and results are those of transformers. */
export class T5ForConditionalGeneration extends PretrainedT5 {
  static override readonly architecture: Architecture = 'conditional_generation';
  /** The parameters by their places: what decoding needs. */
  readonly seq2seq: Seq2Seq;

  constructor(config: T5Config, parameters: Parameters) {
    super(config, parameters);
    this.seq2seq = seq2seqParameters(parameters, config);
  }

  /**
   * Logits, and the loss if labels are given: the mean over wanted tokens of cross entropy, with the configuration's
   * label_smoothing and z_loss.
   * @throws UsageError for inputs that do not fit each other or the model
   */
  async forward(inputs: Seq2SeqInputs): Promise<Seq2SeqOutput> {
    const batch = batchOf(inputs, this.config);
    const kept = scope(() => {
      const device = uploadBatch(this.backend, batch, this.config);
      const { states, encoderStates } = forward(this.seq2seq, device, this.pass());
      const logits = logitsOf(this.seq2seq, states, this.config);
      const loss = inputs.labels && lossOfLogits(logits, device.labels, this.config, Math.max(1, batch.tokens)).loss;
      return { logits, encoderStates, loss };
    });
    const loss = kept.loss && (await takeResult(kept.loss)).data[0]!;
    return {
      ...(loss !== undefined && { loss }),
      logits: await takeResult(kept.logits),
      encoder_last_hidden_state: await takeResult(kept.encoderStates),
    };
  }

  /**
   * The loss of `forward` and its gradient with respect to every parameter, by Hugging Face's names. Where encoder and
   * decoder have embeddings of their own, shared.weight has the sum of theirs. @throws UsageError
   */
  async lossAndGradients(inputs: Seq2SeqInputs): Promise<{ loss: number; gradients: Record<string, ResultTensor> }> {
    if (!inputs.labels) throw new UsageError('lossAndGradients: labels are missing, expected [B,T]');
    const batch = batchOf(inputs, this.config);
    const { loss, gradients } = await this.gradientsOf(() => this.lossOf(batch, Math.max(1, batch.tokens)));
    if (!this.config.share_input_embeddings) {
      const [a, b] = ['encoder', 'decoder'].map((stack) => gradients[`${stack}.embed_tokens.weight`]!);
      const sum = (a!.data as Float32Array).map((value, i) => value + b!.data[i]!);
      gradients[SHARED] = resultTensor(a!.dims, sum);
    }
    return { loss, gradients };
  }

  /**
   * Runs a micro-batch forward and backward and adds the gradients of its summed loss / denominator to the parameters'
   * (which must be `trainable`); with `rng` dropout and randomised positions are on.
   * Returns float32 [4], to be disposed of: sums of NLL, of the z-loss, of right tokens, of tokens.
   */
  accumulateGradients(batch: Batch, { denominator, rng }: { denominator: number; rng?: Random | undefined }): Tensor {
    return differentiate(() => ({ ...this.lossOf(batch, denominator, rng) })).stats;
  }

  /** Room on the device for batches of this one's shape, to be filled by `writeBatch`; holds this one. */
  placeBatch(batch: Batch): DeviceBatch {
    return uploadBatch(this.backend, batch, this.config);
  }

  /** As `accumulateGradients`, with everything that changes from step to step already on the device, the rng i32[2] too. */
  accumulateGradientsAt(device: DeviceBatch, { factor, random }: { factor: Tensor; random: Pass['random'] }): Tensor {
    const pass: Pass = { ...this.pass(), ...(random && { random }) };
    return differentiate(() => {
      const { states } = forward(this.seq2seq, device, pass);
      return lossOf(this.seq2seq, states, device.labels, this.config, { factor });
    }).stats;
  }

  private lossOf(batch: Batch, denominator: number, random?: Random): CrossEntropy {
    const device = uploadBatch(this.backend, batch, this.config);
    const { states } = forward(this.seq2seq, device, this.pass(random));
    return lossOf(this.seq2seq, states, device.labels, this.config, { denominator });
  }

  /** The same sums without gradients and without randomness. */
  evaluateBatch(batch: Batch): Tensor {
    return scope(() => this.lossOf(batch, 1).stats);
  }

  /**
   * Token ids that the model writes for each row, the start token first; rows that end early are filled up. The options
   * are those of transformers (docs/generation.md); what is left out comes from `generation_config`.
   * @throws UsageError for options that are unknown, impossible or contradictory
   */
  generate(inputs: EncoderInputs & GenerateOptions & { return_dict_in_generate: true }): Promise<GenerateOutput>;
  generate(
    inputs: EncoderInputs & GenerateOptions & { return_dict_in_generate?: false | null | undefined },
  ): Promise<number[][]>;
  generate(inputs: EncoderInputs & GenerateOptions): Promise<number[][] | GenerateOutput>;
  async generate({
    input_ids,
    attention_mask,
    ...options
  }: EncoderInputs & GenerateOptions): Promise<number[][] | GenerateOutput> {
    const source = sourceOf({ input_ids, attention_mask }, this.config);
    return this.whileMerged(() => generate(this.seq2seq, source, this.config, options, this.generation_config));
  }

  protected override free(): void {
    endSession(this.seq2seq);
    super.free();
  }
}
