// activation, CUDA. Contracts, formulas and sources: activation.ts in this folder.
#include "kernel.cuh"

namespace {

struct Relu {
  static DEVICE float value(float x) { return x < 0 ? 0 : x; }
  static DEVICE void both(float x, float &value, float &slope) {
    value = x < 0 ? 0 : x;
    slope = x > 0 ? 1 : 0;
  }
};

struct Gelu {
  static DEVICE float value(float x) { return x * normcdff(x); }
  static DEVICE void both(float x, float &value, float &slope) {
    const float cumulative = normcdff(x);
    value = x * cumulative;
    slope = cumulative + x * 0.3989422804f * exponential(x * x * -0.5f);
  }
};

struct GeluNew {
  static constexpr float C = 1.5957691216f, A = 0.044715f;  // C = 2 sqrt(2 / pi)
  static DEVICE float value(float x) { return x * sigmoid(x * (C + C * A * x * x)); }
  static DEVICE void both(float x, float &value, float &slope) {
    const float s = sigmoid(x * (C + C * A * x * x));
    value = x * s;
    slope = s + value * (1 - s) * (C + 3 * C * A * x * x);
  }
};

struct Silu {
  static DEVICE float value(float x) { return x * sigmoid(x); }
  static DEVICE void both(float x, float &value, float &slope) {
    const float s = sigmoid(x);
    value = x * s;
    slope = s + value * (1 - s);
  }
};

struct Tanh {
  static DEVICE float value(float x) { return hyperbolicTangent(x); }
  static DEVICE void both(float x, float &value, float &slope) {
    value = hyperbolicTangent(x);
    slope = 1 - value * value;
  }
};

/** body(f) with the activation of a kind, in the order of `activations` in activation.ts. */
template <class Body> DEVICE void with(int kind, const Body &body) {
  switch (kind) {
    case 0: return body(Relu());
    case 1: return body(Gelu());
    case 2: return body(GeluNew());
    case 3: return body(Silu());
    default: return body(Tanh());
  }
}

}  // namespace

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
