/** Greedy decoding and sampling: one answer per row. */
import { argmax } from '../../ops/top_k/top_k.ts';
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
import { endDecoding, startDecoding, stepLogits, useHead } from './step.ts';

export async function sample(run: Run): Promise<GenerateOutput> {
  const { settings: s, source, streamer } = run;
  const perSource = s.num_return_sequences;
  const rows = run.prompts.flatMap((prompt) => Array.from({ length: perSource }, () => [...prompt]));
  const unfinished = rows.map(() => true);
  const kept = keptScores(run);
  const shape = { capacity: s.max_length - 1, rows: perSource, caches: 'own' } as const;
  const decoding = startDecoding(run.p, source, shape, run.pass);
  const draws = run.drawsPlainly ? new DeviceDraws(run.p.head.backend, rows.length, shape.capacity) : undefined;
  const greedy = isPlainlyGreedy(run);
  const isChosenThere = greedy || (draws && !kept.scores && !kept.logits);
  let coarse = greedy ? coarseHead(run, decoding, 0) : undefined;
  if (isChosenThere)
    decoding.head =
      coarse ??
      ((states) => {
        const logits = stepLogits(run.p, states, run.c);
        return draws ? draws.choose(logits, decoding.position) : argmax(logits);
      });
  let result: Tensor | undefined; // of a step: the tokens, or what they are chosen from
  try {
    draws?.write(run);
    streamer?.put(rows.map((row) => [...row]));
    result = readPrompt(run, decoding, perSource);
    await breathe(run);
    while (result) {
      const chosen = isChosenThere ? Array.from(await result.read()) : await choose(run, result, rows, kept);
      const ids = chosen.map((id, r) => (unfinished[r] ? id : s.pad_token_id));
      for (const [r, id] of ids.entries()) rows[r]!.push(id);
      streamer?.put(ids.map((id) => [id]));
      const ended = run.ended(rows);
      for (const r of rows.keys()) unfinished[r] &&= !ended[r];
      decoding.replay.release(result);
      result = undefined;
      if (greedy && !coarse) {
        coarse = coarseHead(run, decoding, rows[0]!.length - run.prompts[0]!.length);
        if (coarse) useHead(decoding, coarse);
      }
      if (unfinished.some(Boolean)) result = stepOn(run, decoding, Int32Array.from(ids), rows[0]!.length - 1);
      await breathe(run);
    }
    streamer?.end();
    return {
      sequences: rows,
      ...(kept.scores && { scores: kept.scores }),
      ...(kept.logits && { logits: kept.logits }),
    };
  } finally {
    if (result) decoding.replay.release(result);
    draws?.dispose();
    endDecoding(decoding);
  }
}

/** The next token of every row, by the host. */
async function choose(
  { settings: s, process, draw, prompts }: Run,
  logits: Tensor,
  rows: readonly number[][],
  kept: Kept,
): Promise<number[]> {
  const raw = await hostScores(logits, { log: false });
  kept.logits?.push(snapshot(raw, rows.length));
  const scores = process ? process(rows, raw) : raw;
  kept.scores?.push(snapshot(scores, rows.length));
  const V = scores.length / rows.length;
  const step = rows[0]!.length - prompts[0]!.length;
  return rows.map((_, r) => {
    const row = scores.subarray(r * V, (r + 1) * V);
    return s.do_sample ? draw.token(row, r, step) : likeliest(row);
  });
}
