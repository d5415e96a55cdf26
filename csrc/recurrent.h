// The loop over time, forward and backward.
//
// Streams do not touch each other, so each thread runs its share of them through all time steps without waiting.
// W_hh is packed once a call and shared. Every entry is summed in the same order whatever the number of threads.
#pragma once

#include <cstdlib>
#include <new>

#include "cells.h"
#include "gemm.h"
#include "kernel.h"
#include "sharing.h"

namespace {

// Memory for packed weights and buffers, aligned for vectors; freed at the end of the call.
template <class T>
class Buffer {
 public:
  explicit Buffer(size_t size) : data_(static_cast<T*>(std::aligned_alloc(64, (size * sizeof(T) + 127) / 64 * 64))) {
    if (!data_) throw std::bad_alloc();
  }
  ~Buffer() { std::free(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  T* data() const { return data_; }

 private:
  T* data_;
};

template <class T>
void recurrent_forward(const elman::RecurrentForward<T>& a, int threads) {
  const int H = a.hidden, GH = gates_of(a.cell) * H, B = a.streams;
  Buffer<T> packed(packed_size<T>(H, GH));
  pack<T>(a.W_hh, 1, H, H, GH, packed.data(), 0, panels_of<T>(GH));  // W_hhᵀ
  Buffer<T> gates_h(size_t(B) * GH);
  share_out(B, shares_of(B, 2. * a.steps * B * GH * H, threads), [&](int first, int last) {
    for (int t = 0; t < a.steps; ++t) {
      const T* h_prev = t ? a.outputs + size_t(t - 1) * B * H : a.h_first;
      const T* c_prev = t ? a.c + size_t(t - 1) * B * H : a.c_first;
      gemm<T>(last - first, GH, H, h_prev + size_t(first) * H, H, 1, packed.data(), gates_h.data() + size_t(first) * GH, GH,
              false, 0, panels_of<T>(GH));
      for (int b = first; b < last; ++b) {
        const size_t row = size_t(t) * B + b, at = row * H, at_gates = row * GH, here = size_t(b) * H;
        const T *x = a.gates_x + at_gates, *g = gates_h.data() + size_t(b) * GH;
        if (a.cell == kLstm)
          lstm_forward<T>(H, x, g, c_prev + here, a.gates + at_gates, a.c + at, a.extra + at, a.outputs + at);
        else if (a.cell == kGru)
          gru_forward<T>(H, x, g, a.b_hn, h_prev + here, a.gates + at_gates, a.extra + at, a.outputs + at);
        else
          rnn_forward<T>(H, a.cell == kRnnRelu, x, g, a.outputs + at);
      }
    }
  });
}

template <class T>
void recurrent_backward(const elman::RecurrentBackward<T>& a, int threads) {
  const int H = a.hidden, GH = gates_of(a.cell) * H, B = a.streams;
  Buffer<T> packed(packed_size<T>(GH, H));
  pack<T>(a.W_hh, H, 1, GH, H, packed.data(), 0, panels_of<T>(H));
  share_out(B, shares_of(B, 2. * a.steps * B * GH * H, threads), [&](int first, int last) {
    for (int t = a.steps - 1; t >= 0; --t) {
      const T* h_prev = t ? a.outputs + size_t(t - 1) * B * H : a.h_first;
      const T* c_prev = t ? a.c + size_t(t - 1) * B * H : a.c_first;
      for (int b = first; b < last; ++b) {
        const size_t row = size_t(t) * B + b, at = row * H, at_gates = row * GH, here = size_t(b) * H;
        T *d_h = a.d_h + here, *d_x = a.d_gates_x + at_gates;
        by_vectors<T>(H, [&](int j, auto n) {
          store(d_h + j, load(d_h + j, n) + load(a.d_outputs + at + j, n), n);
        });
        if (a.cell == kLstm)
          lstm_backward<T>(H, a.gates + at_gates, c_prev + here, a.extra + at, d_h, a.d_c + here, d_x);
        else if (a.cell == kGru)
          gru_backward<T>(H, a.gates + at_gates, a.extra + at, h_prev + here, d_h, d_x, a.d_gates_h + at_gates);
        else
          rnn_backward<T>(H, a.cell == kRnnRelu, a.outputs + at, d_h, d_x);
      }
      gemm<T>(last - first, H, GH, a.d_gates_h + (size_t(t) * B + first) * GH, GH, 1, packed.data(),
              a.d_h + size_t(first) * H, H, true, 0, panels_of<T>(H));
    }
  });
}

}  // namespace
