/**
 * advance: takes the tokens that were chosen for some rows and makes the rows ready for the next ones, so that decoding
 * needs nobody on the host between two tokens.
 *
 *   id = ended[r] ? pad : chosen[r];   history[r, position[r]] = token[r] = id;   position[r] += 1
 *   ended[r] = 1 once id is one of eos
 *
 * chosen, token, ended, position i32 [R]; history i32 [R,C] holds at n the token that followed the one at place n; eos i32 [E].
 * A row whose position is C or more stays as it is.
 */
import { defineKernel } from '../../backend/kernel.ts';
import { advancePlan } from './advance.cuda.ts';

export const advanceKernel = defineKernel({
  name: 'advance',
  inputs: { chosen: 'i32[R]', eos: 'i32[E]?' },
  updates: { token: 'i32[R]', ended: 'i32[R]', position: 'i32[R]', history: 'i32[R,C]' },
  outputs: {},
  scalars: { pad: 'i32' },
  fill: {
    chosen: (random) => Math.floor(random() * 4),
    eos: (_, __, i) => 2 + i,
    ended: (random) => Math.floor(random() * 2),
    token: () => 0,
    history: () => -1,
    position: (random, { C }) => Math.floor(random() * (C + 1)), // some at the end
  },
  cases: [
    { sizes: { R: 1, C: 1, E: 0 }, scalars: { pad: 0 }, absent: ['eos'] },
    { sizes: { R: 7, C: 3, E: 1 }, scalars: { pad: 9 } },
    { sizes: { R: 300, C: 20, E: 2 }, scalars: { pad: 9 } },
  ],
  reference({ chosen, eos, token, ended, position, history }, { R, C, E }, { pad }) {
    for (let r = 0; r < R; r++) {
      if (position[r]! >= C) continue;
      const id = ended[r] ? pad : chosen[r]!;
      history[r * C + position[r]!] = id;
      token[r] = id;
      position[r]!++;
      for (let e = 0; e < E; e++) if (id === eos![e]) ended[r] = 1;
    }
  },
  cuda: advancePlan,
});
