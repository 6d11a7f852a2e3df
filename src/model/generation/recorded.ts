/**
 * Greedy decoding without the host between two tokens: steps are replayed in bursts, and which rows have ended is looked up
 * while the next burst runs.
 */
import { breathe, type GenerateOutput, keptScores, type Run } from './run.ts';
import { openSession, promptsOf } from './session.ts';

/** Steps between two looks at the tokens; a streamer wants them sooner. */
const BURST = 16;
const STREAMED_BURST = 4;

/** Whether a call's tokens are chosen by the device alone, on a device that can replay a step. */
export function canRecord(run: Run): boolean {
  const { p, c, process, settings: s } = run;
  const { scores, logits } = keptScores(run);
  const chooses = run.drawsPlainly || (!process && !s.do_sample);
  return Boolean(p.head.backend.capture && chooses && !scores && !logits && c.position_encoding_type !== 'fire');
}

/** As `sample`, for calls that `canRecord` accepts. */
export async function recordedGreedy(run: Run): Promise<GenerateOutput> {
  const { settings: s, streamer } = run;
  const rows = promptsOf(run).map((prompt) => [...prompt]);
  const session = openSession(run);
  try {
    streamer?.put(rows.map((row) => [...row]));
    session.start(run);
    let written = rows[0]!.length + 1; // tokens of a row that are on the device, in order
    const unfinished = rows.map(() => true);

    /** Adds the tokens up to `until` to the rows; the device may be further. */
    const collect = (history: ArrayLike<number>, until: number) => {
      for (let length = rows[0]!.length; length < until && unfinished.some(Boolean); length++) {
        const at = (r: number) => history[r * session.capacity + length - 1]!;
        for (const [r, row] of rows.entries()) row.push(unfinished[r] ? at(r) : s.pad_token_id);
        streamer?.put(rows.map((row) => [row[length]!]));
        for (const [r, ended] of run.ended(rows).entries()) unfinished[r] &&= !ended;
      }
    };

    let before: { history: Promise<ArrayLike<number>>; until: number } | undefined;
    while (unfinished.some(Boolean)) {
      const looked = { history: session.history(), until: written };
      looked.history.catch(() => {}); // thrown where it is awaited
      const burst = Math.min(streamer ? STREAMED_BURST : BURST, s.max_length - written);
      session.take(burst);
      written += burst;
      if (before) collect(await before.history, before.until);
      before = looked;
      await breathe(run);
      if (burst === 0) collect(await looked.history, looked.until);
    }
    streamer?.end();
    return { sequences: rows };
  } finally {
    session.close();
  }
}
