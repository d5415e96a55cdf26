// The native functions and their arguments: what one instruction set's build of kernel.cpp offers to the bindings.
//
// All arrays are C-contiguous. T time steps, B streams, H hidden units, G gates, V rows of a table.
#pragma once

#include <cstddef>
#include <cstdint>

namespace elman {

template <class T>
struct RecurrentForward {
  int cell, steps, streams, hidden;
  const T *gates_x;     // (T, B, G·H)
  const T *W_hh;        // (G·H, H)
  const T *b_hn;        // (H), GRU only
  const T *h_first;     // (B, H)
  const T *c_first;     // (B, H), LSTM only
  T *outputs;           // (T, B, H)
  T *gates;             // (T, B, G·H) after their activations; LSTM and GRU only
  T *c;                 // (T, B, H), LSTM only
  T *extra;             // (T, B, H): tanh(c) of an LSTM, h_n of a GRU
};

template <class T>
struct RecurrentBackward {
  int cell, steps, streams, hidden;
  const T *W_hh, *h_first, *c_first, *outputs, *gates, *c, *extra;  // as above, what forward left
  const T *d_outputs;        // (T, B, H)
  T *d_h, *d_c;              // (B, H): of the state after the last step, then of the state before the first
  T *d_gates_x, *d_gates_h;  // (T, B, G·H); one array unless the cell is a GRU
};

template <class T>
struct Functions {
  void (*recurrent_forward)(const RecurrentForward<T> &, int threads);
  void (*recurrent_backward)(const RecurrentBackward<T> &, int threads);
  // losses (N) in nats, probabilities (N, V) of logits (N, V) and targets (N), -1 not scored.
  void (*cross_entropy_forward)(int N, int V, const T *logits, const int64_t *targets, T *losses, T *probabilities,
                                int threads);
  // d_logits (N, V) = scale · (probabilities - one_hot(target)), 0 where not scored.
  void (*cross_entropy_backward)(int N, int V, const T *probabilities, const int64_t *targets, T scale, T *d_logits,
                                 int threads);
  // rows (N, C) = table (V, C; any strides)[ids].
  void (*gather_rows)(int N, int C, const T *table, ptrdiff_t row_stride, ptrdiff_t column_stride, const int64_t *ids,
                      T *rows, int threads);
  // table (V, C)[ids] += d_rows (N, C).
  void (*scatter_add_rows)(int N, int C, const T *d_rows, const int64_t *ids, T *table, int threads);
};

struct Kernel {
  Functions<float> of_float;
  Functions<double> of_double;
};

#if defined(__x86_64__)
extern const Kernel kernel_v2, kernel_v3, kernel_v4;
#else
extern const Kernel kernel_base;
#endif

}  // namespace elman
