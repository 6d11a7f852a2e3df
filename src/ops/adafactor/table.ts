/**
 * The tables of Adafactor's launches: where each parameter and its moments lie, and how its rows are cut into chunks. A
 * vector or scalar of n elements is n rows of one column without column moments.
 */
import { CHUNK } from '../../tensor/chunks.ts';
import { ALIGNMENT, type ParameterPlace } from '../../tensor/parameters.ts';
import { ShapeError } from '../../util/errors.ts';

/** What Adafactor's kernels know of some parameters. */
export interface AdafactorTable {
  /** i32[P,7]: start and state (units of ALIGNMENT), rows, columns, row moments, column moments (-1: none), first chunk. */
  places: Int32Array;
  /** i32[C,4]: parameter, first row, rows, where the chunk's column sums lie. Consecutive for a parameter. */
  chunks: Int32Array;
  /** Elements of the moments, of the column sums, of state in the layout of the parameters of the table. */
  moments: number;
  columnSums: number;
  state: number;
}

/** Numbers in a row of `places`. */
export const PLACE_COLUMNS = 7;

/** @throws ShapeError for more than two dimensions */
export function adafactorTable(shapes: readonly Pick<ParameterPlace, 'name' | 'shape' | 'offset'>[]): AdafactorTable {
  const places: number[] = [];
  const chunks: number[] = [];
  let moments = 0;
  let columnSums = 0;
  let state = 0;
  shapes.forEach(({ name, shape, offset }, parameter) => {
    if (shape.length > 2) throw new ShapeError(`adafactor: ${name} is [${shape}], expected one or two dimensions`);
    const [rows, columns] = shape.length === 2 ? (shape as [number, number]) : [shape[0] ?? 1, 1];
    const columnMoments = shape.length === 2 ? moments + rows : -1;
    places.push(offset / ALIGNMENT, state, rows, columns, moments, columnMoments, chunks.length / 4);
    moments += shape.length === 2 ? rows + columns : rows;
    state += Math.ceil((rows * columns) / ALIGNMENT);
    const rowsPerChunk = Math.max(1, Math.floor(CHUNK / columns));
    for (let row = 0; row < rows; row += rowsPerChunk) {
      chunks.push(parameter, row, Math.min(rowsPerChunk, rows - row), columnSums);
      if (shape.length === 2) columnSums += columns;
    }
  });
  return {
    places: Int32Array.from(places),
    chunks: Int32Array.from(chunks),
    moments,
    columnSums,
    state: state * ALIGNMENT,
  };
}
