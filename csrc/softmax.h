// Softmax and cross-entropy, a row at a time.
#pragma once

#include <cmath>

#include "cells.h"
#include "sharing.h"

namespace {

template <class T>
void cross_entropy_forward(int N, int V, const T* logits, const int64_t* targets, T* losses, T* probabilities, int threads) {
  share_out(N, shares_of(N, 30. * N * V, threads), [&](int first, int last) {
    for (int row = first; row < last; ++row) {
      const T* y = logits + size_t(row) * V;
      T *p = probabilities + size_t(row) * V, most = y[0];
      for (int v = 1; v < V; ++v) most = y[v] > most ? y[v] : most;
      Vec<T> sums{};
      T rest = 0;
      by_vectors<T>(V, [&](int v, auto n) {
        const Vec<T> e = exp<T>(load(y + v, n) - most);
        store(p + v, e, n);
        if (n == kWidth<T>)
          sums += e;
        else
          for (int i = 0; i < n; ++i) rest += e[i];
      });
      T total = rest;
      for (int i = 0; i < kWidth<T>; ++i) total += sums[i];
      const T scale = 1 / total;
      by_vectors<T>(V, [&](int v, auto n) { store(p + v, load(p + v, n) * scale, n); });
      losses[row] = targets[row] < 0 ? T(0) : T(std::log(double(total))) - (y[targets[row]] - most);
    }
  });
}

// d_logits (N, V) = scale · (probabilities - one_hot(target)), rows that are not scored 0.
template <class T>
void cross_entropy_backward(int N, int V, const T* probabilities, const int64_t* targets, T scale, T* d_logits, int threads) {
  share_out(N, shares_of(N, 4. * N * V, threads), [&](int first, int last) {
    for (int row = first; row < last; ++row) {
      const T* p = probabilities + size_t(row) * V;
      T* d = d_logits + size_t(row) * V;
      const T factor = targets[row] < 0 ? T(0) : scale;
      by_vectors<T>(V, [&](int v, auto n) { store(d + v, load(p + v, n) * factor, n); });
      if (targets[row] >= 0) d[targets[row]] = (p[targets[row]] - 1) * scale;
    }
  });
}

}  // namespace
