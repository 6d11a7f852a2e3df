// The functions of activation.ts on vector registers.
#pragma once
#include "vector_math.h"

namespace {

struct Relu {
  static vec value(vec x) { return largest(x, vec{}); }
  static void both(vec x, vec &value, vec &slope) {
    value = largest(x, vec{});
    slope = x > 0.0f ? splat(1) : vec{};
  }
};

struct Gelu {
  static vec value(vec x) {
    vec cumulative, density;
    normal(x, cumulative, density);
    return x * cumulative;
  }
  static void both(vec x, vec &value, vec &slope) {
    vec cumulative, density;
    normal(x, cumulative, density);
    value = x * cumulative;
    slope = cumulative + x * density;
  }
};

struct GeluNew {
  static constexpr float C = 1.5957691216f, A = 0.044715f;  // C = 2 sqrt(2 / pi)
  static vec value(vec x) { return x * sigmoid(x * (C + C * A * x * x)); }
  static void both(vec x, vec &value, vec &slope) {
    const vec s = sigmoid(x * (C + C * A * x * x));
    value = x * s;
    slope = s + value * (1.0f - s) * (C + 3 * C * A * x * x);
  }
};

struct Silu {
  static vec value(vec x) { return x * sigmoid(x); }
  static void both(vec x, vec &value, vec &slope) {
    const vec s = sigmoid(x);
    value = x * s;
    slope = s + value * (1.0f - s);
  }
};

struct Tanh {
  static vec value(vec x) { return hyperbolicTangent(x); }
  static void both(vec x, vec &value, vec &slope) {
    value = hyperbolicTangent(x);
    slope = 1.0f - value * value;
  }
};

/** body(f) with the activation of a kind, in the order of `activations` in activation.ts. */
template <class Body> int with(int32_t kind, const Body &body) {
  switch (kind) {
    case 0: body(Relu{}); return OK;
    case 1: body(Gelu{}); return OK;
    case 2: body(GeluNew{}); return OK;
    case 3: body(Silu{}); return OK;
    case 4: body(Tanh{}); return OK;
    default: return BAD_SCALAR;
  }
}

}  // namespace
