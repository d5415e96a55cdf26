// Forward and backward of a whole language model over one window, in the order of models/language_model.py.
//
// It composes the functions that the layers call. What differs is memory: nothing is allocated after the first call, and
// the gates of a layer hold in turn its input part, its activations and their gradients.
#pragma once

#include "model.h"
#include "output.h"
#include "recurrent.h"
#include "rows.h"

namespace {

// x (T, B, H) of a layer times the masks that its uniforms draw: 1 / keep where they are below keep, else 0.
template <class T>
void drop(const elman::Window<T>& window, int layer, int H, const T* x, T* dropped, int threads) {
  const float keep = float(1 - window.dropout);
  const T scale = T(1) / T(1 - window.dropout);
  const size_t BH = size_t(window.streams) * H;
  const float* own = window.uniforms + layer * window.masks * BH;
  share_out(window.steps, shares_of(window.steps, 4. * window.steps * BH, threads), [&](int, int first, int last) {
    for (int t = first; t < last; ++t) {
      const float* uniforms = window.masks > 1 ? own + t * BH : own;
      for (size_t i = 0; i < BH; ++i) dropped[t * BH + i] = uniforms[i] < keep ? x[t * BH + i] * scale : T(0);
    }
  });
}

// rows (N, E) of the embedding, in their place: 1 / keep times those whose uniform number is below keep, 0 the others.
template <class T>
void drop_rows(const elman::Window<T>& window, int N, int E, T* rows, int threads) {
  const float keep = float(1 - window.embedding_dropout);
  const T scale = T(1) / T(1 - window.embedding_dropout);
  share_out(N, shares_of(N, 2. * N * E, threads), [&](int, int first, int last) {
    for (int i = first; i < last; ++i) {
      const bool kept = window.embedding_uniforms[i] < keep;
      for (size_t j = size_t(i) * E; j < size_t(i + 1) * E; ++j) rows[j] = kept ? rows[j] * scale : T(0);
    }
  });
}

// d_hidden (N, H) += slope times hidden, where a target is scored.
template <class T>
void regularize(int N, int H, double slope, const T* hidden, const int64_t* targets, T* d_hidden, int threads) {
  share_out(N, shares_of(N, 2. * N * H, threads), [&](int, int first, int last) {
    for (int i = first; i < last; ++i)
      if (targets[i] >= 0)
        for (size_t j = size_t(i) * H; j < size_t(i + 1) * H; ++j) d_hidden[j] += T(slope) * hidden[j];
  });
}

template <class T>
struct SavedLayer {
  const T* x;      // (N, I); null for ids
  T* hidden;       // (T + 1, B, H): the state before the first step, then the outputs
  T *gates, *c, *extra;
};

// d_W_xh (G·H, V) and d_b_h (G·H) of d_gates (N, G·H).
template <class T>
void one_hot_backward(int N, int V, int GH, const T* d_gates, const int64_t* ids, T* d_W_xh, T* d_b_h,
                      elman::Scratch& scratch, int threads) {
  const size_t mark = scratch.mark();
  if (N >= V) {
    T* table = take<T>(scratch, size_t(V) * GH);
    std::memset(table, 0, size_t(V) * GH * sizeof(T));
    scatter_add_rows(N, GH, d_gates, ids, table, threads);
    transpose(table, GH, V, GH, d_W_xh, V);
    sum_rows(V, GH, table, GH, d_b_h, threads);
  } else {
    std::memset(d_W_xh, 0, size_t(V) * GH * sizeof(T));
    for (int i = 0; i < N; ++i)
      for (int j = 0; j < GH; ++j) d_W_xh[size_t(j) * V + ids[i]] += d_gates[size_t(i) * GH + j];
    sum_rows(N, GH, d_gates, GH, d_b_h, threads);
  }
  scratch.release(mark);
}

// Products take their operands as Entry.
template <class T, class Entry = T>
double loss_and_gradients(const elman::Spec& spec, const elman::Window<T>& window, T* const* parameters, T* const* gradients,
                          elman::Scratch& scratch, int threads) {
  const size_t mark = scratch.mark();
  const int H = spec.hidden, G = gates_of(spec.cell), GH = G * H, V = spec.vocab, E = spec.embedding;
  const int B = window.streams, steps = window.steps, N = steps * B;
  const size_t BH = size_t(B) * H, NH = size_t(N) * H;
  const bool lstm = spec.cell == kLstm, gru = spec.cell == kGru;
  const Weights<T> w(spec, parameters), d(spec, gradients);

  SavedLayer<T>* layers = take<SavedLayer<T>>(scratch, spec.layers);
  T* embedded = nullptr;
  if (E) {
    embedded = take<T>(scratch, size_t(N) * E);
    gather_rows(N, E, View<T>{w.E(), E, 1}, window.inputs, embedded, threads);
    if (window.embedding_uniforms) drop_rows(window, N, E, embedded, threads);
  }
  const T* x = embedded;
  T* start = take<T>(scratch, size_t(panels_of<Entry>(GH)) * kPanel<Entry>);
  T* table = !E && N >= V ? take<T>(scratch, size_t(V) * GH) : nullptr;
  for (int l = 0; l < spec.layers; ++l) {
    SavedLayer<T>& layer = layers[l];
    layer.x = x;
    layer.hidden = take<T>(scratch, BH + NH);
    layer.gates = take<T>(scratch, size_t(N) * GH);
    layer.c = lstm ? take<T>(scratch, NH) : nullptr;
    layer.extra = lstm || gru ? take<T>(scratch, NH) : nullptr;
    T* outputs = layer.hidden + BH;
    std::memcpy(layer.hidden, window.h_first + l * BH, BH * sizeof(T));
    const T* gates_x = layer.gates;
    const int64_t* ids = nullptr;
    if (x) {
      const int I = l ? H : E;
      std::memset(start, 0, size_t(panels_of<Entry>(GH)) * kPanel<Entry> * sizeof(T));
      std::memcpy(start, w.b_h(l), GH * sizeof(T));
      product<T, Entry>(N, GH, I, View<T>{x, I, 1}, View<T>{w.W_xh(l), I, 1}.transposed(), start, layer.gates, GH, false, threads,
                 scratch);
    } else if (N >= V) {  // rows of a table that the loop reads as it needs them
      transpose(w.W_xh(l), V, GH, V, table, GH);
      add_to_rows(V, GH, w.b_h(l), table, GH);
      gates_x = table;
      ids = window.inputs;
    } else {
      gather_rows(N, GH, View<T>{w.W_xh(l), 1, V}, window.inputs, layer.gates, threads);
      add_to_rows(N, GH, w.b_h(l), layer.gates, GH);
    }
    const T* c_first = lstm ? window.c_first + l * BH : nullptr;
    recurrent_forward<T, Entry>({spec.cell, steps, B, H, gates_x, w.W_hh(l), w.b_hn(l), layer.hidden, c_first, outputs, layer.gates,
                          layer.c, layer.extra, ids, nullptr},
                         scratch, threads);
    std::memcpy(window.h_last + l * BH, outputs + NH - BH, BH * sizeof(T));
    if (lstm) std::memcpy(window.c_last + l * BH, layer.c + NH - BH, BH * sizeof(T));
    x = outputs;
    if (window.uniforms) {
      T* dropped = take<T>(scratch, NH);
      drop(window, l, H, outputs, dropped, threads);
      x = dropped;
    }
  }

  T* losses = take<T>(scratch, N);
  T* d_x = take<T>(scratch, size_t(N) * larger(H, E));
  output<T, Entry>({N, H, V, w.W_hy(), w.b_y(), x, window.targets, T(window.scale), losses, d_x, d.W_hy(), d.b_y()}, scratch,
                   threads);
  if (window.activation_regularization > 0)
    regularize(N, H, 2 * window.activation_regularization * window.scale / H, x, window.targets, d_x, threads);
  double loss = 0;
  for (int i = 0; i < N; ++i) loss += losses[i];

  T *d_h = take<T>(scratch, BH), *d_c = take<T>(scratch, BH);
  T* d_gates_h_of_gru = gru ? take<T>(scratch, size_t(N) * GH) : nullptr;
  for (int l = spec.layers - 1; l >= 0; --l) {
    const SavedLayer<T>& layer = layers[l];
    T *d_gates = layer.gates, *d_gates_h = gru ? d_gates_h_of_gru : d_gates;
    if (window.uniforms) drop(window, l, H, d_x, d_x, threads);
    std::memset(d_h, 0, BH * sizeof(T));
    std::memset(d_c, 0, BH * sizeof(T));
    const T* c_first = lstm ? window.c_first + l * BH : nullptr;
    recurrent_backward<T, Entry>({spec.cell, steps, B, H, w.W_hh(l), layer.hidden, c_first, layer.hidden + BH, layer.gates, layer.c,
                           layer.extra, d_x, d_h, d_c, d_gates, d_gates_h, nullptr},
                          scratch, threads);
    product<T, Entry>(GH, H, N, View<T>{d_gates_h, GH, 1}.transposed(), View<T>{layer.hidden, H, 1}, nullptr, d.W_hh(l), H, false,
               threads, scratch);
    if (gru) sum_rows(N, H, d_gates_h + 2 * H, GH, d.b_hn(l), threads);
    if (layer.x) {
      const int I = l ? H : E;
      sum_rows(N, GH, d_gates, GH, d.b_h(l), threads);
      product<T, Entry>(GH, I, N, View<T>{d_gates, GH, 1}.transposed(), View<T>{layer.x, I, 1}, nullptr, d.W_xh(l), I, false, threads,
                 scratch);
      product<T, Entry>(N, I, GH, View<T>{d_gates, GH, 1}, View<T>{w.W_xh(l), I, 1}, nullptr, d_x, I, false, threads, scratch);
    } else {
      one_hot_backward(N, V, GH, d_gates, window.inputs, d.W_xh(l), d.b_h(l), scratch, threads);
    }
  }
  if (E) {
    if (window.embedding_uniforms) drop_rows(window, N, E, d_x, threads);
    if (!spec.tied) std::memset(d.E(), 0, size_t(V) * E * sizeof(T));  // else it holds the output's part
    scatter_add_rows(N, E, d_x, window.inputs, d.E(), threads);
  }
  scratch.release(mark);
  return loss;
}

}  // namespace
