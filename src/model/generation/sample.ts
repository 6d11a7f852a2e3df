/** Greedy decoding and sampling: one answer per row. */
import { argmax } from '../../ops/top_k/top_k.ts';
import { dispose, scope } from '../../tensor/scope.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { coarseHead, isPlainlyGreedy } from './coarse_head.ts';
import { likeliest } from './draw.ts';
import {
  breathe,
  type GenerateOutput,
  hostScores,
  type Kept,
  keptScores,
  type Run,
  readPrompt,
  snapshot,
  stepOn,
} from './run.ts';
import { DeviceDraws } from './sampling.ts';
import { endDecoding, startDecoding } from './step.ts';

export async function sample(run: Run): Promise<GenerateOutput> {
  const { settings: s, source, streamer } = run;
  const perSource = s.num_return_sequences;
  const rows = run.prompts.flatMap((prompt) => Array.from({ length: perSource }, () => [...prompt]));
  const unfinished = rows.map(() => true);
  const kept = keptScores(run);
  const shape = { capacity: s.max_length - 1, rows: perSource, caches: 'own' } as const;
  const decoding = startDecoding(run.p, source, shape, run.pass);
  const greedy = isPlainlyGreedy(run);
  const draws = run.drawsPlainly ? new DeviceDraws(run.p.head.backend, rows.length, shape.capacity) : undefined;
  let logits: Tensor | undefined;
  try {
    draws?.write(run);
    streamer?.put(rows.map((row) => [...row]));
    logits = readPrompt(run, decoding, perSource);
    await breathe(run);
    while (logits) {
      const chosen = await choose(run, logits, rows, { kept, draws, position: decoding.position });
      const ids = chosen.ids.map((id, r) => (unfinished[r] ? id : s.pad_token_id));
      for (const [r, id] of ids.entries()) rows[r]!.push(id);
      streamer?.put(ids.map((id) => [id]));
      const ended = run.ended(rows);
      for (const r of rows.keys()) unfinished[r] &&= !ended[r];
      dispose(logits);
      logits = undefined;
      if (unfinished.some(Boolean)) {
        const at = rows[0]!.length - 1;
        const head = greedy ? coarseHead(run, decoding, rows[0]!.length - run.prompts[0]!.length) : undefined;
        logits = stepOn(run, decoding, chosen.next ?? Int32Array.from(ids), at, head);
      }
      if (chosen.next) dispose(chosen.next);
      await breathe(run);
    }
    streamer?.end();
    return {
      sequences: rows,
      ...(kept.scores && { scores: kept.scores }),
      ...(kept.logits && { logits: kept.logits }),
    };
  } finally {
    if (logits) dispose(logits);
    draws?.dispose();
    endDecoding(decoding);
  }
}

/** The next token of every row, from its logits unless they are tokens already; `next` are the same ids where they are on the device already. */
async function choose(
  { settings: s, process, draw, prompts }: Run,
  logits: Tensor,
  rows: readonly number[][],
  { kept, draws, position }: { kept: Kept; draws: DeviceDraws | undefined; position: Tensor },
): Promise<{ ids: number[]; next: Tensor | undefined }> {
  if (logits.dtype === 'i32') return { ids: Array.from(await logits.read()), next: undefined };
  if ((draws || (!process && !s.do_sample)) && !kept.scores && !kept.logits) {
    const next = scope(() => (draws ? draws.choose(logits, position) : argmax(logits)));
    return { ids: Array.from(await next.read()), next }; // what ended rows go on with touches no other row
  }
  const raw = await hostScores(logits, { log: false });
  kept.logits?.push(snapshot(raw, rows.length));
  const scores = process ? process(rows, raw) : raw;
  kept.scores?.push(snapshot(scores, rows.length));
  const V = scores.length / rows.length;
  const step = rows[0]!.length - prompts[0]!.length;
  const ids = rows.map((_, r) => {
    const row = scores.subarray(r * V, (r + 1) * V);
    return s.do_sample ? draw.token(row, r, step) : likeliest(row);
  });
  return { ids, next: undefined };
}
