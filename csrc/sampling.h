// From logits and a uniform number to an id: src/elman/sampling.py for one row.
#pragma once

#include <cstdint>

namespace elman {

// weights (V): the logits, overwritten. order (V): room. uniform in [0, 1); temperature 0 takes the likeliest; top_k 0 and
// top_p 1 keep all. -1 where a logit is NaN.
int64_t sample(int V, double *weights, int64_t *order, double uniform, double temperature, int top_k, double top_p);

}  // namespace elman
