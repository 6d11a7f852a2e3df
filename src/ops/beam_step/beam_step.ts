/**
 * beam_step: takes the likeliest next tokens of a beam search's open answers and makes them ready for the next ones, so that
 * decoding needs nobody on the host between two tokens. What beam search does is told in model/generation/beam_search.ts.
 *
 * A source has K = R / B open answers, its rows; what happens to it does not depend on the others. The newest token of each
 * stands at place p = position of its first row, and has the sum of log-probabilities `score`. values and ids [R,M] are the
 * M best log-probabilities of what follows each and their tokens. All arithmetic is float32.
 *
 *   candidates      the W = min(max(2, 1 + E) K, K M) best of score[k] + values[k,m], then by lower row, then by lower id
 *   a candidate ends  if its token is in eos, or if its length p + 2 reaches settings' max_length
 *   found           the K best of what was found before and of the candidates by score / powers[length - prompt], where
 *                   those that have not ended, or are not among the first K, or come too late, get -1e9 added; of equal
 *                   ones those that had ended before come first, then candidates, then the others
 *   open            the K best candidates, of which those that end get -1e9 added
 *   state           [b,1] is 1 once no open answer can become better than the worst that was found; [b,0] once the search is
 *                   over: then, or with early = 1 when all that was found has ended, or when all candidates end
 *
 * history[r,p] is the new token of row r, parents[r,p] the number among the source's rows of the one that it prolongs; token,
 * score and position are the next step's. origins[r,n] up to p become those of the row that is prolonged. found [R,4] holds the
 * best first: place p at which an answer ended, the number of the row that it prolongs, its last token, whether it ended; foundScore
 * its score. powers[n] is n ^ length_penalty. early: 0 or 1 as `early_stopping` false and true, 2: reachable scores are those of
 * max_length ("never"). Before the prompt's last token, at place prompt - 1, nothing is chosen and positions go on by 1. A source
 * that is over, or whose position is C or more, stays as it is.
 */
import { defineKernel } from '../../backend/kernel.ts';
import { beamStepPlan } from './beam_step.cuda.ts';

/** What takes a score out of the running without making it incomparable. */
export const OUT = -1e9;
const { fround } = Math;

/** Candidates to look at for K beams, E ends and M tokens of each beam: enough that not all of them can be ends. */
export const beamCandidates = (K: number, E: number, M: number): number => Math.min(Math.max(2, 1 + E) * K, K * M);

/** Beams times tokens of each that a step can look at. */
export const MOST_LOOKED_AT = 2048;

