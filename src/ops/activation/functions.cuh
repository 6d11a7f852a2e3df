// The non-linearities by kind, in the order of `activations` in activation.ts: their formulas and sources are there.
#pragma once
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
