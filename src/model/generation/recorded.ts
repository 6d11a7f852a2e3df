/**
 * Greedy decoding without the host between two tokens: one decoder step, the choice of its tokens and what the next step
 * reads are recorded and replayed in bursts; which rows have ended is looked up while the next burst runs.
 */
import { advanceKernel } from '../../ops/advance/advance.ts';
import { argmax } from '../../ops/top_k/top_k.ts';
import { run as runKernel } from '../../tensor/autograd.ts';
import { dispose, scope } from '../../tensor/scope.ts';
import { Tensor } from '../../tensor/tensor.ts';
import { breathe, type GenerateOutput, keptScores, type Run, readPrompt } from './run.ts';
import { decodeStep, endDecoding, startDecoding } from './step.ts';

/** Steps between two looks at the tokens; a streamer wants them sooner. */
const BURST = 16;
const STREAMED_BURST = 4;

/** Whether a call's tokens are chosen by the device alone, on a device that can replay a step. */
export function canRecord(run: Run): boolean {
  const { p, c, process, settings: s } = run;
  const { scores, logits } = keptScores(run);
  return Boolean(
    p.head.backend.capture && !process && !s.do_sample && !scores && !logits && c.position_encoding_type !== 'fire',
  );
}

/** As `sample`, for calls that `canRecord` accepts. */
export async function recordedGreedy(run: Run): Promise<GenerateOutput> {
  const { p, settings: s, source, streamer, pass } = run;
  const { backend } = p.head;
  const rows = run.prompts.map((prompt) => [...prompt]);
  const prompt = rows[0]!.length;
  const capacity = s.max_length - 1;
  const decoding = startDecoding(p, source, { capacity, rows: 1, caches: 'own' }, pass);
  const ints = (shape: number[], values: ArrayLike<number>) => Tensor.from(backend, 'i32', shape, values);
  const R = rows.length;
  const state = {
    token: ints([R], new Int32Array(R)),
    ended: ints([R], new Int32Array(R)),
    position: decoding.position,
    history: ints([R, capacity], new Int32Array(R * capacity)),
  };
  const eos = s.eos.length > 0 ? ints([s.eos.length], s.eos) : undefined;
  const take = (logits: Tensor) =>
    void runKernel(
      advanceKernel,
      { chosen: argmax(logits).view(R), eos, ...state },
      { scalars: { pad: s.pad_token_id } },
    );
  const step = () => scope(() => void take(decodeStep(p, decoding, state.token.view(1, R), pass)));
  let recording: { run(): void; dispose(): void } = { run: step, dispose() {} };
  try {
    streamer?.put(rows.map((row) => [...row]));
    const logits = readPrompt(run, decoding, 1);
    scope(() => take(logits));
    dispose(logits);
    let written = prompt; // tokens of a row that are on the device, in order
    const unfinished = rows.map(() => true);

    /** Adds the tokens up to `until` to the rows; the device may be further. */
    const collect = (history: ArrayLike<number>, until: number) => {
      for (let length = rows[0]!.length; length < until && unfinished.some(Boolean); length++) {
        rows.forEach((row, r) => void row.push(unfinished[r] ? history[r * capacity + length - 1]! : s.pad_token_id));
        streamer?.put(rows.map((row) => [row[length]!]));
        for (const [r, ended] of run.ended(rows).entries()) unfinished[r] &&= !ended;
      }
    };

    written++;
    let before: { history: Promise<ArrayLike<number>>; until: number } | undefined;
    while (unfinished.some(Boolean)) {
      const looked = { history: state.history.read(), until: written };
      looked.history.catch(() => {}); // thrown where it is awaited
      const burst = Math.min(streamer ? STREAMED_BURST : BURST, s.max_length - written);
      for (let i = 0; i < burst; i++) {
        // The first step runs as it is: kernels are compiled by it.
        if (i === 0 && written === prompt + 1) step();
        else if (i === 1 && written === prompt + 1 && backend.capture) {
          recording = backend.capture(step);
          recording.run();
        } else recording.run();
      }
      written += burst;
      if (before) collect(await before.history, before.until);
      before = looked;
      await breathe(run);
      if (burst === 0) collect(await looked.history, looked.until);
    }
    streamer?.end();
    return { sequences: rows };
  } finally {
    recording.dispose();
    endDecoding(decoding);
    dispose(...[state.token, state.ended, state.history, eos].filter((t) => t !== undefined));
  }
}