export const beamStep = defineKernel({
  name: 'beam_step',
  inputs: { values: 'f32[R,M]', ids: 'i32[R,M]', eos: 'i32[E]?', powers: 'f32[L]', settings: 'i32[3]' },
  updates: {
    token: 'i32[R]',
    score: 'f32[R]',
    position: 'i32[R]',
    origins: 'i32[R,C]',
    history: 'i32[R,C]',
    parents: 'i32[R,C]',
    found: 'i32[R,4]',
    foundScore: 'f32[R]',
    state: 'i32[B,2]',
  },
  outputs: {},
  requires: {
    'R a multiple of B': ({ R, B }) => R % B === 0,
    'L > C': ({ L, C }) => L > C,
    [`M R / B <= ${MOST_LOOKED_AT}`]: ({ M, R, B }) => (M * R) / B <= MOST_LOOKED_AT,
  },
  fill: {
    values: (random, { M }, i) => -Math.floor(2 * (i % M) + 4 * random()) / 8, // many equal sums
    ids: (random, { M }, i) => 3 * (i % M) + Math.floor(3 * random()), // different ones in a row
    eos: (_, __, i) => 1 + 3 * i,
    powers: (_, __, i) => fround(i ** 0.8),
    settings: (_, { C }, i) => [C + 1, C > 1 ? 2 : 1, C % 3][i]!,
    token: () => -1,
    score: (random) => -Math.floor(8 * random()) / 8,
    position: (_, { R, B, C }, i) => (Math.floor((i * B) / R) * 5 + C - 1) % (C + 1),
    origins: (random, { R }) => Math.floor(random() * R),
    history: () => -1,
    parents: () => -1,
    found: (random, _, i) => (i % 4 === 3 ? Math.floor(2 * random()) : i),
    foundScore: (random) => -Math.floor(8 * random()) / 8,
    state: (random) => Math.floor(random() * 1.2),
  },
  cases: [
    { sizes: { R: 1, M: 1, E: 0, L: 2, C: 1, B: 1 }, absent: ['eos'] },
    { sizes: { R: 12, M: 6, E: 1, L: 9, C: 7, B: 4 } },
    { sizes: { R: 12, M: 3, E: 1, L: 7, C: 6, B: 4 } },
    { sizes: { R: 20, M: 15, E: 2, L: 9, C: 8, B: 4 } },
    { sizes: { R: 28, M: 14, E: 1, L: 300, C: 299, B: 4 } },
    { sizes: { R: 32, M: 64, E: 1, L: 10, C: 9, B: 1 } },
  ],
  reference({ values, ids, eos, powers, settings, ...a }, { R, M, E, C, B }) {
    const { token, score, position, origins, history, parents, found, foundScore, state } = a;
    const [max_length, prompt, early] = settings as unknown as [number, number, number];
    const K = R / B;
    for (let b = 0; b < B; b++) {
      const first = b * K;
      const p = position[first]!;
      if (state[2 * b] || p >= C) continue;
      const length = p + 2;
      const rows = Array.from({ length: K }, (_, k) => first + k);
      if (p + 1 < prompt) {
        for (const r of rows) position[r] = p + 1;
        continue;
      }
      const candidates = rows
        .flatMap((r, beam) =>
          Array.from({ length: M }, (_, m) => ({
            ...{ place: p, beam, token: ids[r * M + m]! },
            score: fround(score[r]! + values[r * M + m]!),
          })),
        )
        .sort((x, y) => y.score - x.score || x.beam - y.beam || x.token - y.token)
        .slice(0, beamCandidates(K, E, M))
        .map((c) => ({ ...c, ended: length >= max_length || (eos?.includes(c.token) ?? false) }));
      const before = rows.map((r) => ({
        ...{ place: found[4 * r]!, beam: found[4 * r + 1]!, token: found[4 * r + 2]! },
        ...{ ended: found[4 * r + 3] !== 0, score: foundScore[r]! },
      }));
      const tooLate = [state[2 * b + 1] !== 0, early === 1 && before.every(({ ended }) => ended)];
      const scored = candidates.map((c, i) => {
        const ended = c.ended && i < K;
        let own = fround(c.score / powers[length - prompt]!);
        for (const out of [...tooLate, !ended]) if (out) own = fround(own + OUT);
        return { ...c, ended, score: own };
      });
      const best = [...before.filter((f) => f.ended), ...scored, ...before.filter((f) => !f.ended)]
        .sort((x, y) => y.score - x.score)
        .slice(0, K);
      for (const [k, f] of best.entries()) {
        found.set([f.place, f.beam, f.token, Number(f.ended)], 4 * (first + k));
        foundScore[first + k] = f.score;
      }
      const open = candidates
        .map((c) => ({ ...c, score: c.ended ? fround(c.score + OUT) : c.score }))
        .sort((x, y) => y.score - x.score)
        .slice(0, K);
      const past = rows.map((r) => origins.slice(r * C, r * C + p + 1));
      for (const [k, c] of open.entries()) {
        const r = first + k;
        origins.set(past[c.beam]!, r * C);
        history[r * C + p] = c.token;
        parents[r * C + p] = c.beam;
        token[r] = c.token;
        score[r] = c.score;
        position[r] = p + 1;
      }
      const reachable = fround(open[0]!.score / powers[(early === 2 ? max_length : length) - prompt]!);
      const worst = Math.min(...best.map((f) => f.score));
      if (!best.some((f) => reachable > (f.ended ? worst : OUT))) state[2 * b + 1] = 1;
      const full = early === 1 && best.every((f) => f.ended);
      if (state[2 * b + 1] || full || candidates.every((c) => c.ended)) state[2 * b] = 1;
    }
  },
  cuda: beamStepPlan,
});
