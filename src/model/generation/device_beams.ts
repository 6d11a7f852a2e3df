/** Beam search whose choices are made on the device: its state, in the device's memory, and what the host makes of it at the end. */
import type { Backend } from '../../backend/backend.ts';
import { beamCandidates, beamStep, MOST_LOOKED_AT, OUT } from '../../ops/beam_step/beam_step.ts';
import { logSoftmax } from '../../ops/log_softmax/log_softmax.ts';
import { topK } from '../../ops/top_k/top_k.ts';
import { run as runKernel } from '../../tensor/autograd.ts';
import { dispose } from '../../tensor/scope.ts';
import { Tensor } from '../../tensor/tensor.ts';
import type { Finished } from './beam_search.ts';
import type { Run } from './run.ts';
import type { Written } from './steps.ts';

/** Tokens of each beam that a step looks at. */
export const looksAt = ({ settings: s, c }: Pick<Run, 'settings' | 'c'>): number =>
  Math.min(beamCandidates(s.num_beams, s.eos.length, c.vocab_size), c.vocab_size);

/** Whether a step can look at as many beams and tokens. */
export const canStepBeams = (run: Pick<Run, 'settings' | 'c'>): boolean =>
  run.settings.num_beams * looksAt(run) <= MOST_LOOKED_AT;

/** What is written at each place, [rows, capacity], and what was found, [rows, 4] and [rows]. */
type Host = Record<'history' | 'parents' | 'found' | 'foundScore', ArrayLike<number>>;

/** The state of one session's beams, i32 and f32; to be disposed of. */
export class DeviceBeams {
  private readonly beams: number;
  private readonly perBeam: number;
  private readonly capacity: number;
  private readonly state: Tensor; // [B,2]
  private readonly kept: Record<'score' | 'parents' | 'found' | 'foundScore' | 'powers' | 'settings', Tensor>;

  constructor(backend: Backend, run: Run, capacity: number) {
    const { num_beams } = run.settings;
    const rows = run.prompts.length * num_beams;
    const empty = (dtype: 'f32' | 'i32', ...shape: number[]) => Tensor.empty(backend, dtype, shape);
    this.beams = num_beams;
    this.perBeam = looksAt(run);
    this.capacity = capacity;
    this.state = empty('i32', run.prompts.length, 2);
    this.kept = {
      score: empty('f32', rows),
      parents: empty('i32', rows, capacity),
      found: empty('i32', rows, 4),
      foundScore: empty('f32', rows),
      powers: empty('f32', capacity + 1),
      settings: empty('i32', 3),
    };
  }

  /** Beams as they are before the first new token of a call. */
  begin({ settings: s, prompts }: Run, origins: Tensor): void {
    const { beams, capacity, state, kept } = this;
    const { score, found, foundScore, powers, settings } = kept;
    const never = s.early_stopping === 'never' && s.length_penalty > 0;
    settings.write([s.max_length, prompts[0]!.length, never ? 2 : Number(s.early_stopping === true)]);
    powers.write(Float32Array.from({ length: powers.length }, (_, n) => n ** s.length_penalty));
    // Only the first beam counts at the start: all are the same.
    score.write(Float32Array.from({ length: score.length }, (_, r) => (r % beams === 0 ? 0 : OUT)));
    found.write(Int32Array.from({ length: found.length }, (_, i) => (i % 4 === 0 ? -1 : 0)));
    foundScore.write(new Float32Array(foundScore.length).fill(OUT));
    state.write(new Int32Array(state.length));
    origins.write(Int32Array.from({ length: origins.length }, (_, i) => Math.floor(i / capacity)));
  }

  /** The next tokens of all rows, from logits [1,R,V]. */
  choose(logits: Tensor, { token, position, history }: Written, eos: Tensor | undefined, origins: Tensor): void {
    const { values, ids } = topK(logSoftmax(logits.view(token.length, logits.shape.at(-1)!)), this.perBeam);
    runKernel(beamStep, { values, ids, eos, ...this.kept, token, position, origins, history, state: this.state });
  }

  /** Whether the search of every source is over. */
  async isOver(): Promise<boolean> {
    return Array.from(await this.state.read()).every((value, i) => i % 2 === 1 || value !== 0);
  }

  /** The answers that were found, of each source, best first. */
  async answers({ prompts }: Run, history: Tensor): Promise<Finished[][]> {
    const { parents, found, foundScore } = this.kept;
    const [written, prolonged, answers, scores] = await Promise.all(
      [history, parents, found, foundScore].map((tensor) => tensor.read()),
    );
    const host: Host = { history: written!, parents: prolonged!, found: answers!, foundScore: scores! };
    return prompts.map((prompt, b) => Array.from({ length: this.beams }, (_, k) => this.answer(host, prompt, b, k)));
  }

  private answer(host: Host, prompt: readonly number[], b: number, k: number): Finished {
    const { beams, capacity } = this;
    const first = b * beams;
    const [place, beam, token, ended] = Array.from({ length: 4 }, (_, i) => host.found[4 * (first + k) + i]!);
    const tokens: number[] = [];
    const rows: number[] = [];
    // From the last token back: each place says which row was prolonged there.
    for (let at = place!, row = first + beam!, id = token!; at >= prompt.length - 1; at--) {
      tokens.unshift(id);
      rows.unshift(row);
      const before = row * capacity + at - 1;
      id = host.history[before]!;
      row = first + host.parents[before]!;
    }
    return { tokens: [...prompt, ...tokens], rows, score: host.foundScore[first + k]!, ended: ended !== 0 };
  }

  dispose(): void {
    dispose(this.state, ...Object.values(this.kept));
  }
}
