// What Python sees: the functions of kernel.h for float32 and float64, the interpreter's lock released.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#if defined(ELMAN_BF16)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "arguments.h"
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

// The instruction sets that this processor has, the best one first.
std::vector<std::string> supported() {
#if defined(__x86_64__)
  std::vector<std::string> names;
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd"))
    names.push_back("x86-64-v4");
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2"))
    names.push_back("x86-64-v3");
  names.push_back("x86-64-v2");
  return names;
#else
  return {"base"};
#endif
}

const elman::Kernel *chosen = nullptr;

template <class T>
const elman::Functions<T> &functions() {
  if constexpr (std::is_same_v<T, float>)
    return chosen->of_float;
  else
    return chosen->of_double;
}

#if defined(ELMAN_BF16)
// Whether the processor has AMX's tiles and instructions for bfloat16, and AVX-512's.
bool has_tiles() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  const bool tiles = __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 22 & 1) && (d >> 24 & 1);
  return tiles && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 5 & 1) && supported()[0] == "x86-64-v4";
}

// Asks Linux for the state of the tiles, for all threads of this process.
bool may_use_tiles() {
  constexpr long kArchReqXcompPerm = 0x1023, kXfeatureXtiledata = 18;
  static const bool granted = syscall(SYS_arch_prctl, kArchReqXcompPerm, kXfeatureXtiledata) == 0;
  return granted;
}

const char *bf16_lacks() {
  if (!has_tiles()) return "this processor has no AMX tiles for it (amx_tile, amx_bf16)";
  return may_use_tiles() ? nullptr : "the operating system does not let this process use AMX tiles";
}

const elman::Bf16Functions &bf16() {
  demand(!bf16_lacks(), "a processor with AMX tiles for bf16");
  return elman::bf16_functions;
}
#else
const char *bf16_lacks() { return "it was built without AMX tiles (x86-64, Linux, and g++ 11 or clang 12 or later have them)"; }

const elman::Bf16Functions &bf16() { throw Refusal("the native kernel was built without bf16"); }
#endif

