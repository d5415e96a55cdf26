// From scores to an id: src/elman/sampling.py for one row.
#pragma once

#include <cstdint>

namespace elman {

// The id of the largest of V scores, of equals the lowest; -1 where that is not finite or one is NaN.
int64_t likeliest(int V, const double *scores);

// The id that a uniform number in [0, 1) draws, by weights (V) 0 or more: of all ids, or of the top_k likeliest (0: all) and
// then of the fewest of those that reach a share of top_p (1: all). Leaves sums in weights. order (V): room.
int64_t draw(int V, double *weights, int64_t *order, double uniform, int top_k, double top_p);

}  // namespace elman
