// The generation loop of one stream: step, sample, step, ...
//
// One row against all weights is as fast as the weights come: they are packed once for all calls, each thread keeps the
// panels of its hidden units in its own cache, and threads meet once a layer.
#pragma once

#include <cmath>

#include "model.h"
#include "recurrent.h"
#include "rows.h"
#include "sampling.h"

namespace {

// Where the packed weights of a model stand in one block of memory. The panels of the gates of kPanel hidden units lie side
// by side.
template <class T>
class PackedWeights {
 public:
  PackedWeights(const elman::Spec& spec, T* memory) : spec_(spec), memory_(memory) {}

  int gates() const { return gates_of(spec_.cell); }
  int blocks() const { return panels_of<T>(spec_.hidden); }
  // W_xhᵀ (I, G·H) in panels; for one-hot input a row of G·H for each symbol, the bias in it.
  T* W_xh(int layer) const { return memory_ + (layer ? first_input() + (2 * layer - 1) * square() : 0); }
  T* W_hh(int layer) const { return memory_ + first_input() + 2 * layer * square(); }
  T* W_hy() const { return memory_ + first_input() + (2 * spec_.layers - 1) * square(); }
  size_t size() const { return first_input() + (2 * spec_.layers - 1) * square() + packed_size<T>(spec_.hidden, spec_.vocab); }

 private:
  size_t width() const { return size_t(blocks()) * gates() * kPanel<T>; }
  size_t square() const { return spec_.hidden * width(); }
  size_t first_input() const { return (spec_.embedding ? spec_.embedding : spec_.vocab) * width(); }

  const elman::Spec& spec_;
  T* memory_;
};

template <class T>
size_t packed_weights_size(const elman::Spec& spec) {
  return PackedWeights<T>(spec, nullptr).size();
}

template <class T>
void pack_weights(const elman::Spec& spec, T* const* parameters, T* memory) {
  const int H = spec.hidden, V = spec.vocab, E = spec.embedding;
  const PackedWeights<T> to(spec, memory);
  const Weights<T> w(spec, parameters);
  const int G = to.gates(), GH = G * H;
  for (int l = 0; l < spec.layers; ++l) {
    if (l || E) {
      pack_gates(w.W_xh(l), l ? H : E, H, G, to.W_xh(l), 0, to.blocks());
    } else {
      transpose(w.W_xh(0), V, GH, V, to.W_xh(0), GH);
      add_to_rows(V, GH, w.b_h(0), to.W_xh(0));
    }
    pack_gates(w.W_hh(l), H, H, G, to.W_hh(l), 0, to.blocks());
  }
  pack(View<T>{w.W_hy(), H, 1}.transposed(), H, V, to.W_hy(), 0, panels_of<T>(V));
}

template <class T>
bool generate(const elman::Spec& spec, const elman::Generation<T>& a, T* const* parameters, T* packed,
              elman::Scratch& scratch, int threads) {
  constexpr int P = kPanel<T>;
  const size_t mark = scratch.mark();
  const int H = spec.hidden, V = spec.vocab, E = spec.embedding;
  const bool lstm = spec.cell == kLstm;
  const Weights<T> w(spec, parameters);
  const PackedWeights<T> ready(spec, packed);
  const int G = ready.gates(), GH = G * H, blocks = ready.blocks();
  T *gates_x = take<T>(scratch, GH), *gates_h = take<T>(scratch, GH), *gates = take<T>(scratch, GH);
  T *extra = take<T>(scratch, H), *new_h = take<T>(scratch, size_t(spec.layers) * H), *logits = take<T>(scratch, V);
  double* weights = take<double>(scratch, V);
  int64_t* order = take<int64_t>(scratch, V);
  const int shares = shares_of(blocks, kWorkOfAWeight * GH * H, threads);
  const int output_shares = shares_of(panels_of<T>(V), kWorkOfAWeight * V * H, threads);
  int64_t token = a.token;
  bool sound = true;
  for (int n = 0; n < a.length && sound; ++n) {
    const T* x = E ? w.E() + size_t(token) * E : nullptr;
    for (int l = 0; l < spec.layers; ++l) {
      const int I = l ? H : E;
      T *h = a.h + size_t(l) * H, *h_now = new_h + size_t(l) * H, *c = lstm ? a.c + size_t(l) * H : nullptr;
      share_out(blocks, shares, [&](int, int first, int last) {
        const int j = first * P, units = smaller(last * P, H) - j;
        for (int g = 0; g < G; ++g) {
          const int at = g * H + j;
          std::memcpy(gates_x + at, x ? w.b_h(l) + at : ready.W_xh(0) + size_t(token) * GH + at, units * sizeof(T));
          if (x)
            gemm<T>(1, units, I, View<T>{x, I, 1}, gate_panels(ready.W_xh(l), I, G, first, g), nullptr, gates_x + at, GH, true,
                    nullptr);
          gemm<T>(1, units, H, View<T>{h, H, 1}, gate_panels(ready.W_hh(l), H, G, first, g), nullptr, gates_h + at, GH, false,
                  nullptr);
        }
        if (lstm)
          lstm_forward<T>(units, H, gates_x + j, gates_h + j, c + j, gates + j, c + j, extra + j, h_now + j);
        else if (spec.cell == kGru)
          gru_forward<T>(units, H, gates_x + j, gates_h + j, w.b_hn(l) + j, h + j, gates + j, extra + j, h_now + j);
        else
          rnn_forward<T>(units, spec.cell == kRnnRelu, gates_x + j, gates_h + j, h_now + j);
      });
      x = h_now;
    }
    std::memcpy(a.h, new_h, size_t(spec.layers) * H * sizeof(T));
    share_out(panels_of<T>(V), output_shares, [&](int, int first, int last) {
      const int v = first * P, columns = smaller(last * P, V) - v;
      std::memcpy(logits + v, w.b_y() + v, columns * sizeof(T));
      gemm<T>(1, columns, H, View<T>{x, H, 1}, packed_panels<T>(ready.W_hy(), H).from(0, first), nullptr, logits + v, V, true,
              nullptr);
    });
    for (int v = 0; v < V; ++v) weights[v] = logits[v];
    if (a.forbidden >= 0) weights[a.forbidden] = -INFINITY;
    token = elman::likeliest(V, weights);
    sound = token >= 0;
    if (sound && a.temperature > 0) {
      const double most = weights[token];
      by_vectors<double>(V, [&](int v, auto count) {
        const Vec<double> x = (load(weights + v, count) - most) / a.temperature;
        store(weights + v, x < ExpOf<double>::least ? Vec<double>{} : exp<double>(x), count);
      });
      token = elman::draw(V, weights, order, a.uniforms[n], a.top_k, a.top_p);
    }
    a.ids[n] = token;
  }
  scratch.release(mark);
  return sound;
}

}  // namespace
