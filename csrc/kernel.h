// The native functions and their arguments: what one instruction set's build of kernel.cpp offers to the bindings.
//
// All arrays are C-contiguous unless strides are given. T time steps, B streams, N = T·B, I inputs, H hidden units,
// G gates, V symbols, L layers.
#pragma once

#include <cstddef>
#include <cstdint>

#include "scratch.h"

namespace elman {

enum CellKind { kRnn = 0, kRnnRelu = 1, kGru = 2, kLstm = 3 };

static constexpr int gates_of(int cell) { return cell == kLstm ? 4 : cell == kGru ? 3 : 1; }

template <class T>
struct RecurrentForward {
  int cell, steps, streams, hidden;
  const T *gates_x;     // (T, B, G·H); with ids a table (V, G·H), whose rows they name
  const T *W_hh;        // (G·H, H)
  const T *b_hn;        // (H), GRU only
  const T *h_first;     // (B, H)
  const T *c_first;     // (B, H), LSTM only
  T *outputs;           // (T, B, H)
  T *gates;             // (T, B, G·H) after their activations; LSTM and GRU only; may be gates_x
  T *c;                 // (T, B, H), LSTM only
  T *extra;             // (T, B, H): tanh(c) of an LSTM, h_n of a GRU
  const int64_t *ids;   // (T, B) of one-hot input, or null
  const int64_t *lengths;  // (B): after so many steps a stream is over, its outputs 0; null: all have T
};

template <class T>
struct RecurrentBackward {
  int cell, steps, streams, hidden;
  const T *W_hh, *h_first, *c_first, *outputs, *gates, *c, *extra;  // as above, what forward left
  const T *d_outputs;        // (T, B, H)
  T *d_h, *d_c;              // (B, H): of the state after the last step, then of the state before the first
  T *d_gates_x, *d_gates_h;  // (T, B, G·H); one array unless the cell is a GRU; d_gates_x may be gates
  const int64_t *lengths;    // as above; d_h and d_c come in after the last step of each stream
};

// Softmax cross-entropy of the logits rows · W_hyᵀ + b_y, and the gradients of `scale` times the summed losses.
template <class T>
struct Output {
  int count, hidden, vocab;
  const T *W_hy, *b_y;      // (V, H), (V)
  const T *rows;            // (N, H)
  const int64_t *targets;   // (N), -1 not scored
  T scale;
  T *losses;                // (N) in nats, 0 where not scored
  T *d_rows, *d_W_hy, *d_b_y;  // all null: losses only
};

// A language model's sizes; its arrays come in the order of models/language_model.py's parameter_shapes.
struct Spec {
  int cell, vocab, embedding, hidden, layers;  // embedding 0: one-hot input
  bool tied;
};

// Forward and backward over one window (T, B).
template <class T>
struct Window {
  int steps, streams;
  const int64_t *inputs, *targets;
  const float *uniforms;      // (L, masks, B, H) in [0, 1), or null without dropout
  int masks;                  // T, or 1: the same at every step
  double dropout;
  const float *embedding_uniforms;  // (N) in [0, 1), or null without embedding dropout
  double embedding_dropout;
  double scale;               // of the summed losses
  double activation_regularization;  // times `scale`: of the mean squares of the outputs that predict
  const T *h_first, *c_first;  // (L, B, H); c: LSTM only
  T *h_last, *c_last;
};

enum OptimizerKind { kSgd = 0, kAdagrad = 1, kRmsProp = 2, kAdam = 3, kAdamW = 4 };

// One step of src/elman/optimizers.py over all arrays, gradients clipped on the way.
struct Update {
  int kind;
  double learning_rate, momentum, beta1, beta2, epsilon, weight_decay;  // RMSProp's decay is beta2
  double steps;        // this one included
  double scale;        // gradients are multiplied by it,
  double clip_value;   // then cut to [-clip_value, clip_value], where it is above 0
};

template <class T>
struct Arrays {
  int count;
  const size_t *sizes;
  T *const *parameters, *const *gradients, *const *first, *const *second;  // slots; those an optimiser lacks are null
};

// The continuation of one stream.
template <class T>
struct Generation {
  int length;
  int64_t token;             // read first
  T *h, *c;                  // (L, H), changed in place; c: LSTM only
  const double *uniforms;    // (length)
  double temperature, top_p;
  int top_k;
  int64_t forbidden;         // never drawn; -1: none
  int64_t *ids;              // (length)
};

template <class T>
struct Functions {
  void (*recurrent_forward)(const RecurrentForward<T> &, Scratch &, int threads);
  void (*recurrent_backward)(const RecurrentBackward<T> &, Scratch &, int threads);
  // C (M, N) = A (M, K) · B (K, N), A and B with strides of rows and columns; one of B's is 1.
  void (*product)(int M, int N, int K, const T *A, ptrdiff_t a_row, ptrdiff_t a_column, const T *B, ptrdiff_t b_row,
                  ptrdiff_t b_column, T *C, Scratch &, int threads);
  void (*output)(const Output<T> &, Scratch &, int threads);
  // rows (N, C) = table (V, C; any strides)[ids].
  void (*gather_rows)(int N, int C, const T *table, ptrdiff_t row_stride, ptrdiff_t column_stride, const int64_t *ids,
                      T *rows, int threads);
  // table (V, C)[ids] += d_rows (N, C).
  void (*scatter_add_rows)(int N, int C, const T *d_rows, const int64_t *ids, T *table, int threads);
  // -> the summed losses in nats.
  double (*loss_and_gradients)(const Spec &, const Window<T> &, T *const *parameters, T *const *gradients, Scratch &,
                               int threads);
  double (*global_norm)(const Arrays<T> &, Scratch &, int threads);
  void (*update)(const Update &, const Arrays<T> &, int threads);
  // How many entries the packed weights of a model have, and packing them: once for all calls of generate.
  size_t (*packed_weights_size)(const Spec &);
  void (*pack_weights)(const Spec &, T *const *parameters, T *packed, int threads);
  // False where the largest logit is not finite.
  bool (*generate)(const Spec &, const Generation<T> &, T *const *parameters, T *packed, Scratch &, int threads);
  // Operations a second of multiply-and-add on registers alone, all threads at once.
  double (*fma_peak)(int threads);
};

struct Kernel {
  Functions<float> of_float;
  Functions<double> of_double;
};

// Training in float32 with the operands of products rounded to bfloat16. Rows or columns of A must be contiguous, too.
struct Bf16Functions {
  decltype(Functions<float>::product) product;
  decltype(Functions<float>::loss_and_gradients) loss_and_gradients;
};

#if defined(ELMAN_BF16)
extern const Bf16Functions bf16_functions;
#endif

#if defined(__x86_64__)
extern const Kernel kernel_v2, kernel_v3, kernel_v4;
#else
extern const Kernel kernel_base;
#endif

}  // namespace elman
