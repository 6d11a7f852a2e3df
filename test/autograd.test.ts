import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openReference } from '../src/backend/reference.ts';
import { rmsNorm } from '../src/ops/rms_norm/rms_norm.ts';
import { checkpoint, differentiate, markParameter } from '../src/tensor/autograd.ts';
import { dispose, scope } from '../src/tensor/scope.ts';
import { Tensor } from '../src/tensor/tensor.ts';
import { testedBackend } from './harness.ts';

const D = 16;
const wave = (n: number, f: number) => Float32Array.from({ length: n }, (_, i) => 1 + 0.5 * Math.sin(i * f));

for (const backend of [openReference(), testedBackend()]) {
  const name = backend.name;

  test(`${name}: two chained norms give the finite-difference gradient, checkpointed or not`, async () => {
    for (const wrap of [(f: () => Tensor) => f(), checkpoint]) {
      const before = backend.usage.bytes;
      const x = Tensor.from(backend, 'f32', [2, 3, D], wave(96, 1.7));
      const w = Tensor.from(backend, 'f32', [D], wave(D, 0.3));
      const dw = Tensor.from(backend, 'f32', [D], new Float32Array(D));
      const c = Tensor.from(backend, 'f32', [2, 3, D], wave(96, 0.9));
      x.needsGrad = true;
      markParameter(w, dw);
      const forward = () => {
        const h = wrap(() => rmsNorm(x, w, 1e-6), [x]);
        return { loss: rmsNorm(h, w, 1e-6) };
      };
      const { loss } = differentiate(forward, c);
      const dx = await x.grad!.read();
      const values = (await x.read()) as Float32Array;
      const value = async () => {
        const y = scope(() => forward().loss);
        const out = Array.from(await y.read());
        dispose(y);
        const cs = wave(96, 0.9);
        return out.reduce((s, v, i) => s + v * cs[i]!, 0);
      };
      for (const i of [0, 17, 95]) {
        const v = values[i]!;
        const h = 1e-2;
        values[i] = v + h;
        x.write(values);
        const up = await value();
        values[i] = v - h;
        x.write(values);
        const down = await value();
        values[i] = v;
        const numeric = (up - down) / (2 * h);
        assert.ok(Math.abs(numeric - dx[i]!) < 2e-3, `dx[${i}] = ${dx[i]}, finite difference ${numeric}`);
      }
      dispose(x, w, dw, c, loss, x.grad!);
      assert.equal(backend.usage.bytes, before, 'nothing leaks');
    }
  });

  test(`${name}: a wrong shape names the kernel, the argument and both shapes`, () => {
    const zeros = (...shape: number[]) =>
      Tensor.from(backend, 'f32', shape, new Float32Array(shape.reduce((a, b) => a * b)));
    assert.throws(() => rmsNorm(zeros(2, 4, 768), zeros(512), 1e-6), {
      name: 'ShapeError',
      message: 'rms_norm_forward: weight is [512], expected [D] with D=768 (from x)',
    });
  });
}
