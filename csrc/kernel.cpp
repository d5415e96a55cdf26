// Everything that computes, compiled once for each instruction set (ELMAN_KERNEL names the result).
#include "kernel.h"

#include "recurrent.h"
#include "rows.h"
#include "softmax.h"

namespace {

template <class T>
constexpr elman::Functions<T> kFunctions = {
    recurrent_forward<T>,      recurrent_backward<T>, cross_entropy_forward<T>,
    cross_entropy_backward<T>, gather_rows<T>,        scatter_add_rows<T>,
};

}  // namespace

namespace elman {

extern const Kernel ELMAN_KERNEL;
constinit const Kernel ELMAN_KERNEL = {kFunctions<float>, kFunctions<double>};

}  // namespace elman
