// The output layer: logits, softmax and cross-entropy, and their gradients, a group of rows at a time, so that the logits
// of a large vocabulary never stand whole in memory.
//
// Logits are kept transposed, a row a symbol: softmax then runs down the columns with no sum across a vector, a vocabulary
// that is no multiple of the vector wastes nothing, and W_hy is read where it is.
#pragma once

#include <cmath>

#include "activations.h"
#include "gemm.h"
#include "kernel.h"

namespace {

constexpr int kLogits = 1 << 22;    // entries of logits in memory at a time
constexpr int kPanelsAtOnce = 8;    // columns of them that a thread takes from logits to gradients at a time

// Softmax and cross-entropy of one panel of columns: logits (V) of each without their bias -> scale times
// (probability - one_hot(target)), and the losses. Columns from `count` on are not scored.
template <class T>
void cross_entropy(int V, const T* b_y, const int64_t* targets, int count, T scale, T* logits, ptrdiff_t row, T* losses) {
  constexpr int W = kWidth<T>;
  for (int j = 0; j < kPanel<T>; j += W) {
    T* y = logits + j;
    Vec<T> most = load(y) + b_y[0], total{}, factor{}, at_target{};
    for (int v = 1; v < V; ++v) {
      const Vec<T> x = load(y + v * row) + b_y[v];
      most = x > most ? x : most;
    }
    for (int i = 0; i < W && j + i < count; ++i)
      if (const int64_t target = targets[j + i]; target >= 0) {
        factor[i] = scale;
        at_target[i] = y[target * row + i] + b_y[target] - most[i];
      }
    for (int v = 0; v < V; ++v) {
      const Vec<T> e = exp<T>(load(y + v * row) + b_y[v] - most);
      store(y + v * row, e);
      total += e;
    }
    const Vec<T> weight = factor / total;
    for (int v = 0; v < V; ++v) store(y + v * row, load(y + v * row) * weight);
    for (int i = 0; i < W && j + i < count; ++i) {
      const int64_t target = targets[j + i];
      losses[j + i] = target < 0 ? T(0) : T(std::log(double(total[i]))) - at_target[i];
      if (target >= 0) y[target * row + i] -= scale;
    }
  }
}

template <class T, class E = T>
void output(const elman::Output<T>& a, elman::Scratch& scratch, int threads) {
  constexpr int P = kPanel<E>;
  const size_t mark = scratch.mark();
  const int N = a.count, H = a.hidden, V = a.vocab;
  const int groups = parts_of(N, larger(P, kLogits / V / P * P));
  const int panels = panels_of<E>(parts_of(N, groups)), columns = smaller(panels, kPanelsAtOnce) * P;
  const ptrdiff_t stride = ptrdiff_t(panels) * P + kWidth<T>;  // no power of two, whose rows would share few cache sets
  const int shares = shares_of(panels, 6. * N / groups * H * V, threads);
  T* logits = take<T>(scratch, size_t(V) * stride);
  E* packed_W = a.d_rows ? take<E>(scratch, packed_size<E>(V, H)) : nullptr;
  if (a.d_rows) pack_shared(View<T>{a.W_hy, H, 1}, V, H, packed_W, shares);
  const size_t room = packed_size<E>(H, columns) + kStrip<E>;
  E* own = take<E>(scratch, shares * room);
  for (int group = 0; group < groups; ++group) {
    const int first_row = part(N, groups, group), here = part(N, groups, group + 1) - first_row;
    const T* rows_here = a.rows + size_t(first_row) * H;
    share_out(panels_of<E>(here), shares, [&](int share, int first_panel, int last_panel) {
      E *packed = own + share * room, *strip = packed + packed_size<E>(H, columns);
      for (int panel = first_panel; panel < last_panel; panel += kPanelsAtOnce) {
        const int n0 = panel * P, width = smaller(kPanelsAtOnce, last_panel - panel) * P, count = smaller(width, here - n0);
        pack(View<T>{rows_here + size_t(n0) * H, H, 1}.transposed(), H, count, packed, 0, width / P);
        gemm<T>(V, width, H, View<T>{a.W_hy, H, 1}, packed_panels<E>(packed, H), nullptr, logits + n0, stride, false, strip);
        for (int n = 0; n < width; n += kPanel<T>)
          cross_entropy(V, a.b_y, a.targets + first_row + n0 + n, count - n, a.scale, logits + n0 + n, stride,
                        a.losses + first_row + n0 + n);
        if (a.d_rows)
          gemm<T>(count, H, V, View<T>{logits + n0, stride, 1}.transposed(), packed_panels<E>(packed_W, V), nullptr,
                  a.d_rows + size_t(first_row + n0) * H, H, false, strip);
      }
    });
    if (!a.d_rows) continue;
    product<T, E>(V, H, here, View<T>{logits, stride, 1}, View<T>{rows_here, H, 1}, nullptr, a.d_W_hy, H, group > 0, threads,
               scratch);
    for (int v = 0; v < V; ++v) {
      Vec<T> sums{};
      const T* d = logits + v * stride;
      for (int n = 0; n < panels_of<E>(here) * P; n += kWidth<T>) sums += load(d + n);
      T sum = 0;
      for (int i = 0; i < kWidth<T>; ++i) sum += sums[i];
      a.d_b_y[v] = group > 0 ? a.d_b_y[v] + sum : sum;
    }
  }
  scratch.release(mark);
}

}  // namespace
