#include "sampling.h"

#include <algorithm>
#include <cmath>

namespace elman {

int64_t sample(int V, double *weights, int64_t *order, double uniform, double temperature, int top_k, double top_p) {
  int64_t likeliest = 0;
  for (int64_t v = 0; v < V; ++v) {
    if (std::isnan(weights[v])) return -1;
    if (weights[v] > weights[likeliest]) likeliest = v;
  }
  if (temperature == 0) return likeliest;
  const double most = weights[likeliest];
  double total = 0;
  for (int64_t v = 0; v < V; ++v) {
    weights[v] = std::exp((weights[v] - most) / temperature);
    total += weights[v];
    order[v] = v;
  }
  // A heap gives the likeliest ids one after the other, of equals the lower one first; few are needed as a rule.
  const auto less = [weights](int64_t a, int64_t b) {
    return weights[a] != weights[b] ? weights[a] < weights[b] : a > b;
  };
  std::make_heap(order, order + V, less);
  const int kept_at_most = top_k > 0 ? std::min(top_k, V) : V;
  int kept = 0;
  const auto next = [&] {
    std::pop_heap(order, order + V - kept, less);
    ++kept;
    return order[V - kept];
  };
  double sum = 0;
  if (kept_at_most < V || top_p < 1) {
    // What is kept must be known before one of it is drawn: top_p is a share of what top_k leaves.
    if (kept_at_most < V) {
      total = 0;
      while (kept < kept_at_most) total += weights[next()];
    }
    int last = 0;
    for (; sum < top_p * total && last < kept_at_most; ++last) sum += weights[last < kept ? order[V - 1 - last] : next()];
    total = sum;
    kept = last;
    sum = 0;
    for (int i = 0; i < kept; ++i) {
      sum += weights[order[V - 1 - i]];
      if (sum > uniform * total) return order[V - 1 - i];
    }
    return order[V - kept];
  }
  for (;;) {
    const int64_t v = next();
    sum += weights[v];
    if (sum > uniform * total || kept == V) return v;
  }
}

}  // namespace elman