// The whole step for float32 or float64 or, with bf16, for float32 with the operands of products rounded.
template <class T>
auto loss_and_gradients_of(bool with_bf16) {
  if constexpr (std::is_same_v<T, float>)
    return with_bf16 ? bf16().loss_and_gradients : functions<T>().loss_and_gradients;
  else
    return demand(!with_bf16, "float32 for bf16"), functions<T>().loss_and_gradients;
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

void check_cell(int cell) { demand(cell >= elman::kRnn && cell <= elman::kLstm, "a cell that it knows"); }

// Takes an array for each parameter of a model, in their order and of their shapes.
template <class T>
void take_parameters(Arguments &given, bool written, const elman::Spec &spec, const std::vector<Array<T>> &arrays) {
  const size_t V = spec.vocab, E = spec.embedding, H = spec.hidden, GH = elman::gates_of(spec.cell) * H;
  const bool gru = spec.cell == elman::kGru;
  const size_t count = (E ? 1 : 0) + size_t(spec.layers) * (gru ? 4 : 3) + (spec.tied ? 1 : 2);
  demand(arrays.size() == count, "an array for each parameter");
  const Array<T> *array = arrays.data();
  const auto next = [&](const Shape &shape) {
    written ? given.writes("an array of a parameter", *array, shape) : given.reads("an array of a parameter", *array, shape);
    ++array;
  };
  if (E) next({V, E});
  for (int l = 0; l < spec.layers; ++l) {
    next({GH, l ? H : E ? E : V});
    next({GH, H});
    next({GH});
    if (gru) next({H});
  }
  if (!spec.tied) next({V, H});
  next({V});
}

// C (M, N) = A (M, K) · B (K, N) by one of the kernel's products, the arrays checked.
template <class T>
void multiply(decltype(elman::Functions<T>::product) product, const Matrix<const T> &A, const Matrix<const T> &B,
              const Array<T> &C, int threads) {
  const size_t M = sizes_of("A", A, 2)[0], K = A.shape(1), N = sizes_of("B", B, 2)[1];
  Arguments given;
  given.reads("A", A, {M, K});
  given.reads("B", B, {K, N});
  given.writes("C", C, {M, N});
  given.check_apart();
  demand(B.stride(0) == 1 || B.stride(1) == 1, "rows or columns of B that are contiguous");
  check_threads(threads);
  nb::gil_scoped_release release;
  elman::Scratch scratch;
  product(int(M), int(N), int(K), A.data(), A.stride(0), A.stride(1), B.data(), B.stride(0), B.stride(1), C.data(), scratch,
          threads);
}

// A language model under training: its arrays and the memory that its steps work in.
template <class T>
class Trainer {
 public:
  Trainer(const elman::Spec &spec, std::vector<Array<T>> parameters, std::vector<Array<T>> gradients,
          std::vector<Array<T>> first_slots, std::vector<Array<T>> second_slots, int threads, bool with_bf16)
      : loss_and_gradients_(loss_and_gradients_of<T>(with_bf16)), spec_(spec),
        held_{parameters, gradients, first_slots, second_slots}, parameters_(pointers(parameters)), gradients_(pointers(gradients)), first_(pointers(first_slots)), second_(pointers(second_slots)), threads_(threads) {
    check_threads(threads);
    for (const auto *arrays : {&parameters, &gradients, &first_slots}) take_parameters(arguments_, true, spec, *arrays);
    if (!second_slots.empty()) take_parameters(arguments_, true, spec, second_slots);
    arguments_.check_apart();
    for (const Array<T> &array : parameters) sizes_.push_back(array.size());
    second_.resize(sizes_.size());
  }

  // -> loss, gradient norm before clipping; nothing is updated where one of them is not finite.
  std::pair<double, double> step(Array<const int64_t> inputs, Array<const int64_t> targets, Maybe<const float> uniforms,
                                 double dropout, Maybe<const float> embedding_uniforms, double embedding_dropout,
                                 Array<const T> h_first, Maybe<const T> c_first, Array<T> h_last,
                                 Maybe<T> c_last, bool mean, double activation_regularization, int optimizer,
                                 double learning_rate, double momentum, double beta1, double beta2, double epsilon,
                                 double weight_decay, int64_t steps, double clip_norm, double clip_value) {
    const Shape sizes = sizes_of("inputs", inputs, 2);
    const size_t L = spec_.layers, B = sizes[1], H = spec_.hidden;
    const Shape state{L, B, H};
    check_count("tokens", sizes[0] * B);
    const bool lstm = spec_.cell == elman::kLstm;
    Arguments given;
    given.reads("inputs", inputs, sizes);
    given.reads("targets", targets, sizes);
    const size_t masks = uniforms ? sizes_of("uniforms", *uniforms, 4)[1] : 1;  // one a time step, or one for all
    given.reads("uniforms", uniforms, {L, masks == 1 ? 1 : sizes[0], B, H}, uniforms.has_value());
    given.reads("embedding_uniforms", embedding_uniforms, sizes, embedding_uniforms.has_value());
    given.reads("h_first", h_first, state);
    given.reads("c_first", c_first, state, lstm);
    given.writes("h_last", h_last, state);
    given.writes("c_last", c_last, state, lstm);
    given.check_apart(arguments_);
    for (const double probability : {dropout, embedding_dropout})
      demand(probability >= 0 && probability < 1, "a dropout from 0 to below 1");
    demand(!embedding_uniforms || spec_.embedding, "an embedding to drop rows of");
    demand(optimizer >= elman::kSgd && optimizer <= elman::kAdamW, "an optimiser that it knows");
    demand(optimizer < elman::kAdam || !held_[3].empty(), "the second slots of this optimiser");
    check_ids(inputs, targets);
    nb::gil_scoped_release release;
    scratch_.release(0);  // what a step that ran out of memory left
    double scale = 1;
    if (mean) {
      size_t scored = 0;
      for (size_t i = 0; i < targets.size(); ++i) scored += targets.data()[i] >= 0;
      scale = 1. / double(scored ? scored : 1);
    }
    const elman::Window<T> window{int(sizes[0]),  int(B),        inputs.data(),  targets.data(),
                                  data(uniforms), int(masks),    dropout,        data(embedding_uniforms),
                                  embedding_dropout,             scale,          activation_regularization,
                                  h_first.data(), data(c_first),
                                  h_last.data(),  data(c_last)};
    const double loss =
        scale * loss_and_gradients_(spec_, window, parameters_.data(), gradients_.data(), scratch_, threads_);
    const elman::Arrays<T> arrays{int(sizes_.size()), sizes_.data(), parameters_.data(),
                                  gradients_.data(),  first_.data(), second_.data()};
    const double norm = native_.global_norm(arrays, scratch_, threads_);
    if (std::isfinite(loss) && std::isfinite(norm)) {
      const double clip = clip_norm > 0 ? clip_norm / (norm + 1e-6) : 1;
      native_.update({optimizer, learning_rate, momentum, beta1, beta2, epsilon, weight_decay, double(steps),
                      clip < 1 ? clip : 1, clip_value},
                     arrays, threads_);
    }
    return {loss, norm};
  }

  void check_ids(const Array<const int64_t> &inputs, const Array<const int64_t> &targets) const {
    ::check_ids(inputs.data(), inputs.size(), 0, spec_.vocab);
    ::check_ids(targets.data(), targets.size(), -1, spec_.vocab);
  }

  size_t workspace_bytes() const { return scratch_.bytes(); }

 private:
  const elman::Functions<T> &native_ = functions<T>();
  decltype(elman::Functions<T>::loss_and_gradients) loss_and_gradients_;
  elman::Spec spec_;
  Arguments arguments_;  // those that are held
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
    check_threads(threads);
    take_parameters(arguments_, false, spec, parameters);
    nb::gil_scoped_release release;
    packed_ = static_cast<T *>(weights_.take(native_.packed_weights_size(spec) * sizeof(T)));
    native_.pack_weights(spec, parameters_.data(), packed_, threads_);
  }

  // Draws as many ids as there are uniforms; h and c (L, 1, H) go on. False where the largest logit is not finite.
  bool draw(int64_t token, Array<T> h, Maybe<T> c, Array<const double> uniforms, double temperature, int64_t top_k,
            double top_p, int64_t forbidden, Array<int64_t> ids) {
    const size_t L = spec_.layers, H = spec_.hidden, length = sizes_of("ids", ids, 1)[0];
    Arguments given;
    given.writes("h", h, {L, 1, H});
    given.writes("c", c, {L, 1, H}, spec_.cell == elman::kLstm);
    given.reads("uniforms", uniforms, {length});
    given.writes("ids", ids, {length});
    given.check_apart(arguments_);
    check_ids(&token, 1, 0, spec_.vocab);
    check_ids(&forbidden, 1, -1, spec_.vocab);
    demand(temperature >= 0 && std::isfinite(temperature), "a temperature of 0 or more");
    demand(top_k >= 0, "a top_k of 0 or more");
    demand(top_p > 0 && top_p <= 1, "a top_p above 0 and at most 1");
    for (size_t i = 0; i < length; ++i)
      demand(uniforms.data()[i] >= 0 && uniforms.data()[i] < 1, "uniform numbers from 0 to below 1");
    const elman::Generation<T> arguments{int(length),
                                         token,
                                         h.data(),
                                         data(c),
                                         uniforms.data(),
                                         temperature,
                                         top_p,
                                         int(std::min<int64_t>(top_k, spec_.vocab)),
                                         forbidden,
                                         ids.data()};
    nb::gil_scoped_release release;
    scratch_.release(0);  // what a call that ran out of memory left
    return native_.generate(spec_, arguments, parameters_.data(), packed_, scratch_, threads_);
  }

 private:
  const elman::Functions<T> &native_ = functions<T>();  // weights are packed for its width
  elman::Spec spec_;
  Arguments arguments_;  // those that are held
  std::vector<Array<T>> held_;
  std::vector<T *> parameters_;
  int threads_;
  elman::Scratch weights_, scratch_;
  T *packed_;
};

