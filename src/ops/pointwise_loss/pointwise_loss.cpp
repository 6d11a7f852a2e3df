// pointwise_loss, CPU. Contracts and formulas: pointwise_loss.ts in this folder. Heads' outputs are few: one thread.
#include "kernel.h"

KERNEL(pointwise_loss_forward)(const T *prediction, const float *target, const float *weights, float *loss, int64_t N,
                               int32_t kind) {
  double sum = 0;
  for (int64_t i = 0; i < N; i++) {
    const float x = prediction[i], t = target[i];
    // log(1 + e^x) without overflow
    const float one = kind == 0 ? (x - t) * (x - t) : (x > 0 ? x : 0) + log1pf(expf(-fabsf(x))) - t * x;
    sum += weights ? weights[i] * one : one;
  }
  *loss = float(sum / N);
  return OK;
}

KERNEL(pointwise_loss_backward)(const float *dloss, const T *prediction, const float *target, const float *weights,
                                T *dprediction, int64_t N, int32_t kind) {
  const float factor = *dloss / N;
  for (int64_t i = 0; i < N; i++) {
    const float x = prediction[i], t = target[i];
    const float share = weights ? factor * weights[i] : factor;
    dprediction[i] = T(share * (kind == 0 ? 2 * (x - t) : 1 / (1 + expf(-x)) - t));
  }
  return OK;
}
