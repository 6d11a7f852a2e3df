/** Shape changes that gradients flow through and that need no kernel. */
import { record } from '../tensor/autograd.ts';
import type { Tensor } from '../tensor/tensor.ts';

/** The same elements under another shape, sharing memory. @throws ShapeError if the number of elements differs */
export function reshape(x: Tensor, ...shape: number[]): Tensor {
  const y = x.view(...shape);
  record([y], [x], ([dy]) => [dy]);
  return y;
}