// The shapes of what a loop over time is given: outputs (T, B, H).
struct Loop {
  bool lstm, gru, gated;
  Shape outputs, gates, W_hh, b_hn, state, streams;

  Loop(int cell, Shape sizes, const Maybe<const int64_t> &lengths, int threads)
      : lstm(cell == elman::kLstm), gru(cell == elman::kGru), gated(lstm || gru), outputs(sizes) {
    const size_t T = sizes[0], B = sizes[1], H = sizes[2], GH = elman::gates_of(cell) * H;
    check_cell(cell);
    check_threads(threads);
    check_count("time steps of streams", T * B);
    gates = {T, B, GH}, W_hh = {GH, H}, b_hn = {H}, state = {B, H}, streams = {B};
    for (size_t i = 0; lengths && i < lengths->size(); ++i)
      demand(lengths->data()[i] >= 1 && lengths->data()[i] <= int64_t(T), "lengths from 1 to the number of time steps");
  }
};

template <class T>
void bind(nb::module_ &m, const char *trainer, const char *generator) {
  m.def("recurrent_forward",
        [](int cell, Array<const T> gates_x, Array<const T> W_hh, Maybe<const T> b_hn, Array<const T> h_first,
           Maybe<const T> c_first, Maybe<const int64_t> lengths, Array<T> outputs, Maybe<T> gates, Maybe<T> c, Maybe<T> extra,
           int threads) {
          const Loop loop(cell, sizes_of("outputs", outputs, 3), lengths, threads);
          Arguments given;
          given.reads("gates_x", gates_x, loop.gates);
          given.reads("W_hh", W_hh, loop.W_hh);
          given.reads("b_hn", b_hn, loop.b_hn, loop.gru);
          given.reads("h_first", h_first, loop.state);
          given.reads("c_first", c_first, loop.state, loop.lstm);
          given.reads("lengths", lengths, loop.streams, lengths.has_value());
          given.writes("outputs", outputs, loop.outputs);
          given.writes("gates", gates, loop.gates, loop.gated);
          given.writes("c", c, loop.outputs, loop.lstm);
          given.writes("extra", extra, loop.outputs, loop.gated);
          given.check_apart();
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
           Array<T> d_h, Maybe<T> d_c, Array<T> d_gates_x, Maybe<T> d_gates_h, int threads) {
          const Loop loop(cell, sizes_of("outputs", outputs, 3), lengths, threads);
          Arguments given;
          given.reads("W_hh", W_hh, loop.W_hh);
          given.reads("h_first", h_first, loop.state);
          given.reads("c_first", c_first, loop.state, loop.lstm);
          given.reads("outputs", outputs, loop.outputs);
          given.reads("gates", gates, loop.gates, loop.gated);
          given.reads("c", c, loop.outputs, loop.lstm);
          given.reads("extra", extra, loop.outputs, loop.gated);
          given.reads("lengths", lengths, loop.streams, lengths.has_value());
          given.reads("d_outputs", d_outputs, loop.outputs);
          given.writes("d_h", d_h, loop.state);
          given.writes("d_c", d_c, loop.state, loop.lstm);
          given.writes("d_gates_x", d_gates_x, loop.gates);
          given.writes("d_gates_h", d_gates_h, loop.gates, loop.gru);
          given.check_apart();
          const elman::RecurrentBackward<T> arguments{
              cell, int(outputs.shape(0)), int(outputs.shape(1)), int(outputs.shape(2)), W_hh.data(), h_first.data(),
              data(c_first), outputs.data(), data(gates), data(c), data(extra), d_outputs.data(), d_h.data(), data(d_c),
              d_gates_x.data(), loop.gru ? data(d_gates_h) : d_gates_x.data(), data(lengths)};
          nb::gil_scoped_release release;
          elman::Scratch scratch;
          functions<T>().recurrent_backward(arguments, scratch, threads);
        },
        "cell"_a, array("W_hh"), array("h_first"), maybe("c_first"), array("outputs"), maybe("gates"), maybe("c"), maybe("extra"),
        maybe("lengths"), array("d_outputs"), array("d_h"), maybe("d_c"), array("d_gates_x"), maybe("d_gates_h"), "threads"_a);
  m.def("product",
        [](Matrix<const T> A, Matrix<const T> B, Array<T> C, int threads) { multiply(functions<T>().product, A, B, C, threads); },
        array("A"), array("B"), array("C"), "threads"_a);
  m.def("output",
        [](Array<const T> W_hy, Array<const T> b_y, Array<const T> rows, Array<const int64_t> targets, double scale,
           Array<T> losses, Maybe<T> d_rows, Maybe<T> d_W_hy, Maybe<T> d_b_y, int threads) {
          const size_t V = sizes_of("W_hy", W_hy, 2)[0], H = W_hy.shape(1), N = sizes_of("rows", rows, 2)[0];
          const bool gradients = d_rows.has_value();
          Arguments given;
          given.reads("W_hy", W_hy, {V, H});
          given.reads("b_y", b_y, {V});
          given.reads("rows", rows, {N, H});
          given.reads("targets", targets, {N});
          given.writes("losses", losses, {N});
          given.writes("d_rows", d_rows, {N, H}, gradients);
          given.writes("d_W_hy", d_W_hy, {V, H}, gradients);
          given.writes("d_b_y", d_b_y, {V}, gradients);
          given.check_apart();
          check_threads(threads);
          check_ids(targets.data(), N, -1, V);
          const elman::Output<T> arguments{int(N), int(H), int(V), W_hy.data(), b_y.data(), rows.data(), targets.data(), T(scale),
                                           losses.data(), data(d_rows), data(d_W_hy), data(d_b_y)};
          nb::gil_scoped_release release;
          elman::Scratch scratch;
          functions<T>().output(arguments, scratch, threads);
        },
        array("W_hy"), array("b_y"), array("rows"), array("targets"), "scale"_a, array("losses"), maybe("d_rows"), maybe("d_W_hy"),
        maybe("d_b_y"), "threads"_a);
  m.def("gather_rows",
        [](Matrix<const T> table, Array<const int64_t> ids, Array<T> rows, int threads) {
          const size_t V = sizes_of("table", table, 2)[0], C = table.shape(1), N = check_count("ids", ids.size());
          Shape shape = shape_of(ids);
          Arguments given;
          given.reads("table", table, {V, C});
          given.reads("ids", ids, shape);
          shape.push_back(C);
          given.writes("rows", rows, shape);
          given.check_apart();
          check_threads(threads);
          check_ids(ids.data(), N, 0, V);
          nb::gil_scoped_release release;
          functions<T>().gather_rows(int(N), int(C), table.data(), table.stride(0), table.stride(1), ids.data(), rows.data(),
                                     threads);
        },
        array("table"), array("ids"), array("rows"), "threads"_a);
  m.def("scatter_add_rows",
        [](Array<const T> d_rows, Array<const int64_t> ids, Array<T> table, int threads) {
          const size_t V = sizes_of("table", table, 2)[0], C = table.shape(1), N = check_count("ids", ids.size());
          Arguments given;
          given.reads("d_rows", d_rows, {N, C});
          given.reads("ids", ids, shape_of(ids));
          given.writes("table", table, {V, C});
          given.check_apart();
          check_threads(threads);
          check_ids(ids.data(), N, 0, V);
          nb::gil_scoped_release release;
          functions<T>().scatter_add_rows(int(N), int(C), d_rows.data(), ids.data(), table.data(), threads);
        },
        array("d_rows"), array("ids"), array("table"), "threads"_a);
  nb::class_<Generator<T>>(m, generator)
      .def(nb::init<const elman::Spec &, std::vector<Array<T>>, int>(), "spec"_a, array("parameters"), "threads"_a)
      .def("draw", &Generator<T>::draw, "token"_a, array("h"), maybe("c"), array("uniforms"), "temperature"_a, "top_k"_a,
           "top_p"_a, "forbidden"_a, array("ids"));
  nb::class_<Trainer<T>>(m, trainer)
      .def(nb::init<const elman::Spec &, std::vector<Array<T>>, std::vector<Array<T>>, std::vector<Array<T>>,
                    std::vector<Array<T>>, int, bool>(),
           "spec"_a, array("parameters"), array("gradients"), array("first_slots"), array("second_slots"), "threads"_a,
           "bf16"_a = false)
      .def("step", &Trainer<T>::step, array("inputs"), array("targets"), maybe("uniforms"), "dropout"_a, maybe("embedding_uniforms"), "embedding_dropout"_a, array("h_first"),
           maybe("c_first"), array("h_last"), maybe("c_last"), "mean"_a, "activation_regularization"_a, "optimizer"_a,
           "learning_rate"_a, "momentum"_a, "beta1"_a, "beta2"_a, "epsilon"_a, "weight_decay"_a, "steps"_a,
           "clip_norm"_a, "clip_value"_a)
      .def("check_ids", &Trainer<T>::check_ids, array("inputs"), array("targets"))
      .def_prop_ro("workspace_bytes", &Trainer<T>::workspace_bytes);
}

