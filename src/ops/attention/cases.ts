/** What the tests of attention run: forward, backward and, where small, finite differences. */
import type { AttentionArrays, AttentionScalars, AttentionSizes } from './reference.ts';

type Optional = Exclude<keyof AttentionArrays, 'q' | 'k' | 'v'>;
interface AttentionCase {
  sizes: AttentionSizes;
  scalars: AttentionScalars;
  absent: Optional[];
}

const optional: Optional[] = ['bias', 'dense', 'querySegments', 'keySegments', 'queryPositions', 'keyPositions', 'rng'];

/** Sizes and scalars that differ from the smallest; the optional arguments that are given. */
function attentionCase(
  sizes: Partial<AttentionSizes>,
  scalars: Partial<AttentionScalars> = {},
  ...given: Optional[]
): AttentionCase {
  return {
    sizes: { B: 1, M: 1, N: 1, H: 1, D: 8, P: 1, E: 1, G: 1, ...sizes },
    scalars: { scale: 1, causal: 0, queryOffset: 0, dropout: 0, site: 0, ...scalars },
    absent: optional.filter((name) => !given.includes(name)),
  };
}

/** From the smallest on: each option alone, then sizes beyond a block of every backend. */
export const cases: AttentionCase[] = [
  attentionCase({}),
  attentionCase({ B: 2, M: 5, N: 7, H: 2, P: 5 }, { scale: 0.3 }, 'bias'),
  attentionCase({ B: 2, M: 7, N: 4, D: 5, P: 9 }, { causal: 1, scale: 0.5 }, 'bias'), // last rows see all keys
  attentionCase({ M: 4, N: 7, H: 2, D: 3, P: 7 }, { causal: 1, queryOffset: 3 }, 'bias'),
  attentionCase({ M: 4, N: 5, P: 3 }, { causal: 1, queryOffset: -2 }, 'bias'), // first rows see none
  attentionCase({ B: 3, M: 6, N: 8, P: 3 }, {}, 'keySegments'),
  attentionCase({ B: 3, M: 6, N: 8, P: 3 }, {}, 'bias', 'querySegments', 'keySegments'),
  attentionCase({ B: 2, M: 5, N: 6, P: 21 }, {}, 'bias', 'queryPositions', 'keyPositions'),
  attentionCase({ M: 5, N: 6, P: 21 }, { queryOffset: 4 }, 'bias', 'keyPositions'),
  attentionCase({ B: 2, M: 3, N: 5, H: 2, D: 4, E: 2, G: 2 }, {}, 'dense'),
  attentionCase({ B: 2, M: 3, N: 5, H: 2, D: 4, E: 1, G: 2 }, {}, 'dense'),
  attentionCase({ B: 2, M: 3, N: 5, H: 2, D: 4, E: 2, G: 1, P: 5 }, { causal: 1 }, 'dense', 'bias'),
  attentionCase({ B: 2, M: 3, N: 5, H: 2, D: 4, E: 1, G: 1 }, {}, 'dense'),
  attentionCase({ B: 2, M: 5, N: 6, H: 2, D: 4 }, { dropout: 0.3, site: 7 }, 'rng'),
  // larger than a block in every direction
  attentionCase({ B: 2, M: 75, N: 150, H: 2, D: 16, P: 41 }, { scale: 0.25 }, 'bias'),
  attentionCase({ M: 150, N: 150, H: 2, D: 40, P: 41 }, { causal: 1, scale: 0.2 }, 'bias'),
  attentionCase({ M: 70, N: 200, D: 128, P: 401 }, { causal: 1, queryOffset: 130, scale: 0.1 }, 'bias'),
  attentionCase({ B: 2, M: 140, N: 135, D: 64, P: 33 }, { scale: 0.1 }, 'bias', 'querySegments', 'keySegments'),
  attentionCase({ M: 130, N: 141, H: 2, D: 24, P: 31 }, {}, 'bias', 'queryPositions', 'keyPositions'),
  attentionCase({ B: 2, M: 70, N: 134, H: 2, D: 20, G: 2 }, { causal: 1, queryOffset: 64 }, 'dense'),
  attentionCase({ B: 2, M: 67, N: 131, H: 2, D: 16, P: 3 }, { dropout: 0.2, site: 3, scale: 0.2 }, 'bias', 'rng'),
  // a width of 64, which has kernels of its own on some devices
  attentionCase({ M: 200, N: 216, H: 2, D: 64, P: 61 }, { scale: 0.125 }, 'bias'),
  attentionCase(
    { B: 2, M: 140, N: 132, D: 64, P: 9 },
    { causal: 1, dropout: 0.2, site: 5, scale: 0.125 },
    'bias',
    'rng',
  ),
  attentionCase({ B: 2, M: 130, N: 141, D: 64 }, { scale: 0.125 }, 'dense', 'keySegments'),
  // as many heads as some devices need for whole heads at once: two tiles of few queries, more of both, and a width of 128
  attentionCase({ B: 67, M: 20, N: 130, H: 2, D: 64, P: 5 }, { scale: 0.2 }, 'bias', 'keySegments'),
  attentionCase({ B: 67, M: 80, N: 66, H: 2, D: 64, P: 41 }, { causal: 1, scale: 0.2 }, 'bias'),
  attentionCase({ B: 2, M: 150, N: 140, H: 2, D: 128, P: 61 }, { scale: 0.1 }, 'bias', 'keySegments'),
];
