/** Attention with a shared bias table twice in a row; run with "print", its results as text. */
import { attention } from '../src/ops/attention/attention.ts';
import { relativeBias } from '../src/ops/relative_bias/relative_bias.ts';
import { differentiate, markParameter } from '../src/tensor/autograd.ts';
import { dispose } from '../src/tensor/scope.ts';
import { Tensor } from '../src/tensor/tensor.ts';
import { testedBackend, uniform } from './harness.ts';

const backend = testedBackend();

/** Uniform values in [-1, 1). */
export const randomTensor = (seed: number, ...shape: number[]) => {
  const next = uniform(seed);
  const length = shape.reduce((a, b) => a * b);
  return Tensor.from(
    backend,
    'f32',
    shape,
    Float32Array.from({ length }, () => next() * 2 - 1),
  );
};

/** Two layers that share one table: what a decoder of depth two does. */
export async function twoLayers(): Promise<{ out: Float32Array; dtable: Float32Array }> {
  const options = { bidirectional: false, maxDistance: 20, radius: 20 };
  const [B, S, H, D] = [1, 300, 2, 16];
  const [q, k, v, dout] = [1, 2, 3, 4].map((seed) => randomTensor(seed, B, S, H, D)) as [
    Tensor,
    Tensor,
    Tensor,
    Tensor,
  ];
  const table = randomTensor(5, 32, H);
  const dtable = randomTensor(6, 32, H);
  markParameter(table, dtable);
  const { loss } = differentiate(() => {
    const bias = relativeBias(table, options);
    const h = attention(q, k, v, { bias, causal: true, scale: 0.25 });
    return { loss: attention(h, k, v, { bias, causal: true }) };
  }, dout);
  const results = { out: (await loss.read()) as Float32Array, dtable: (await dtable.read()) as Float32Array };
  dispose(q, k, v, dout, table, dtable, loss);
  return results;
}

if (process.argv[2] === 'print')
  for (const values of Object.values(await twoLayers())) console.log(Buffer.from(values.buffer).toString('base64'));