void use(const std::string &isa) {
  const std::vector<std::string> names = supported();
  demand(std::find(names.begin(), names.end(), isa) != names.end(), "an instruction set that this processor has");
#if defined(__x86_64__)
  chosen = isa == "x86-64-v4" ? &elman::kernel_v4 : isa == "x86-64-v3" ? &elman::kernel_v3 : &elman::kernel_v2;
#else
  chosen = &elman::kernel_base;
#endif
}

}  // namespace

NB_MODULE(_native, m) {
  nb::register_exception_translator(
      [](const std::exception_ptr &pointer, void *input_error) {
        try {
          std::rethrow_exception(pointer);
        } catch (const Refusal &refusal) {
          PyErr_SetString(static_cast<PyObject *>(input_error), refusal.what());
        }
      },
      nb::object(nb::module_::import_("elman.errors").attr("InputError")).release().ptr());
  use(supported()[0]);
  m.def("supported", supported, "The instruction sets that this processor has, the best one first.");
  m.def("use", use, "isa"_a, "Compute with the build for this instruction set.");
  nb::class_<elman::Spec>(m, "Spec")
      .def("__init__",
           [](elman::Spec *self, int cell, int vocab, int embedding, int hidden, int layers, bool tied) {
             check_cell(cell);
             check_count("symbols", vocab);
             check_count("gates", size_t(hidden) * elman::gates_of(cell));
             check_count("hidden units in all layers", size_t(hidden) * layers);
             if (embedding) check_count("entries of an embedding", embedding);
             demand(!tied || embedding == hidden, "an embedding as wide as the hidden state, where weights are tied");
             new (self) elman::Spec{cell, vocab, embedding, hidden, layers, tied};
           },
           "cell"_a, "vocab"_a, "embedding"_a, "hidden"_a, "layers"_a, "tied"_a);
  m.def("fma_peak",
        [](int threads) {
          check_threads(threads);
          nb::gil_scoped_release release;
          return chosen->of_float.fma_peak(threads);
        },
        "threads"_a);
  m.def("bf16_lacks", bf16_lacks, "Why this machine or build cannot train in bf16; None where it can.");
  m.def("product_bf16",
        [](Matrix<const float> A, Matrix<const float> B, Array<float> C, int threads) {
          for (const auto &matrix : {A, B})
            demand(matrix.stride(0) == 1 || matrix.stride(1) == 1, "rows or columns of A and B that are contiguous");
          multiply(bf16().product, A, B, C, threads);
        },
        array("A"), array("B"), array("C"), "threads"_a,
        "C (M, N) = A (M, K) · B (K, N), both rounded to bfloat16, summed in float32.");
  bind<float>(m, "TrainerFloat32", "GeneratorFloat32");
  bind<double>(m, "TrainerFloat64", "GeneratorFloat64");
}
