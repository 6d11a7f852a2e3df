import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openReference } from '../src/backend/reference.ts';
import { t5Config } from '../src/model/config.ts';
import { feedForwardLayer, type Stream } from '../src/model/layers.ts';
import { add } from '../src/ops/add/add.ts';
import { linear } from '../src/ops/linear/linear.ts';
import { rmsNorm } from '../src/ops/rms_norm/rms_norm.ts';
import { scale } from '../src/ops/scale/scale.ts';
import { checkpoint, differentiate, markParameter, record } from '../src/tensor/autograd.ts';
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

  test(`${name}: one gradient for two tensors is shared until one of them is added to`, async () => {
    const before = backend.usage.bytes;
    const x = Tensor.from(backend, 'f32', [2, D], wave(2 * D, 1.7));
    const w = Tensor.from(backend, 'f32', [D, D], wave(D * D, 0.3));
    const c = Tensor.from(backend, 'f32', [2, D], wave(2 * D, 0.9));
    x.needsGrad = true;
    const { loss } = differentiate(() => {
      const [a, b] = [scale(x, 2), scale(x, 3)];
      // Both get c from the sum; then a's grows in place by the product's part, and b's must not.
      return { loss: add(add(a, b), linear(a, w)) };
    }, c);
    const [dx, wide, cs] = (await Promise.all([x.grad!, w, c].map((t) => t.read()))) as Float32Array[];
    dx!.forEach((got, i) => {
      let through = 0;
      for (let o = 0; o < D; o++) through += cs![Math.floor(i / D) * D + o]! * wide![o * D + (i % D)]!;
      const want = 2 * (cs![i]! + through) + 3 * cs![i]!;
      assert.ok(Math.abs(got - want) < 1e-4 * Math.abs(want), `dx[${i}] = ${got}, expected ${want}`);
    });
    dispose(x, w, c, loss, x.grad!);
    assert.equal(backend.usage.bytes, before, 'nothing leaks');
  });

  test(`${name}: activations that are forgotten and computed again give the same gradients from less memory`, async () => {
    const F = 64;
    const config = t5Config({
      d_model: D,
      d_ff: F,
      num_heads: 2,
      d_kv: 8,
      feed_forward_proj: 'gated-gelu',
      dropout_rate: 0.25,
    });
    const rng = Tensor.from(backend, 'i32', [2], [3, 4]);
    const gradients = async (lean: boolean) => {
      const { bytes } = backend.usage;
      const parameter = (shape: number[], f: number) => {
        const length = shape.reduce((a, b) => a * b);
        const t = Tensor.from(backend, 'f32', shape, wave(length, f));
        markParameter(t, Tensor.from(backend, 'f32', shape, new Float32Array(length)));
        return t;
      };
      const p = {
        norm: parameter([D], 0.2),
        up: parameter([F, D], 0.3),
        gate: parameter([F, D], 0.4),
        down: parameter([D, F], 0.7),
      };
      const x = Tensor.from(backend, 'f32', [300, D], wave(300 * D, 1.7));
      const c = Tensor.from(backend, 'f32', [300, D], wave(300 * D, 0.9));
      x.needsGrad = true;
      backend.resetPeak();
      const pass = { config, checkpointing: false, lean, random: { seed: 3, step: 4, rng } };
      const { loss } = differentiate(() => {
        let stream: Stream = { x };
        for (let layer = 0; layer < 6; layer++) stream = feedForwardLayer(p, stream, 8 * layer, pass);
        return { loss: add(stream.x, stream.added!) };
      }, c);
      const peak = backend.usage.peakBytes - bytes;
      const all = [x, ...Object.values(p)].map((t) => t.grad!);
      const found = await Promise.all(all.map((t) => t.read()));
      dispose(x, c, loss, ...Object.values(p), ...all);
      assert.equal(backend.usage.bytes, bytes, 'nothing leaks');
      return { found, peak };
    };
    const [kept, again] = [await gradients(false), await gradients(true)];
    assert.deepEqual(again.found, kept.found);
    assert.ok(again.peak < 0.9 * kept.peak, `${again.peak} of ${kept.peak} bytes`);
    dispose(rng);
  });

  test(`${name}: a pass that fails on its way forward or back leaves nothing behind`, () => {
    const before = backend.usage.bytes;
    const x = Tensor.from(backend, 'f32', [2, D], wave(2 * D, 1.7));
    const w = Tensor.from(backend, 'f32', [D, D], wave(D * D, 0.3));
    x.needsGrad = true;
    const held = backend.usage.bytes;
    const fail = (): never => {
      throw new Error('no');
    };
    const forward = () => {
      scale(linear(scale(x, 2), w), 3);
      return { loss: fail() };
    };
    const back = () => {
      const y = scale(linear(scale(x, 2), w), 3);
      const z = Tensor.from(backend, 'f32', [1], [1]);
      record([z], [y], () => {
        scale(y, 2);
        return fail();
      });
      return { loss: add(scale(y, 2).part(0, 1), z) };
    };
    for (const f of [forward, back, () => ({ loss: checkpoint(() => back().loss, [x]) })]) {
      assert.throws(() => differentiate(f), /^Error: no$/);
      assert.equal(backend.usage.bytes, held);
      assert.equal(x.grad, undefined);
    }
    dispose(x, w);
    assert.equal(backend.usage.bytes, before);
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
