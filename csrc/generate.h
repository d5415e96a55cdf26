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

// Where the packed weights of a model stand in one block of memory. Gates are in the order of hidden units: those of one
// block of kPanel units side by side, then those of the next, in `width` columns.
template <class T>
class PackedWeights {
 public:
  PackedWeights(const elman::Spec& spec, T* memory) : spec_(spec), memory_(memory) {}

  int gates() const { return gates_of(spec_.cell); }
  int blocks() const { return panels_of<T>(spec_.hidden); }
  size_t width() const { return size_t(blocks()) * gates() * kPanel<T>; }
  // W_xhᵀ (I, G·H) in panels; for one-hot input a row of gates for each symbol, the bias in it.
  T* W_xh(int layer) const { return memory_ + (layer ? first_input() + (2 * layer - 1) * square() : 0); }
  T* W_hh(int layer) const { return memory_ + first_input() + 2 * layer * square(); }
  T* W_hy() const { return memory_ + first_input() + (2 * spec_.layers - 1) * square(); }
  T* b_h(int layer) const { return W_hy() + packed_size<T>(spec_.hidden, spec_.vocab) + layer * width(); }
  size_t size() const { return b_h(spec_.layers) - memory_; }

 private:
  size_t square() const { return spec_.hidden * width(); }
  size_t first_input() const { return (spec_.embedding ? spec_.embedding : spec_.vocab) * width(); }

  const elman::Spec& spec_;
  T* memory_;
};

template <class T>
size_t packed_weights_size(const elman::Spec& spec) {
  return PackedWeights<T>(spec, nullptr).size();
}

// Rows of gates in the order of PackedWeights, blocks [first, last), from W (G·H, K): a row for each of its columns.
template <class T>
void rows_of_gates(const T* W, int K, int H, int G, T* rows, size_t width, int first, int last) {
  constexpr int P = kPanel<T>;
  for (int i = first * G; i < last * G; ++i) {
    const int j = i / G * P;
    transpose(W + size_t(i % G * H + j) * K, K, smaller(P, H - j), K, rows + i * P, width);
  }
}

template <class T>
void pack_weights(const elman::Spec& spec, T* const* parameters, T* memory, int threads) {
  const int H = spec.hidden, V = spec.vocab, E = spec.embedding;
  const PackedWeights<T> to(spec, memory);
  const Weights<T> w(spec, parameters);
  const int G = to.gates(), blocks = to.blocks();
  share_out(blocks, shares_of(blocks, kWorkOfAWeight * to.size(), threads), [&](int, int first, int last) {
    const int begin = first * G * kPanel<T>, columns = (last - first) * G * kPanel<T>;
    for (int l = 0; l < spec.layers; ++l) {
      rows_of_gates(w.b_h(l), 1, H, G, to.b_h(l), to.width(), first, last);
      pack_gates(w.W_hh(l), H, H, G, to.W_hh(l), first, last);
      if (l || E) {
        pack_gates(w.W_xh(l), l ? H : E, H, G, to.W_xh(l), first, last);
      } else {
        rows_of_gates(w.W_xh(0), V, H, G, to.W_xh(0), to.width(), first, last);
        add_to_rows(V, columns, to.b_h(0) + begin, to.W_xh(0) + begin, to.width());
      }
    }
  });
  pack_shared(View<T>{w.W_hy(), H, 1}.transposed(), H, V, to.W_hy(), shares_of(V, kWorkOfAWeight * V * H, threads));
}

// The id that a uniform number draws by logits (V), -1 where the largest is not finite. weights, order (V): room.
template <class T>
int64_t draw_id(int V, const T* logits, double uniform, const elman::Generation<T>& a, double* weights, int64_t* order) {
  for (int v = 0; v < V; ++v) weights[v] = logits[v];
  if (a.forbidden >= 0) weights[a.forbidden] = -INFINITY;
  const int64_t likeliest = elman::likeliest(V, weights);
  if (likeliest < 0 || a.temperature == 0) return likeliest;
  const double most = weights[likeliest];
  by_vectors<double>(V, [&](int v, auto count) {
    const Vec<double> x = (load(weights + v, count) - most) / a.temperature;
    store(weights + v, x < ExpOf<double>::least ? Vec<double>{} : exp<double>(x), count);
  });
  return elman::draw(V, weights, order, uniform, a.top_k, a.top_p);
}

