// The loop over time, forward and backward.
//
// Streams do not touch each other, so where there are enough of them each thread runs its share through all time steps
// without waiting. Where they are few, threads share the hidden units instead and meet after every time step. Every entry
// is summed in the same order either way.
#pragma once

#include "cells.h"
#include "gemm.h"
#include "kernel.h"

namespace {

// Wᵀ of a weight (G·H, K) in panels, those of the gates of kPanel hidden units side by side: blocks [first, last) of units.
template <class T>
void pack_gates(const T* W, int K, int H, int G, T* packed, int first, int last) {
  constexpr int P = kPanel<T>;
  for (int i = first * G; i < last * G; ++i)
    pack(View<T>{W, K, 1}.transposed().from(0, i % G * H + i / G * P), K, smaller(P, H - i / G * P),
         packed + size_t(i) * K * P, 0, 1);
}

// Gate g of the units from a block on, in what pack_gates packed.
template <class T>
Panels<T> gate_panels(const T* packed, int K, int G, int block, int g) {
  const ptrdiff_t panel = ptrdiff_t(K) * kPanel<T>;
  return {packed + (block * G + g) * panel, kPanel<T>, G * panel};
}

// How a layer's streams and blocks of kPanel hidden units are shared out.
template <class T>
struct Sharing {
  int streams, blocks, shares;
  bool by_units;

  Sharing(int steps, int B, int GH, int H, int threads) : streams(B), blocks(panels_of<T>(H)) {
    const double work = 2. * steps * B * GH * H;
    by_units = B < threads * kRows;
    // Threads that meet every step need work for every step.
    shares = by_units ? shares_of(blocks, work / steps, threads) : shares_of(B, work, threads);
    by_units = by_units && shares > 1;
  }

