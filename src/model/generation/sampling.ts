/** Drawing tokens on the device: settings that a kernel knows, and the random words of a whole call in its memory. */
import type { Backend } from '../../backend/backend.ts';
import { type Sampling, sampleToken } from '../../ops/sample_token/sample_token.ts';
import { dispose } from '../../tensor/scope.ts';
import { Tensor } from '../../tensor/tensor.ts';
import type { Settings } from './options.ts';
import type { Process } from './processors_of.ts';
import type { Run } from './run.ts';

/** Whether a device can draw a call's tokens; `unwarped` is what changes scores besides the settings of drawing. */
export const drawsPlainly = (s: Settings, unwarped: Process | undefined): boolean =>
  s.do_sample &&
  s.num_beams === 1 &&
  !unwarped &&
  s.typical_p === 1 &&
  s.epsilon_cutoff === 0 &&
  s.eta_cutoff === 0 &&
  s.top_k < 2 ** 24; // float32 says it exactly

/** A call's settings and random words on the device, to be disposed of. */
export class DeviceDraws {
  private readonly options: Tensor;
  private readonly words: Tensor; // i32 [R,C,2]

  /** Room for `rows` rows of up to `capacity` tokens. */
  constructor(backend: Backend, rows: number, capacity: number) {
    this.options = Tensor.empty(backend, 'f32', [4]);
    this.words = Tensor.empty(backend, 'i32', [rows, capacity, 2]);
  }

  /** Puts a call's settings and words in. The word of a place is that of the token which follows it. */
  write({ settings: s, draw, prompts }: Run): void {
    const [rows, capacity] = this.words.shape as [number, number];
    const words = new Int32Array(this.words.length);
    const first = prompts[0]!.length - 1;
    for (let row = 0; row < rows; row++)
      for (let place = first; place < Math.min(capacity, s.max_length - 1); place++)
        words.set(draw.words(row, place - first), 2 * (row * capacity + place));
    this.words.write(words);
    this.options.write([s.temperature, s.top_k, s.top_p, s.min_p ?? 0]);
  }

  /** A token for each row of logits [1,R,V], i32 [1,R], of the tokens at `position`, i32 [R]. */
  choose(logits: Tensor, position: Tensor): Tensor {
    const { options, words } = this;
    return sampleToken(logits, { options, words, position } satisfies Sampling);
  }

  dispose(): void {
    dispose(this.options, this.words);
  }
}