// Each thread keeps its hidden units for the whole call, and all draw the same id: they meet once a layer, and once more
// where they share the output layer.
template <class T>
bool generate(const elman::Spec& spec, const elman::Generation<T>& a, T* const* parameters, T* packed,
              elman::Scratch& scratch, int threads) {
  constexpr int P = kPanel<T>;
  const size_t mark = scratch.mark();
  const int H = spec.hidden, V = spec.vocab, E = spec.embedding, LH = spec.layers * H;
  const Weights<T> w(spec, parameters);
  const PackedWeights<T> ready(spec, packed);
  const int G = ready.gates(), blocks = ready.blocks(), at_once = parts_of(4, G), panels = panels_of<T>(V);
  const size_t width = ready.width();
  const int shares = shares_of(blocks, kWorkOfAWeight * width * H, threads);
  const bool output_shared = shares_of(panels, kWorkOfAWeight * V * H, threads) > 1;
  T *all_gates_x = take<T>(scratch, width), *all_gates_h = take<T>(scratch, width), *gates = take<T>(scratch, width);
  T *extra = take<T>(scratch, H), *all_logits = take<T>(scratch, size_t(shares) * V);
  T* h[] = {a.h, take<T>(scratch, LH)};  // before and after every other token
  double* weights = take<double>(scratch, size_t(shares) * V);
  int64_t* order = take<int64_t>(scratch, size_t(shares) * V);
  bool sound = true;
  run_shares(shares, [&](Share share) {
    const int first = share.first(blocks), last = share.last(blocks), parts = parts_of(last - first, at_once);
    const int first_panel = output_shared ? share.first(panels) : 0, last_panel = output_shared ? share.last(panels) : panels;
    T* logits = output_shared ? all_logits : all_logits + size_t(share.index) * V;
    int64_t token = a.token;
    for (int n = 0; n < a.length; ++n) {
      const T* x = E ? w.E() + size_t(token) * E : nullptr;
      for (int l = 0; l < spec.layers; ++l) {
        const int I = l ? H : E;
        const T* h_prev = h[n % 2] + size_t(l) * H;
        T *h_now = h[(n + 1) % 2] + size_t(l) * H, *c = a.c ? a.c + size_t(l) * H : nullptr;
        for (int i = 0; i < parts; ++i) {
          // There and back: the weights that the last token read last are still in the cache.
          const int from = first + (n % 2 ? parts - 1 - i : i) * at_once, to = smaller(from + at_once, last);
          const int begin = from * G * P, columns = (to - from) * G * P;
          const T* gates_x = ready.W_xh(0) + size_t(token) * width;
          if (x) {
            gemm<T>(1, columns, I, View<T>{x, I, 1}, packed_panels<T>(ready.W_xh(l), I).from(0, from * G),
                    ready.b_h(l) + begin, all_gates_x + begin, columns, false, nullptr);
            gates_x = all_gates_x;
          }
          gemm<T>(1, columns, H, View<T>{h_prev, H, 1}, packed_panels<T>(ready.W_hh(l), H).from(0, from * G), nullptr,
                  all_gates_h + begin, columns, false, nullptr);
          for (int block = from; block < to; ++block) {
            const int j = block * P, units = smaller(P, H - j), at = j * G;
            const T* gates_h = all_gates_h + at;
            if (spec.cell == kLstm)
              lstm_forward<T>(units, P, gates_x + at, gates_h, c + j, gates + at, c + j, extra + j, h_now + j);
            else if (spec.cell == kGru)
              gru_forward<T>(units, P, gates_x + at, gates_h, w.b_hn(l) + j, h_prev + j, gates + at, extra + j, h_now + j);
            else
              rnn_forward<T>(units, spec.cell == kRnnRelu, gates_x + at, gates_h, h_now + j);
          }
        }
        share.meet();
        x = h_now;
      }
      const int v = first_panel * P, columns = smaller(last_panel * P, V) - v;
      std::memcpy(logits + v, w.b_y() + v, columns * sizeof(T));
      gemm<T>(1, columns, H, View<T>{x, H, 1}, packed_panels<T>(ready.W_hy(), H).from(0, first_panel), nullptr, logits + v, V,
              true, nullptr);
      if (output_shared) share.meet();
      token = draw_id(V, logits, a.uniforms[n], a, weights + size_t(share.index) * V, order + size_t(share.index) * V);
      if (share.index == 0) {
        a.ids[n] = token;
        sound = token >= 0;
      }
      if (token < 0) return;
    }
  });
  std::memcpy(a.h, h[a.length % 2], LH * sizeof(T));
  scratch.release(mark);
  return sound;
}

}  // namespace