  // Calls step(t, first stream, last, first block, last) for every time step of every share, forward or backward.
  template <class F>
  void run(int first_t, int last_t, F step) const {
    const int by = first_t <= last_t ? 1 : -1;
    if (by_units)
      run_shares(shares, [&](Share share) {
        for (int t = first_t; t != last_t + by; t += by, share.meet())
          step(t, 0, streams, share.first(blocks), share.last(blocks));
      });
    else
      share_out(streams, shares, [&](int, int first, int last) {
        for (int t = first_t; t != last_t + by; t += by) step(t, first, last, 0, blocks);
      });
  }
};

template <class T>
void recurrent_forward(const elman::RecurrentForward<T>& a, elman::Scratch& scratch, int threads) {
  constexpr int P = kPanel<T>;
  const size_t mark = scratch.mark();
  const int H = a.hidden, G = gates_of(a.cell), GH = G * H, B = a.streams;
  const Sharing<T> sharing(a.steps, B, GH, H, threads);
  T* packed = take<T>(scratch, sharing.by_units ? size_t(sharing.blocks) * G * H * P : packed_size<T>(H, GH));
  if (sharing.by_units)
    share_out(sharing.blocks, sharing.shares,
              [&](int, int first, int last) { pack_gates(a.W_hh, H, H, G, packed, first, last); });
  else
    pack_shared<T>(View<T>{a.W_hh, H, 1}.transposed(), H, GH, packed, sharing.shares);
  T* all_gates_h = take<T>(scratch, size_t(B) * GH);
  sharing.run(0, a.steps - 1, [&](int t, int first, int last, int first_block, int last_block) {
    const T* h_prev = t ? a.outputs + size_t(t - 1) * B * H : a.h_first;
    const T* c_prev = t ? a.c + size_t(t - 1) * B * H : a.c_first;
    const int j = first_block * P, units = smaller(last_block * P, H) - j;
    const View<T> rows = View<T>{h_prev, H, 1}.from(first, 0);
    T* own_gates_h = all_gates_h + size_t(first) * GH;
    if (sharing.by_units)
      for (int g = 0; g < G; ++g)
        gemm<T>(last - first, units, H, rows, gate_panels(packed, H, G, first_block, g), nullptr,
                own_gates_h + g * H + j, GH, false, nullptr);
    else
      gemm<T>(last - first, GH, H, rows, packed_panels<T>(packed, H), nullptr, own_gates_h, GH, false, nullptr);
    for (int b = first; b < last; ++b) {
      const size_t row = size_t(t) * B + b, at = row * H + j, at_gates = row * GH + j, here = size_t(b) * H + j;
      if (a.lengths && t >= a.lengths[b]) {
        std::memset(a.outputs + at, 0, units * sizeof(T));
        continue;
      }
      const T* x = a.gates_x + (a.ids ? size_t(a.ids[row]) : row) * GH + j;
      const T* gates_h = all_gates_h + size_t(b) * GH + j;
      if (a.cell == kLstm)
        lstm_forward<T>(units, H, x, gates_h, c_prev + here, a.gates + at_gates, a.c + at, a.extra + at, a.outputs + at);
      else if (a.cell == kGru)
        gru_forward<T>(units, H, x, gates_h, a.b_hn + j, h_prev + here, a.gates + at_gates, a.extra + at, a.outputs + at);
      else
        rnn_forward<T>(units, a.cell == kRnnRelu, x, gates_h, a.outputs + at);
    }
  });
  scratch.release(mark);
}

template <class T>
void recurrent_backward(const elman::RecurrentBackward<T>& a, elman::Scratch& scratch, int threads) {
  constexpr int P = kPanel<T>;
  const size_t mark = scratch.mark();
  const int H = a.hidden, GH = gates_of(a.cell) * H, B = a.streams;
  const Sharing<T> sharing(a.steps, B, GH, H, threads);
  T* packed = take<T>(scratch, packed_size<T>(GH, H));
  pack_shared<T>(View<T>{a.W_hh, H, 1}, GH, H, packed, sharing.shares);
  const Panels<T> W_hh = packed_panels<T>(packed, GH);
  // Step t takes in what step t + 1 sends back through W_hh, then goes through its own cell; step -1 only takes in.
  sharing.run(a.steps - 1, -1, [&](int t, int first, int last, int first_block, int last_block) {
    const int j = first_block * P, units = smaller(last_block * P, H) - j;
    if (t + 1 < a.steps)
      gemm<T>(last - first, units, GH, View<T>{a.d_gates_h + size_t(t + 1) * B * GH, GH, 1}.from(first, 0),
              W_hh.from(0, first_block), nullptr, a.d_h + size_t(first) * H + j, H, true, nullptr);
    if (t < 0) return;
    const T* h_prev = t ? a.outputs + size_t(t - 1) * B * H : a.h_first;
    const T* c_prev = t ? a.c + size_t(t - 1) * B * H : a.c_first;
    for (int b = first; b < last; ++b) {
      const size_t row = size_t(t) * B + b, at = row * H + j, at_gates = row * GH + j, here = size_t(b) * H + j;
      if (a.lengths && t >= a.lengths[b]) {
        for (int g = 0; g < GH; g += H) {
          std::memset(a.d_gates_x + at_gates + g, 0, units * sizeof(T));
          std::memset(a.d_gates_h + at_gates + g, 0, units * sizeof(T));
        }
        continue;
      }
      T *d_h = a.d_h + here, *d_x = a.d_gates_x + at_gates;
      const T* d_outputs = a.d_outputs + at;
      if (a.cell == kLstm)
        lstm_backward<T>(units, H, a.gates + at_gates, c_prev + here, a.extra + at, d_outputs, d_h, a.d_c + here, d_x);
      else if (a.cell == kGru)
        gru_backward<T>(units, H, a.gates + at_gates, a.extra + at, h_prev + here, d_outputs, d_h, d_x,
                        a.d_gates_h + at_gates);
      else
        rnn_backward<T>(units, a.cell == kRnnRelu, a.outputs + at, d_outputs, d_h, d_x);
    }
  });
  scratch.release(mark);
}

}  // namespace
