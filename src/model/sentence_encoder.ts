/**
 * One vector of length 1 per text, the mean of the encoder's states, trained so that texts that belong together are near.
 *
 *   cosine        mean (a_i . b_i - score_i)^2                                           (Reimers and Gurevych 2019)
 *   contrastive   mean -log softmax_j(a_i . b_j / temperature)_i, j over the batch       (Henderson et al. 2017)
 *
 * Sources: arXiv:1908.10084; arXiv:1705.00652; T5's mean pooling: Ni et al. 2021, arXiv:2108.08877.
 */
import { crossEntropy } from '../ops/cross_entropy/cross_entropy.ts';
import { linear } from '../ops/linear/linear.ts';
import { meanPool } from '../ops/mean_pool/mean_pool.ts';
import { meanSquaredError } from '../ops/pointwise_loss/pointwise_loss.ts';
import { reshape } from '../ops/reshape.ts';
import { rmsNorm } from '../ops/rms_norm/rms_norm.ts';
import { scale } from '../ops/scale/scale.ts';
import { selectRows } from '../ops/select_rows/select_rows.ts';
import { differentiate } from '../tensor/autograd.ts';
import { scope } from '../tensor/scope.ts';
import { Tensor } from '../tensor/tensor.ts';
import { UsageError } from '../util/errors.ts';
import { type HeadBatch, T5EncoderModel } from './heads.ts';
import { type EncoderInputs, type Source, sourceOf } from './inputs.ts';
import type { Random } from './pass.ts';
import { takeResult } from './pretrained.ts';
import type { ResultTensor } from './result.ts';

/** Pairs of texts: rows 0 to B-1 are the first ones, rows B to 2B-1 the second ones. */
export interface SentencePairs extends EncoderInputs {
  /** Wanted cosines [B], for the loss of that name; without them the loss is contrastive. */
  scores?: readonly number[] | undefined;
  /** What cosines are divided by in the contrastive loss. */
  temperature: number;
}

/** Added to the mean square: only a vector of zeros notices. */
const EPSILON = 1e-12;

/** An encoder that learns vectors of texts from pairs. */
export class T5SentenceEncoder extends T5EncoderModel {
  /** Vectors [B,d_model] of length 1. @throws UsageError for inputs that are no token ids */
  async embed(inputs: EncoderInputs): Promise<ResultTensor> {
    const source = sourceOf(inputs, this.config);
    return takeResult(scope(() => scale(this.vectors(source), 1 / Math.sqrt(this.config.d_model))));
  }

  /** As in the other models that can be trained; tokens are pairs. @throws UsageError for an odd number of rows, or bfloat16 */
  accumulateGradients(
    { inputs, tokens }: HeadBatch<SentencePairs>,
    { denominator, rng }: { denominator: number; rng?: Random | undefined },
  ): Tensor {
    const source = sourceOf(inputs, this.config);
    if (source.rows % 2) throw new UsageError(`sentence pairs: ${source.rows} rows, expected two for each pair`);
    if (this.parameters.dtype !== 'f32')
      throw new UsageError(
        'sentence pairs: the model is in 16 bits, expected float32: cosines need them (train.dtype)',
      );
    const { sum } = differentiate(() => {
      const loss = this.loss(this.vectors(source, rng), inputs);
      return { loss: scale(loss, tokens / denominator), sum: scale(loss, tokens) };
    });
    return sum;
  }

  /** Vectors [B,D] of length √D. */
  private vectors(source: Source, rng?: Random): Tensor {
    const { backend, config } = this;
    const states = this.statesOf(source, this.pass(rng));
    const segments = source.segments ?? new Int32Array(source.rows * source.columns);
    const ones = new Float32Array(config.d_model).fill(1);
    return rmsNorm(
      meanPool(states, Tensor.from(backend, 'i32', [source.rows, source.columns], segments)),
      Tensor.from(backend, this.parameters.dtype, [config.d_model], ones),
      EPSILON,
    );
  }

  private loss(vectors: Tensor, { scores, temperature }: SentencePairs): Tensor {
    const { backend } = this;
    const [rows, size] = vectors.shape as [number, number];
    const pairs = rows / 2;
    const indices = (of: (i: number) => number) =>
      Tensor.from(
        backend,
        'i32',
        [pairs],
        Int32Array.from({ length: pairs }, (_, i) => of(i)),
      );
    const [first, second] = [
      selectRows(
        vectors,
        indices((i) => i),
      ),
      selectRows(
        vectors,
        indices((i) => pairs + i),
      ),
    ];
    if (!scores) {
      const logits = linear(first, second, { alpha: 1 / (size * temperature) });
      return crossEntropy(
        logits,
        indices((i) => i),
        { denominator: pairs },
      ).loss;
    }
    if (scores.length !== pairs) throw new UsageError(`sentence pairs: ${scores.length} scores, expected ${pairs}`);
    const cosines = reshape(linear(first, second, { alpha: 1 / size }), pairs * pairs, 1);
    const own = selectRows(
      cosines,
      indices((i) => i * pairs + i),
    );
    return meanSquaredError(own, Tensor.from(backend, 'f32', [pairs, 1], Float32Array.from(scores)));
  }
}
