// activation, CUDA. Contracts, formulas and sources: activation.ts in this folder.
#include "functions.cuh"

KERNEL activation_forward(const T *x, T *y, i64 N, int kind) {
  with(kind, [=](auto f) {
    forElements(N, aligned(x, y), [=](i64 i, auto n) {
      float v[n.value];
      load(x + i, v);
      for (float &value : v) value = f.value(value);
      store(y + i, v);
    });
  });
}

KERNEL activation_backward(const T *dy, const T *x, T *dx, i64 N, int kind) {
  with(kind, [=](auto f) {
    forElements(N, aligned(dy, x, dx), [=](i64 i, auto n) {
      float v[n.value], d[n.value];
      load(x + i, v);
      load(dy + i, d);
      for (int k = 0; k < n.value; k++) {
        float value, slope;
        f.both(v[k], value, slope);
        d[k] *= slope;
      }
      store(dx + i, d);
    });
  });
}

KERNEL gated_activation_forward(const T *gate, const T *up, T *y, i64 N, int kind) {
  with(kind, [=](auto f) {
    forElements(N, aligned(gate, up, y), [=](i64 i, auto n) {
      float g[n.value], u[n.value];
      load(gate + i, g);
      load(up + i, u);
      for (int k = 0; k < n.value; k++) u[k] *= f.value(g[k]);
      store(y + i, u);
    });
  });
}

KERNEL gated_activation_backward(const T *dy, const T *gate, const T *up, T *dgate, T *dup, i64 N, int kind) {
  with(kind, [=](auto f) {
    forElements(N, aligned(dy, gate, up, dgate, dup), [=](i64 i, auto n) {
      float d[n.value], g[n.value], u[n.value];
      load(dy + i, d);
      load(gate + i, g);
      load(up + i, u);
      for (int k = 0; k < n.value; k++) {
        float value, slope;
        f.both(g[k], value, slope);
        g[k] = d[k] * u[k] * slope;
        u[k] = d[k] * value;
      }
      store(dgate + i, g);
      store(dup + i, u);
    });
  });
}

/** body(row, f, n): elements f of a row of F for this thread. */
template <class Body> DEVICE void forHalves(i64 F, bool whole, const Body &body) {
  const i64 row = blockIdx.x;
  forRow(F, whole && F % VECTOR == 0, blockIdx.y * blockDim.x + threadIdx.x, gridDim.y * blockDim.x,
         [&](i64 f, auto n) { body(row, f, n); });
}

KERNEL gated_halves_forward(const T *gateUp, T *y, i64, i64 F, int kind) {
  with(kind, [=](auto f) {
    forHalves(F, aligned(gateUp, y), [=](i64 row, i64 i, auto n) {
      float g[n.value], u[n.value];
      load(gateUp + row * 2 * F + i, g);
      load(gateUp + row * 2 * F + F + i, u);
      for (int k = 0; k < n.value; k++) u[k] *= f.value(g[k]);
      store(y + row * F + i, u);
    });
  });
}

KERNEL gated_halves_backward(const T *dy, const T *gateUp, T *dgateUp, T *y, i64, i64 F, int kind) {
  with(kind, [=](auto f) {
    forHalves(F, aligned(dy, gateUp, dgateUp) && aligned(y), [=](i64 row, i64 i, auto n) {
      const i64 gate = row * 2 * F + i, up = gate + F;
      float d[n.value], g[n.value], u[n.value], again[n.value];
      load(dy + row * F + i, d);
      load(gateUp + gate, g);
      load(gateUp + up, u);
      for (int k = 0; k < n.value; k++) {
        float value, slope;
        f.both(g[k], value, slope);
        again[k] = u[k] * value;
        g[k] = d[k] * u[k] * slope;
        u[k] = d[k] * value;
      }
      store(dgateUp + gate, g);
      store(dgateUp + up, u);
      if (y) store(y + row * F + i, again);
    });
  });
}
