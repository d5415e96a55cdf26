// What Python sees: the functions of kernel.h for float32 and float64, the interpreter's lock released.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <optional>
#include <string>

#include "kernel.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

template <class T>
using Array = nb::ndarray<T, nb::c_contig, nb::device::cpu>;
template <class T>
using Maybe = std::optional<Array<T>>;

const elman::Kernel *chosen = nullptr;

template <class T>
const elman::Functions<T> &functions() {
  if constexpr (std::is_same_v<T, float>)
    return chosen->of_float;
  else
    return chosen->of_double;
}

template <class T>
auto data(Maybe<T> &array) {
  return array ? array->data() : nullptr;
}

template <class T>
void bind(nb::module_ &m) {
  m.def("recurrent_forward",
        [](int cell, Array<const T> gates_x, Array<const T> W_hh, Maybe<const T> b_hn, Array<const T> h_first,
           Maybe<const T> c_first, Array<T> outputs, Maybe<T> gates, Maybe<T> c, Maybe<T> extra, int threads) {
          const elman::RecurrentForward<T> arguments{
              cell, int(outputs.shape(0)), int(outputs.shape(1)), int(outputs.shape(2)), gates_x.data(), W_hh.data(),
              data(b_hn), h_first.data(), data(c_first), outputs.data(), data(gates), data(c), data(extra)};
          nb::gil_scoped_release release;
          functions<T>().recurrent_forward(arguments, threads);
        },
        "cell"_a, "gates_x"_a, "W_hh"_a, "b_hn"_a.none(), "h_first"_a, "c_first"_a.none(), "outputs"_a, "gates"_a.none(),
        "c"_a.none(), "extra"_a.none(), "threads"_a);
  m.def("recurrent_backward",
        [](int cell, Array<const T> W_hh, Array<const T> h_first, Maybe<const T> c_first, Array<const T> outputs,
           Maybe<const T> gates, Maybe<const T> c, Maybe<const T> extra, Array<const T> d_outputs, Array<T> d_h, Maybe<T> d_c,
           Array<T> d_gates_x, Array<T> d_gates_h, int threads) {
          const elman::RecurrentBackward<T> arguments{
              cell, int(outputs.shape(0)), int(outputs.shape(1)), int(outputs.shape(2)), W_hh.data(), h_first.data(),
              data(c_first), outputs.data(), data(gates), data(c), data(extra), d_outputs.data(), d_h.data(), data(d_c),
              d_gates_x.data(), d_gates_h.data()};
          nb::gil_scoped_release release;
          functions<T>().recurrent_backward(arguments, threads);
        },
        "cell"_a, "W_hh"_a, "h_first"_a, "c_first"_a.none(), "outputs"_a, "gates"_a.none(), "c"_a.none(), "extra"_a.none(),
        "d_outputs"_a, "d_h"_a, "d_c"_a.none(), "d_gates_x"_a, "d_gates_h"_a, "threads"_a);
  m.def("cross_entropy_forward",
        [](Array<const T> logits, Array<const int64_t> targets, Array<T> losses, Array<T> probabilities, int threads) {
          nb::gil_scoped_release release;
          functions<T>().cross_entropy_forward(int(logits.shape(0)), int(logits.shape(1)), logits.data(), targets.data(),
                                               losses.data(), probabilities.data(), threads);
        },
        "logits"_a, "targets"_a, "losses"_a, "probabilities"_a, "threads"_a);
  m.def("cross_entropy_backward",
        [](Array<const T> probabilities, Array<const int64_t> targets, double scale, Array<T> d_logits, int threads) {
          nb::gil_scoped_release release;
          functions<T>().cross_entropy_backward(int(probabilities.shape(0)), int(probabilities.shape(1)),
                                                probabilities.data(), targets.data(), T(scale), d_logits.data(), threads);
        },
        "probabilities"_a, "targets"_a, "scale"_a, "d_logits"_a, "threads"_a);
  m.def("gather_rows",
        [](nb::ndarray<const T, nb::ndim<2>, nb::device::cpu> table, Array<const int64_t> ids, Array<T> rows, int threads) {
          nb::gil_scoped_release release;
          functions<T>().gather_rows(int(ids.size()), int(table.shape(1)), table.data(), table.stride(0), table.stride(1),
                                     ids.data(), rows.data(), threads);
        },
        "table"_a, "ids"_a, "rows"_a, "threads"_a);
  m.def("scatter_add_rows",
        [](Array<const T> d_rows, Array<const int64_t> ids, Array<T> table, int threads) {
          nb::gil_scoped_release release;
          functions<T>().scatter_add_rows(int(ids.size()), int(table.shape(1)), d_rows.data(), ids.data(), table.data(),
                                          threads);
        },
        "d_rows"_a, "ids"_a, "table"_a, "threads"_a);
}

// The instruction sets that this processor has, the best one first.
nb::list supported() {
  nb::list names;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd"))
    names.append("x86-64-v4");
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2"))
    names.append("x86-64-v3");
  names.append("x86-64-v2");
#else
  names.append("base");
#endif
  return names;
}

void use(const std::string &isa) {
#if defined(__x86_64__)
  chosen = isa == "x86-64-v4" ? &elman::kernel_v4 : isa == "x86-64-v3" ? &elman::kernel_v3 : &elman::kernel_v2;
#else
  chosen = &elman::kernel_base;
#endif
}

}  // namespace

NB_MODULE(_native, m) {
  m.def("supported", supported, "The instruction sets that this processor has, the best one first.");
  m.def("use", use, "isa"_a, "Compute with the build for this instruction set.");
  bind<float>(m);
  bind<double>(m);
}
