// Clipping and the five optimisers of src/elman/optimizers.py, each in one pass over parameters, gradients and slots.
#pragma once

#include <cmath>

#include "activations.h"
#include "kernel.h"
#include "sharing.h"

namespace {

constexpr size_t kPiece = 1 << 14;  // entries that a thread takes at a time

// Calls f(piece, array, first, last) for pieces of all arrays, the same pieces whatever the number of threads.
template <class T, class F>
void by_pieces(const elman::Arrays<T>& arrays, double work, int threads, F f) {
  size_t total = 0;
  for (int i = 0; i < arrays.count; ++i) total += (arrays.sizes[i] + kPiece - 1) / kPiece;
  share_out(int(total), shares_of(int(total), work, threads), [&](int, int first, int last) {
    int piece = 0;
    for (int i = 0; i < arrays.count; ++i)
      for (size_t at = 0; at < arrays.sizes[i]; at += kPiece, ++piece)
        if (piece >= first && piece < last) f(piece, i, at, at + kPiece < arrays.sizes[i] ? at + kPiece : arrays.sizes[i]);
  });
}

template <class T>
size_t entries_of(const elman::Arrays<T>& arrays) {
  size_t sum = 0;
  for (int i = 0; i < arrays.count; ++i) sum += arrays.sizes[i];
  return sum;
}

// The norm where the square of a (double) entry overflows, though the entry is finite.
template <class T>
double largest_first_norm(const elman::Arrays<T>& arrays) {
  double largest = 0, sum = 0;
  for (int i = 0; i < arrays.count; ++i)
    for (size_t j = 0; j < arrays.sizes[i]; ++j) largest = std::fmax(largest, std::fabs(double(arrays.gradients[i][j])));
  for (int i = 0; i < arrays.count && std::isfinite(largest); ++i)
    for (size_t j = 0; j < arrays.sizes[i]; ++j) sum += std::pow(arrays.gradients[i][j] / largest, 2);
  return std::isfinite(largest) ? largest * std::sqrt(sum) : largest;
}

// Square root of the sum of all squared gradients, in double; infinite or NaN where an entry is.
template <class T>
double global_norm(const elman::Arrays<T>& arrays, elman::Scratch& scratch, int threads) {
  const size_t mark = scratch.mark(), entries = entries_of(arrays);
  const size_t pieces = entries / kPiece + arrays.count;
  double* sums = take<double>(scratch, pieces);
  for (size_t i = 0; i < pieces; ++i) sums[i] = 0;
  by_pieces(arrays, 4. * entries, threads, [&](int piece, int array, size_t first, size_t last) {
    constexpr int S = 16;
    double squares[S] = {};
    const T* g = arrays.gradients[array];
    size_t i = first;
    for (; i + S <= last; i += S)
      for (int j = 0; j < S; ++j) squares[j] += double(g[i + j]) * double(g[i + j]);
    for (; i < last; ++i) squares[0] += double(g[i]) * double(g[i]);
    for (int j = 0; j < S; ++j) sums[piece] += squares[j];
  });
  double sum = 0;
  for (size_t i = 0; i < pieces; ++i) sum += sums[i];
  scratch.release(mark);
  return std::isinf(sum) ? largest_first_norm(arrays) : std::sqrt(sum);
}

template <class T>
inline Vec<T> square_root(Vec<T> x) {
  for (int i = 0; i < kWidth<T>; ++i) x[i] = std::sqrt(x[i]);
  return x;
}

// The equations of src/elman/optimizers.py on one vector: parameter w, gradient g, slots m and v (sgd: m is its velocity).
template <class T>
struct Rule {
  const elman::Update& u;
  T learning_rate = T(u.learning_rate), momentum = T(u.momentum), beta1 = T(u.beta1), beta2 = T(u.beta2),
    epsilon = T(u.epsilon), rest1 = T(1 - u.beta1), rest2 = T(1 - u.beta2), scale = T(u.scale), clip = T(u.clip_value);
  T keep = T(1 - u.learning_rate * u.weight_decay);
  T step = T(u.learning_rate / (1 - std::pow(u.beta1, u.steps))), v_scale = T(1 / (1 - std::pow(u.beta2, u.steps)));

  template <int kind, class N>
  void apply(T* w_at, const T* g_at, T* m_at, T* v_at, N n) const {
    Vec<T> w = load(w_at, n), g = load(g_at, n) * scale, m = load(m_at, n);
    if (clip > 0) g = clamp<T>(g, -clip, clip);
    if constexpr (kind == elman::kSgd) {
      m = m * momentum + g;
      w -= m * learning_rate;
    } else if constexpr (kind == elman::kAdagrad) {
      m += g * g;
      const Vec<T> root = square_root<T>(m + epsilon);
      w -= learning_rate * g / (root == T(0) ? broadcast(T(1)) : root);
    } else if constexpr (kind == elman::kRmsProp) {
      m = m * beta2 + rest2 * (g * g);
      w -= learning_rate * g / (square_root<T>(m) + epsilon);
    } else {
      Vec<T> v = load(v_at, n);
      if constexpr (kind == elman::kAdamW) w *= keep;
      m = m * beta1 + rest1 * g;
      v = v * beta2 + rest2 * (g * g);
      w -= step * m / (square_root<T>(v * v_scale) + epsilon);
      store(v_at, v, n);
    }
    store(m_at, m, n);
    store(w_at, w, n);
  }
};

template <class T, int kind>
void update_all(const elman::Update& u, const elman::Arrays<T>& arrays, int threads) {
  const Rule<T> rule{u};
  by_pieces(arrays, 30. * entries_of(arrays), threads, [&](int, int i, size_t first, size_t last) {
    T *w = arrays.parameters[i] + first, *m = arrays.first[i] + first;
    T* v = arrays.second[i] ? arrays.second[i] + first : nullptr;
    const T* g = arrays.gradients[i] + first;
    by_vectors<T>(int(last - first), [&](int j, auto n) { rule.template apply<kind>(w + j, g + j, m + j, v ? v + j : v, n); });
  });
}

template <class T>
void update(const elman::Update& u, const elman::Arrays<T>& arrays, int threads) {
  switch (u.kind) {
    case elman::kSgd: return update_all<T, elman::kSgd>(u, arrays, threads);
    case elman::kAdagrad: return update_all<T, elman::kAdagrad>(u, arrays, threads);
    case elman::kRmsProp: return update_all<T, elman::kRmsProp>(u, arrays, threads);
    case elman::kAdam: return update_all<T, elman::kAdam>(u, arrays, threads);
    default: return update_all<T, elman::kAdamW>(u, arrays, threads);
  }
}

}  // namespace
