/** Beam search without the host between two tokens: steps are replayed in bursts, until the device says that all searches are over. */
import { outputOf } from './beams.ts';
import { canStepBeams } from './device_beams.ts';
import { breathe, type GenerateOutput, keptScores, type Run } from './run.ts';
import { openSession } from './session.ts';

/** Steps between two looks at whether the search is over. */
const BURST = 8;

/** Whether the device can do a call's beam search by itself. */
export function canRecordBeams(run: Run): boolean {
  const { p, c, process, settings: s, endsPlainly } = run;
  const { scores, logits } = keptScores(run);
  const plain = !process && !s.do_sample && s.num_beam_groups === 1 && !scores && !logits && endsPlainly;
  return Boolean(p.head.backend.capture && plain && c.position_encoding_type !== 'fire' && canStepBeams(run));
}

/** As `beamSearch`, for calls that `canRecordBeams` accepts. */
export async function recordedBeams(run: Run): Promise<GenerateOutput> {
  const { settings: s, prompts } = run;
  const session = openSession(run);
  try {
    session.start(run);
    const beams = session.beams!;
    let left = s.max_length - prompts[0]!.length - 1;
    let over = beams.isOver();
    while (left > 0) {
      over.catch(() => {}); // thrown where it is awaited
      const burst = Math.min(BURST, left);
      session.take(burst); // runs while the host waits
      left -= burst;
      if (await over) break;
      if (left > 0) over = beams.isOver();
      await breathe(run);
    }
    await over;
    return outputOf(run, await session.answers(run), { scores: undefined, logits: undefined });
  } finally {
    session.close();
  }
}
