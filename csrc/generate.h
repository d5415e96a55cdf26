// The generation loop of one stream: step, sample, step, ...
//
// One row at a time there is nothing to share by packing: each product reads the weights once, row by row, and threads
// share the hidden units.
#pragma once

#include <cmath>

#include "gemm.h"
#include "model.h"
#include "sampling.h"

namespace {

// Four rows of W (·, K) at once against x: four sums under way for each load of x.
template <class T, int R>
inline void dot(int K, const T* W, size_t row, const T* x, T* sums) {
  Vec<T> total[R] = {};
  int k = 0;
  for (; k + kWidth<T> <= K; k += kWidth<T>) {
    const Vec<T> v = load(x + k);
    for (int r = 0; r < R; ++r) total[r] += load(W + r * row + k) * v;
  }
  if (k < K) {
    const Vec<T> v = load(x + k, K - k);
    for (int r = 0; r < R; ++r) total[r] += load(W + r * row + k, K - k) * v;
  }
  for (int r = 0; r < R; ++r) {
    T sum = 0;
    for (int i = 0; i < kWidth<T>; ++i) sum += total[r][i];
    sums[r] = sum;
  }
}

// y [first, last) = W (·, K) · x.
template <class T>
void rows_times(int first, int last, int K, const T* W, const T* x, T* y) {
  int i = first;
  for (; i + 4 <= last; i += 4) dot<T, 4>(K, W + size_t(i) * K, K, x, y + i);
  for (; i < last; ++i) dot<T, 1>(K, W + size_t(i) * K, K, x, y + i);
}

template <class T>
bool generate(const elman::Spec& spec, const elman::Generation<T>& a, T* const* parameters, elman::Scratch& scratch,
              int threads) {
  const size_t mark = scratch.mark();
  const int H = spec.hidden, G = gates_of(spec.cell), GH = G * H, V = spec.vocab, E = spec.embedding;
  const Weights<T> w(spec, parameters);
  T *gates_x = take<T>(scratch, GH), *gates_h = take<T>(scratch, GH), *gates = take<T>(scratch, GH);
  T *extra = take<T>(scratch, H), *h_new = take<T>(scratch, H), *c_new = take<T>(scratch, H), *logits = take<T>(scratch, V);
  double* weights = take<double>(scratch, V);
  int64_t* order = take<int64_t>(scratch, V);
  const int units = parts_of(H, kWidth<T>);  // whole vectors of hidden units to each thread
  const int shares = shares_of(units, 4. * GH * H, threads), output_shares = shares_of(V, 2. * V * H, threads);
  int64_t token = a.token;
  bool sound = true;
  for (int i = 0; i < a.length && sound; ++i) {
    const T* x = E ? w.E() + size_t(token) * E : nullptr;
    for (int l = 0; l < spec.layers; ++l) {
      const int I = l ? H : E;
      T *h = a.h + size_t(l) * H, *c = spec.cell == kLstm ? a.c + size_t(l) * H : nullptr;
      share_out(units, shares, [&](int, int first, int last) {
        const int j0 = first * kWidth<T>, j1 = smaller(last * kWidth<T>, H);
        for (int g = 0; g < G; ++g) {
          const int from = g * H + j0, to = g * H + j1;
          if (x)
            rows_times(from, to, I, w.W_xh(l), x, gates_x);
          else
            for (int j = from; j < to; ++j) gates_x[j] = w.W_xh(l)[size_t(j) * V + token];
          for (int j = from; j < to; ++j) gates_x[j] += w.b_h(l)[j];
          rows_times(from, to, H, w.W_hh(l), h, gates_h);
        }
      });
      if (spec.cell == kLstm)
        lstm_forward<T>(H, H, gates_x, gates_h, c, gates, c_new, extra, h_new);
      else if (spec.cell == kGru)
        gru_forward<T>(H, H, gates_x, gates_h, w.b_hn(l), h, gates, extra, h_new);
      else
        rnn_forward<T>(H, spec.cell == kRnnRelu, gates_x, gates_h, h_new);
      std::memcpy(h, h_new, H * sizeof(T));
      if (c) std::memcpy(c, c_new, H * sizeof(T));
      x = h;
    }
    share_out(V, output_shares, [&](int, int first, int last) {
      rows_times(first, last, H, w.W_hy(), x, logits);
      for (int v = first; v < last; ++v) logits[v] += w.b_y()[v];
    });
    for (int v = 0; v < V; ++v) weights[v] = logits[v];
    if (a.forbidden >= 0) weights[a.forbidden] = -INFINITY;
    token = elman::sample(V, weights, order, a.uniforms[i], a.temperature, a.top_k, a.top_p);
    sound = token >= 0;
    a.ids[i] = token;
  }
  scratch.release(mark);
  return sound;
}

}  // namespace
