// What Python sees: the functions of kernel.h for float32 and float64, the interpreter's lock released.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cmath>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kernel.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

template <class T>
using Array = nb::ndarray<T, nb::c_contig, nb::device::cpu>;
template <class T>
using Matrix = nb::ndarray<T, nb::ndim<2>, nb::device::cpu>;  // of any strides
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

// Arguments that must be arrays of the right type as they are: a converted copy of a result would be lost, and float64
// would end in the functions for float32.
auto array(const char *name) { return nb::arg(name).noconvert(); }
auto maybe(const char *name) { return nb::arg(name).noconvert().none(); }

template <class T>
auto data(Maybe<T> &array) {
  return array ? array->data() : nullptr;
}

template <class T>
std::vector<T *> pointers(const std::vector<Array<T>> &arrays) {
  std::vector<T *> result;
  for (const Array<T> &array : arrays) result.push_back(array.data());
  return result;
}

void check_ids(const int64_t *ids, size_t count, int64_t least, int64_t end) {
  for (size_t i = 0; i < count; ++i)
    if (ids[i] < least || ids[i] >= end) throw nb::index_error("an id is outside the vocabulary");
}

// A language model under training: its arrays and the memory that its steps work in.
template <class T>
class Trainer {
 public:
  Trainer(const elman::Spec &spec, std::vector<Array<T>> parameters, std::vector<Array<T>> gradients,
          std::vector<Array<T>> first_slots, std::vector<Array<T>> second_slots, int threads)
      : spec_(spec), held_{parameters, gradients, first_slots, second_slots}, parameters_(pointers(parameters)),
        gradients_(pointers(gradients)), first_(pointers(first_slots)), second_(pointers(second_slots)), threads_(threads) {
    for (const Array<T> &array : parameters) sizes_.push_back(array.size());
    second_.resize(sizes_.size());
  }

  // -> loss, gradient norm before clipping; nothing is updated where one of them is not finite.
  std::pair<double, double> step(Array<const int64_t> inputs, Array<const int64_t> targets, Maybe<const float> uniforms,
                                 double dropout, Array<const T> h_first, Maybe<const T> c_first, Array<T> h_last,
                                 Maybe<T> c_last, bool mean, int optimizer, double learning_rate, double momentum,
                                 double beta1, double beta2, double epsilon, double weight_decay, int64_t steps,
                                 double clip_norm, double clip_value) {
    check_ids(inputs.data(), inputs.size(), 0, spec_.vocab);
    check_ids(targets.data(), targets.size(), -1, spec_.vocab);
    nb::gil_scoped_release release;
    const auto &native = functions<T>();
    double scale = 1;
    if (mean) {
      size_t scored = 0;
      for (size_t i = 0; i < targets.size(); ++i) scored += targets.data()[i] >= 0;
      scale = 1. / double(scored ? scored : 1);
    }
    const elman::Window<T> window{int(inputs.shape(0)), int(inputs.shape(1)), inputs.data(), targets.data(),
                                  data(uniforms),       dropout,              scale,         h_first.data(),
                                  data(c_first),        h_last.data(),        data(c_last)};
    const double loss =
        scale * native.loss_and_gradients(spec_, window, parameters_.data(), gradients_.data(), scratch_, threads_);
    const elman::Arrays<T> arrays{int(sizes_.size()), sizes_.data(), parameters_.data(),
                                  gradients_.data(),  first_.data(), second_.data()};
    const double norm = native.global_norm(arrays, scratch_, threads_);
    if (std::isfinite(loss) && std::isfinite(norm)) {
      const double clip = clip_norm > 0 ? clip_norm / (norm + 1e-6) : 1;
      native.update({optimizer, learning_rate, momentum, beta1, beta2, epsilon, weight_decay, double(steps),
                     clip < 1 ? clip : 1, clip_value},
                    arrays, threads_);
    }
    return {loss, norm};
  }

  size_t workspace_bytes() const { return scratch_.bytes(); }

 private:
  elman::Spec spec_;
  std::vector<Array<T>> held_[4];
  std::vector<size_t> sizes_;
  std::vector<T *> parameters_, gradients_, first_, second_;
  int threads_;
  elman::Scratch scratch_;
};

