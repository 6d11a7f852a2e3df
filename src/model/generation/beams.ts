/** Beam search, beam sampling and diverse beams (Vijayakumar et al. 2016, arXiv:1610.02424) over the model's steps. */

import { beamCandidates } from '../../ops/beam_step/beam_step.ts';
import { logSoftmax } from '../../ops/log_softmax/log_softmax.ts';
import { topK } from '../../ops/top_k/top_k.ts';
import { dispose, scope } from '../../tensor/scope.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { filled, longest } from '../../util/id_rows.ts';
import { Beams, type Candidate, type Finished } from './beam_search.ts';
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
import { type Decoding, endDecoding, startDecoding } from './step.ts';

export async function beamSearch(run: Run): Promise<GenerateOutput> {
  const { settings: s, source } = run;
  const kept = keptScores(run);
  const shape = { capacity: s.max_length - 1, rows: s.num_beams, caches: 'exchanged' } as const;
  const groupsOf = startGroups(run);
  const groups = groupsOf.flat();
  const decoding = startDecoding(run.p, source, shape, run.pass);
  const past = new Past(decoding);
  let logits: Tensor | undefined;
  try {
    past.write();
    logits = readPrompt(run, decoding, s.num_beams);
    for (let at = run.prompts[0]!.length; ; at++) {
      await stepGroups(run, groupsOf, logits, kept);
      decoding.replay.release(logits);
      logits = undefined;
      if (groups.every((group) => group.done)) break;
      past.follow(groups);
      past.write();
      const newest = groups.flatMap((group) => group.open.map(({ tokens }) => tokens[at]!));
      logits = stepOn(run, decoding, Int32Array.from(newest), at);
      await breathe(run);
    }
    const found = groupsOf.map((groups) => groups.flatMap(({ finished }) => finished));
    return outputOf(run, found, kept);
  } finally {
    if (logits) decoding.replay.release(logits);
    endDecoding(decoding);
  }
}

/** For each source its groups of beams. */
function startGroups({ settings: s, prompts, ended }: Run): Beams[][] {
  const size = s.num_beams / s.num_beam_groups;
  const { max_length, length_penalty, early_stopping } = s;
  const options = { beams: size, prompt: prompts[0]!.length, max_length, length_penalty, early_stopping, ended };
  return prompts.map((prompt, b) =>
    Array.from({ length: s.num_beam_groups }, (_, g) => new Beams(prompt, b * s.num_beams + g * size, options)),
  );
}

/** In which row's cache each beam finds its past. */
class Past {
  private origins: Int32Array;
  private readonly decoding: Decoding;
  private readonly capacity: number;

  constructor(decoding: Decoding) {
    const { capacity, position } = decoding;
    this.decoding = decoding;
    this.capacity = capacity;
    this.origins = Int32Array.from({ length: position.length * capacity }, (_, i) => Math.floor(i / capacity));
  }

  /** Beams take over the past of those that they prolong; what comes next goes to their own caches. */
  follow(groups: readonly Beams[]): void {
    const { capacity, origins } = this;
    const known = this.decoding.place + 1;
    const next = origins.slice();
    let row = 0;
    for (const { parents } of groups) {
      const first = row;
      for (const parent of parents) {
        const from = (first + parent) * capacity;
        next.set(origins.subarray(from, from + known), row * capacity);
        row++;
      }
    }
    this.origins = next;
  }

  write(): void {
    this.decoding.origins!.write(this.origins);
  }
}

