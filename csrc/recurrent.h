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
template <class T, class E>
void pack_gates(const T* W, int K, int H, int G, E* packed, int first, int last) {
  constexpr int P = kPanel<E>;
  for (int i = first * G; i < last * G; ++i)
    pack(View<T>{W, K, 1}.transposed().from(0, i % G * H + i / G * P), K, smaller(P, H - i / G * P),
         packed + i * packed_size<E>(K, P), 0, 1);
}

// Gate g of the units from a block on, in what pack_gates packed.
template <class E>
Panels<E> gate_panels(const E* packed, int K, int G, int block, int g) {
  const ptrdiff_t panel = packed_size<E>(K, kPanel<E>);
  return {packed + (block * G + g) * panel, kPanel<E>, G * panel};
}

// How a layer's streams and blocks of kPanel hidden units are shared out.
template <class E>
struct Sharing {
  int streams, blocks, shares;
  bool by_units;

  Sharing(int steps, int B, int GH, int H, int threads) : streams(B), blocks(panels_of<E>(H)) {
    const double work = 2. * steps * B * GH * H;
    by_units = B < threads * kRows<E>;
    // Threads that meet every step need work for every step.
    shares = by_units ? shares_of(blocks, work / steps, threads) : shares_of(groups(), work, threads);
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
      share_out(groups(), shares, [&](int, int first, int last) {
        first *= kTogether<E>, last = smaller(last * kTogether<E>, streams);
        for (int t = first_t; t != last_t + by; t += by) step(t, first, last, 0, blocks);
      });
  }

 private:
  int groups() const { return parts_of(streams, kTogether<E>); }
};

template <class T, class E = T>
void recurrent_forward(const elman::RecurrentForward<T>& a, elman::Scratch& scratch, int threads) {
  constexpr int P = kPanel<E>;
  const size_t mark = scratch.mark();
  const int H = a.hidden, G = gates_of(a.cell), GH = G * H, B = a.streams;
  const Sharing<E> sharing(a.steps, B, GH, H, threads);
  E* packed = take<E>(scratch, sharing.by_units ? sharing.blocks * G * packed_size<E>(H, P) : packed_size<E>(H, GH));
  if (sharing.by_units)
    share_out(sharing.blocks, sharing.shares,
              [&](int, int first, int last) { pack_gates(a.W_hh, H, H, G, packed, first, last); });
  else
    pack_shared(View<T>{a.W_hh, H, 1}.transposed(), H, GH, packed, sharing.shares);
  T* all_gates_h = take<T>(scratch, size_t(B) * GH);
  const StepRows<T, E> h(scratch, B, 1, H);
  h.keep(-1, a.h_first, 0, B, 0, H);
  sharing.run(0, a.steps - 1, [&](int t, int first, int last, int first_block, int last_block) {
    const T* h_prev = t ? a.outputs + size_t(t - 1) * B * H : a.h_first;
    const T* c_prev = t ? a.c + size_t(t - 1) * B * H : a.c_first;
    const int j = first_block * P, units = smaller(last_block * P, H) - j;
    const auto rows = h.of(t - 1, h_prev, first);
    T* own_gates_h = all_gates_h + size_t(first) * GH;
    if (sharing.by_units)
      for (int g = 0; g < G; ++g)
        gemm<T>(last - first, units, H, rows, gate_panels(packed, H, G, first_block, g), nullptr,
                own_gates_h + g * H + j, GH, false);
    else
      gemm<T>(last - first, GH, H, rows, packed_panels<E>(packed, H), nullptr, own_gates_h, GH, false);
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
    h.keep(t, a.outputs + size_t(t) * B * H, first, last, j, units);
  });
  scratch.release(mark);
}

template <class T, class E = T>
void recurrent_backward(const elman::RecurrentBackward<T>& a, elman::Scratch& scratch, int threads) {
  constexpr int P = kPanel<E>;
  const size_t mark = scratch.mark();
  const int H = a.hidden, G = gates_of(a.cell), GH = G * H, B = a.streams;
  const int depth = G * packed_depth<E>(H);
  const Sharing<E> sharing(a.steps, B, GH, H, threads);
  E* packed = take<E>(scratch, packed_size<E>(depth, H));
  const Panels<E> W_hh = packed_panels<E>(packed, depth);
  share_out(sharing.blocks, smaller(sharing.shares, sharing.blocks), [&](int, int first, int last) {
    for (int i = first * G; i < last * G; ++i)  // a panel of units after the other, in it a gate after the other
      pack(View<T>{a.W_hh, H, 1}.from(i % G * H, i / G * P), H, smaller(P, H - i / G * P),
           packed + i * packed_size<E>(H, P), 0, 1);
  });
  const StepRows<T, E> d_gates(scratch, B, G, H);
  // Step t takes in what step t + 1 sends back through W_hh, then goes through its own cell; step -1 only takes in.
  sharing.run(a.steps - 1, -1, [&](int t, int first, int last, int first_block, int last_block) {
    const int j = first_block * P, units = smaller(last_block * P, H) - j;
    if (t + 1 < a.steps)
      gemm<T>(last - first, units, depth, d_gates.of(t + 1, a.d_gates_h + size_t(t + 1) * B * GH, first),
              W_hh.from(0, first_block), nullptr, a.d_h + size_t(first) * H + j, H, true);
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
    d_gates.keep(t, a.d_gates_h + size_t(t) * B * GH, first, last, j, units);
  });
  scratch.release(mark);
}

}  // namespace
