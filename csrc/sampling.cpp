#include "sampling.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace elman {
namespace {

// Sets all weights to 0 but those of the likeliest ids: `most` of them, or fewer whose sum reaches `enough`. A heap gives
// them one after the other, and they stand at the end of `order`; as a rule few are kept.
void keep_likeliest(int V, double *weights, int64_t *order, int most, double enough) {
  const auto less = [weights](int64_t a, int64_t b) {
    return weights[a] != weights[b] ? weights[a] < weights[b] : a > b;
  };
  std::iota(order, order + V, 0);
  std::make_heap(order, order + V, less);
  int left = V;
  for (double sum = 0; V - left < most && sum < enough; sum += weights[order[left]]) std::pop_heap(order, order + left--, less);
  for (int i = 0; i < left; ++i) weights[order[i]] = 0;
}

}  // namespace

int64_t likeliest(int V, const double *scores) {
  int64_t best = 0;
  for (int64_t v = 0; v < V; ++v) {
    if (std::isnan(scores[v])) return -1;
    if (scores[v] > scores[best]) best = v;
  }
  return std::isfinite(scores[best]) ? best : -1;
}

int64_t draw(int V, double *weights, int64_t *order, double uniform, int top_k, double top_p) {
  if (top_k > 0 && top_k < V) keep_likeliest(V, weights, order, top_k, INFINITY);
  if (top_p < 1) keep_likeliest(V, weights, order, V, top_p * std::accumulate(weights, weights + V, 0.0));
  std::partial_sum(weights, weights + V, weights);
  return std::upper_bound(weights, weights + V, uniform * weights[V - 1]) - weights;
}

}  // namespace elman
