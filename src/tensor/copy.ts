/** Copies on the device. */
import { accumulate } from './accumulate.ts';
import { run } from './autograd.ts';
import { Tensor } from './tensor.ts';

/** Writes x's values into a tensor of as many. */
export function copyTo(x: Tensor, y: Tensor): void {
  run(accumulate, { x: x.view(x.length), y: y.view(y.length) }, { scalars: { beta: 0 } });
}

/** A new tensor with x's values. */
export function copyOf(x: Tensor): Tensor {
  const y = Tensor.empty(x.backend, x.dtype, x.shape);
  copyTo(x, y);
  return y;
}