/** Lets every group choose. Later groups of a source see what earlier ones have just chosen. */
async function stepGroups(run: Run, groupsOf: Beams[][], logits: Tensor, kept: Kept): Promise<void> {
  const { settings: s, c } = run;
  const size = s.num_beams / s.num_beam_groups;
  const width = beamCandidates(size, s.eos.length, c.vocab_size);
  const plain = !run.process && !s.do_sample && !kept.scores && !kept.logits && s.num_beam_groups === 1;
  if (plain) {
    const rows = await likeliestOf(logits, Math.min(width, c.vocab_size));
    for (const [b, [beams]] of groupsOf.entries())
      if (!beams!.done) beams!.step(bestOfRows(rows, b * size, beams!, width));
    return;
  }
  if (kept.logits) {
    const raw = await hostScores(logits, { log: false });
    kept.logits.push(snapshot(raw, logits.length / c.vocab_size));
  }
  const all = await hostScores(logits, { log: true });
  const V = c.vocab_size;
  for (const [b, groups] of groupsOf.entries()) {
    const chosen = new Map<number, number>();
    for (const [g, beams] of groups.entries()) {
      const first = b * s.num_beams + g * size;
      const own = all.subarray(first * V, (first + size) * V);
      for (const [token, times] of chosen)
        for (let r = 0; r < size; r++) own[r * V + token]! -= s.diversity_penalty * times;
      const tokens = beams.open.map((answer) => [...answer.tokens]);
      const scores = run.process ? run.process(tokens, own, first) : own;
      if (scores !== own) own.set(scores);
      if (beams.done) continue;
      const step = tokens[0]!.length - run.prompts[0]!.length;
      beams.step(s.do_sample ? drawn(run, scores, beams, { width, source: b, step }) : bestOf(scores, beams, width));
      for (const { tokens: after } of beams.open) {
        const newest = after[after.length - 1]!;
        chosen.set(newest, (chosen.get(newest) ?? 0) + 1);
      }
    }
  }
  kept.scores?.push(snapshot(all, all.length / V));
}

interface RowsBest {
  values: Float32Array;
  ids: Int32Array;
  width: number;
}

/** The likeliest tokens of every row with their log-probabilities. */
async function likeliestOf(logits: Tensor, width: number): Promise<RowsBest> {
  const { values, ids } = scope(() => topK(logSoftmax(logits), width));
  const [best, tokens] = await Promise.all([values.read(), ids.read()]); // one wait for both
  dispose(values, ids);
  return { values: best as Float32Array, ids: tokens as Int32Array, width };
}

function bestOfRows(rows: RowsBest, first: number, beams: Beams, width: number): Candidate[] {
  const all = beams.open.flatMap(({ score }, beam) => {
    const start = (first + beam) * rows.width;
    return Array.from({ length: rows.width }, (_, k) => ({
      beam,
      token: rows.ids[start + k]!,
      score: Math.fround(rows.values[start + k]! + score),
    }));
  });
  return all.sort((x, y) => y.score - x.score || x.beam - y.beam || x.token - y.token).slice(0, width);
}

/** The best continuations by the scores [beams,V] of a group's rows. */
function bestOf(scores: Float32Array, beams: Beams, width: number): Candidate[] {
  const V = scores.length / beams.open.length;
  const found: Candidate[] = [];
  for (const [beam, { score: before }] of beams.open.entries())
    for (let token = 0; token < V; token++) {
      const score = Math.fround(scores[beam * V + token]! + before);
      if (found.length === width && !(score > found[width - 1]!.score)) continue;
      let at = found.length;
      while (at > 0 && found[at - 1]!.score < score) at--;
      found.splice(at, 0, { beam, token, score });
      if (found.length > width) found.pop();
    }
  return found;
}

function drawn(
  { draw }: Run,
  scores: Float32Array,
  beams: Beams,
  { width, source, step }: { width: number; source: number; step: number },
): Candidate[] {
  const V = scores.length / beams.open.length;
  const sums = scores.map((score, i) => score + beams.open[Math.floor(i / V)]!.score);
  return draw.places(sums, width, source, step).map((place) => ({
    beam: Math.floor(place / V),
    token: place % V,
    score: sums[place]!,
  }));
}

/** The best of what was found for each source. */
export function outputOf({ settings: s, prompts }: Run, found: readonly Finished[][], kept: Kept): GenerateOutput {
  const answers = found.flatMap((all) => all.sort((a, b) => b.score - a.score).slice(0, s.num_return_sequences));
  // Transformers fills beams up with the end token where padding is token 0, which it takes for none.
  const filler = s.pad_token_id || (s.eos[0] ?? s.pad_token_id);
  const length = prompts[0]!.length + Math.max(...answers.map(({ rows }) => rows.length));
  const texts = answers.map(({ tokens }) => tokens.slice(0, length));
  const indices = answers.map(({ rows }) => rows);
  return {
    sequences: filled(texts, longest(texts), filler),
    ...(s.output_scores && { sequences_scores: answers.map(({ score }) => score) }),
    ...(kept.scores && { scores: kept.scores }),
    ...(kept.logits && { logits: kept.logits }),
    beam_indices: filled(indices, longest(indices), -1),
  };
}
