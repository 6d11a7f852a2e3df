// pointwise_loss, CUDA. Contracts and formulas: pointwise_loss.ts in this folder. Heads' outputs are few: one block.
#include "kernel.cuh"

KERNEL pointwise_loss_forward(const T *prediction, const float *target, const float *weights, float *loss, i64 N,
                              int kind) {
  double sum = 0;
  for (i64 i = threadIdx.x; i < N; i += blockDim.x) {
    const float x = float(prediction[i]), t = target[i];
    // log(1 + e^x) without overflow
    const float one = kind == 0 ? (x - t) * (x - t) : (x > 0 ? x : 0) + log1pf(expf(-fabsf(x))) - t * x;
    sum += weights ? weights[i] * one : one;
  }
  sum = acrossBlock<Sum>(sum);
  if (threadIdx.x == 0) *loss = float(sum / N);
}

KERNEL pointwise_loss_backward(const float *dloss, const T *prediction, const float *target, const float *weights,
                               T *dprediction, i64 N, int kind) {
  const float factor = *dloss / N;
  forElements(N, aligned(prediction, target, dprediction), [=](i64 i, auto n) {
    float x[n.value], t[n.value];
    load(prediction + i, x);
    load(target + i, t);
    for (int k = 0; k < n.value; k++) {
      const float share = weights ? factor * weights[i + k] : factor;
      x[k] = share * (kind == 0 ? 2 * (x[k] - t[k]) : sigmoid(x[k]) - t[k]);
    }
    store(dprediction + i, x);
  });
}