// A language model that draws: its weights as they were when it was made.
template <class T>
class Generator {
 public:
  Generator(const elman::Spec &spec, std::vector<Array<T>> parameters, int threads)
      : spec_(spec), held_(parameters), parameters_(pointers(parameters)), threads_(threads) {
    nb::gil_scoped_release release;
    packed_ = static_cast<T *>(scratch_.take(functions<T>().packed_weights_size(spec) * sizeof(T)));
    functions<T>().pack_weights(spec, parameters_.data(), packed_, threads_);
  }

  // Draws as many ids as there are uniforms; h and c (L, H) go on. False where a logit is NaN.
  bool draw(int64_t token, Array<T> h, Maybe<T> c, Array<const double> uniforms, double temperature, int top_k, double top_p,
            int64_t forbidden, Array<int64_t> ids) {
    const elman::Generation<T> arguments{int(ids.size()), token, h.data(), data(c),   uniforms.data(),
                                         temperature,     top_p, top_k,    forbidden, ids.data()};
    nb::gil_scoped_release release;
    return functions<T>().generate(spec_, arguments, parameters_.data(), packed_, scratch_, threads_);
  }

 private:
  elman::Spec spec_;
  std::vector<Array<T>> held_;
  std::vector<T *> parameters_;
  int threads_;
  elman::Scratch scratch_;
  T *packed_;
};

