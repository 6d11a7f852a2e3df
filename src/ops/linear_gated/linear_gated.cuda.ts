/** linear_gated, CUDA: tiles of linear_gated_sm90.cu by shape. */

import type { CudaPlan } from '../../backend/cuda/plan.ts';
import { bytesOf } from '../../backend/dtype.ts';

const WARPGROUP = 128;
const MULTIPLIERS = 2;
const DEPTH = 64;
/** Rows from which on tiles of `many` are faster. */
const MANY = 2048;
/** Constants that linear_gated_sm90.cu explains. Of few rows, three tiles to a multiprocessor take T5 XXL's 512. */
const tiles = {
  few: { GROUP_ROWS: 64, COLUMNS: 208, TURNS: 0, CLUSTER_ROWS: 2, CLUSTER_COLUMNS: 1, STAGES: 4, ALONG_ROWS: 1 },
  many: { GROUP_ROWS: 128, COLUMNS: 192, TURNS: 1, CLUSTER_ROWS: 1, CLUSTER_COLUMNS: 2, STAGES: 5, ALONG_ROWS: 0 },
} as const;

export const linearGatedPlan: CudaPlan = ({ sizes, scalars: { kind }, type, device }) => {
  const { N, I, O } = sizes as { N: number; I: number; O: number };
  const tile = tiles[N < MANY ? 'few' : 'many'];
  const { GROUP_ROWS, COLUMNS, TURNS, CLUSTER_ROWS, CLUSTER_COLUMNS, STAGES } = tile;
  const tileRows = (TURNS ? 1 : MULTIPLIERS) * GROUP_ROWS;
  const outputs = COLUMNS / 2;
  const cluster = CLUSTER_ROWS * CLUSTER_COLUMNS;
  const count = Math.ceil(N / (tileRows * CLUSTER_ROWS)) * Math.ceil(O / (outputs * CLUSTER_COLUMNS));
  const clusters = Math.min(count, Math.floor(device.multiprocessors / cluster));
  const piece = outputs % 48 === 0 ? 48 : outputs;
  const pitch = piece % 16 === 8 ? piece : piece + 8;
  const elements = STAGES * (tileRows + COLUMNS) * DEPTH + MULTIPLIERS * 4 * 16 * pitch;
  return {
    launches: [
      {
        source: 'linear_gated/linear_gated_sm90.cu',
        entry: 'linear_gated_sm90',
        defines: { ...tile, KIND: kind! },
        grid: [clusters * cluster],
        block: (MULTIPLIERS + 1) * WARPGROUP,
        sharedBytes: elements * bytesOf[type] + 2 * 8 * STAGES,
        ahead: true,
        arguments: [
          { boxesOf: 'x', rows: N, columns: I, box: tileRows / CLUSTER_COLUMNS },
          { boxesOf: 'weight', rows: 2 * O, columns: I, box: Math.min(COLUMNS / CLUSTER_ROWS, outputs) },
          ...['y', 'N', 'I', 'O'],
        ],
      },
    ],
  };
};
