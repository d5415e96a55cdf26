#include "sampling.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace elman {

int64_t likeliest(int V, const double *scores) {
  int64_t best = 0;
  for (int64_t v = 0; v < V; ++v) {
    if (std::isnan(scores[v])) return -1;
    if (scores[v] > scores[best]) best = v;
  }
  return best;
}

int64_t draw(int V, const double *weights, int64_t *order, double uniform, int top_k, double top_p) {
  // A heap gives the likeliest ids one after the other; as a rule few are needed.
  const auto less = [weights](int64_t a, int64_t b) {
    return weights[a] != weights[b] ? weights[a] < weights[b] : a > b;
  };
  std::iota(order, order + V, 0);
  std::make_heap(order, order + V, less);
  int taken = 0;
  const auto take = [&] {  // the next likeliest, which then stands at order[V - taken]
    std::pop_heap(order, order + V - taken, less);
    return order[V - ++taken];
  };

  int kept = top_k > 0 ? std::min(top_k, V) : V;
  double total = 0;
  if (kept < V)
    while (taken < kept) total += weights[take()];
  else
    for (int v = 0; v < V; ++v) total += weights[v];
  if (top_p < 1) {
    double sum = 0;
    int i = 0;
    for (; i < kept && sum < top_p * total; ++i) sum += weights[i < taken ? order[V - 1 - i] : take()];
    kept = i;
    total = sum;
  }
  double sum = 0;
  for (int i = 0;; ++i) {
    const int64_t v = i < taken ? order[V - 1 - i] : take();
    sum += weights[v];
    if (sum > uniform * total || i + 1 == kept) return v;
  }
}

}  // namespace elman