template <class T>
void bind(nb::module_ &m, const char *trainer, const char *generator) {
  m.def("recurrent_forward",
        [](int cell, Array<const T> gates_x, Array<const T> W_hh, Maybe<const T> b_hn, Array<const T> h_first,
           Maybe<const T> c_first, Maybe<const int64_t> lengths, Array<T> outputs, Maybe<T> gates, Maybe<T> c, Maybe<T> extra,
           int threads) {
          const elman::RecurrentForward<T> arguments{
              cell, int(outputs.shape(0)), int(outputs.shape(1)), int(outputs.shape(2)), gates_x.data(), W_hh.data(),
              data(b_hn), h_first.data(), data(c_first), outputs.data(), data(gates), data(c), data(extra), nullptr, data(lengths)};
          nb::gil_scoped_release release;
          elman::Scratch scratch;
          functions<T>().recurrent_forward(arguments, scratch, threads);
        },
        "cell"_a, array("gates_x"), array("W_hh"), maybe("b_hn"), array("h_first"), maybe("c_first"), maybe("lengths"), array("outputs"),
        maybe("gates"), maybe("c"), maybe("extra"), "threads"_a);
  m.def("recurrent_backward",
        [](int cell, Array<const T> W_hh, Array<const T> h_first, Maybe<const T> c_first, Array<const T> outputs,
           Maybe<const T> gates, Maybe<const T> c, Maybe<const T> extra, Maybe<const int64_t> lengths, Array<const T> d_outputs,
           Array<T> d_h, Maybe<T> d_c, Array<T> d_gates_x, Array<T> d_gates_h, int threads) {
          const elman::RecurrentBackward<T> arguments{
              cell, int(outputs.shape(0)), int(outputs.shape(1)), int(outputs.shape(2)), W_hh.data(), h_first.data(),
              data(c_first), outputs.data(), data(gates), data(c), data(extra), d_outputs.data(), d_h.data(), data(d_c),
              d_gates_x.data(), d_gates_h.data(), data(lengths)};
          nb::gil_scoped_release release;
          elman::Scratch scratch;
          functions<T>().recurrent_backward(arguments, scratch, threads);
        },
        "cell"_a, array("W_hh"), array("h_first"), maybe("c_first"), array("outputs"), maybe("gates"), maybe("c"), maybe("extra"),
        maybe("lengths"), array("d_outputs"), array("d_h"), maybe("d_c"), array("d_gates_x"), array("d_gates_h"), "threads"_a);
  m.def("product",
        [](Matrix<const T> A, Matrix<const T> B, Array<T> C, int threads) {
          nb::gil_scoped_release release;
          elman::Scratch scratch;
          functions<T>().product(int(A.shape(0)), int(B.shape(1)), int(A.shape(1)), A.data(), A.stride(0), A.stride(1),
                                 B.data(), B.stride(0), B.stride(1), C.data(), scratch, threads);
        },
        array("A"), array("B"), array("C"), "threads"_a);
  m.def("output",
        [](Array<const T> W_hy, Array<const T> b_y, Array<const T> rows, Array<const int64_t> targets, double scale,
           Array<T> losses, Maybe<T> d_rows, Maybe<T> d_W_hy, Maybe<T> d_b_y, int threads) {
          const elman::Output<T> arguments{int(rows.shape(0)), int(W_hy.shape(1)), int(W_hy.shape(0)), W_hy.data(), b_y.data(),
                                           rows.data(), targets.data(), T(scale), losses.data(), data(d_rows), data(d_W_hy),
                                           data(d_b_y)};
          nb::gil_scoped_release release;
          elman::Scratch scratch;
          functions<T>().output(arguments, scratch, threads);
        },
        array("W_hy"), array("b_y"), array("rows"), array("targets"), "scale"_a, array("losses"), maybe("d_rows"), maybe("d_W_hy"),
        maybe("d_b_y"), "threads"_a);
  m.def("gather_rows",
        [](Matrix<const T> table, Array<const int64_t> ids, Array<T> rows, int threads) {
          nb::gil_scoped_release release;
          functions<T>().gather_rows(int(ids.size()), int(table.shape(1)), table.data(), table.stride(0), table.stride(1),
                                     ids.data(), rows.data(), threads);
        },
        array("table"), array("ids"), array("rows"), "threads"_a);
  m.def("scatter_add_rows",
        [](Array<const T> d_rows, Array<const int64_t> ids, Array<T> table, int threads) {
          nb::gil_scoped_release release;
          functions<T>().scatter_add_rows(int(ids.size()), int(table.shape(1)), d_rows.data(), ids.data(), table.data(),
                                          threads);
        },
        array("d_rows"), array("ids"), array("table"), "threads"_a);
  nb::class_<Generator<T>>(m, generator)
      .def(nb::init<const elman::Spec &, std::vector<Array<T>>, int>(), "spec"_a, array("parameters"), "threads"_a)
      .def("draw", &Generator<T>::draw, "token"_a, array("h"), maybe("c"), array("uniforms"), "temperature"_a, "top_k"_a,
           "top_p"_a, "forbidden"_a, array("ids"));
  nb::class_<Trainer<T>>(m, trainer)
      .def(nb::init<const elman::Spec &, std::vector<Array<T>>, std::vector<Array<T>>, std::vector<Array<T>>,
                    std::vector<Array<T>>, int>(),
           "spec"_a, array("parameters"), array("gradients"), array("first_slots"), array("second_slots"), "threads"_a)
      .def("step", &Trainer<T>::step, array("inputs"), array("targets"), maybe("uniforms"), "dropout"_a, array("h_first"),
           maybe("c_first"), array("h_last"), maybe("c_last"), "mean"_a, "optimizer"_a, "learning_rate"_a, "momentum"_a,
           "beta1"_a, "beta2"_a, "epsilon"_a, "weight_decay"_a, "steps"_a, "clip_norm"_a, "clip_value"_a)
      .def_prop_ro("workspace_bytes", &Trainer<T>::workspace_bytes);
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
  nb::class_<elman::Spec>(m, "Spec")
      .def("__init__",
           [](elman::Spec *self, int cell, int vocab, int embedding, int hidden, int layers, bool tied) {
             new (self) elman::Spec{cell, vocab, embedding, hidden, layers, tied};
           },
           "cell"_a, "vocab"_a, "embedding"_a, "hidden"_a, "layers"_a, "tied"_a);
  m.def("fma_peak",
        [](int threads) {
          nb::gil_scoped_release release;
          return chosen->of_float.fma_peak(threads);
        },
        "threads"_a);
  bind<float>(m, "TrainerFloat32", "GeneratorFloat32");
  bind<double>(m, "TrainerFloat64", "GeneratorFloat64");
}
