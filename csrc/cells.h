// One time step of one stream: the equations of src/elman/cells/*.py, entry by entry, a vector at a time.
//
// Pointers are to the first of some hidden units; the gates of a unit stand H entries apart. The labels are those of the
// Python files. What is saved is what the Python cells save.
#pragma once

#include "activations.h"
#include "kernel.h"

namespace {

using elman::gates_of;
using enum elman::CellKind;

template <class T>
inline void rnn_forward(int units, bool relu, const T* x, const T* gates_h, T* h) {
  by_vectors<T>(units, [&](int j, auto n) {
    const Vec<T> a = load(x + j, n) + load(gates_h + j, n);             // (1)
    store(h + j, relu ? (a < T(0) ? Vec<T>{} : a) : tanh(a), n);        // (2), NaN stays NaN
  });
}

// d_h holds what the steps after sent back to h, to which d_outputs is added; afterwards the direct part for h_prev,
// which is 0 here.
template <class T>
inline void rnn_backward(int units, bool relu, const T* h, const T* d_outputs, T* d_h, T* d_gates) {
  by_vectors<T>(units, [&](int j, auto n) {
    const Vec<T> y = load(h + j, n), d = load(d_h + j, n) + load(d_outputs + j, n);
    store(d_gates + j, relu ? (y > T(0) ? d : Vec<T>{}) : d * (T(1) - y * y), n);  // (2)
    store(d_h + j, Vec<T>{}, n);                                                   // (1)
  });
}

template <class T>
inline void lstm_forward(int units, int H, const T* x, const T* gates_h, const T* c_prev, T* gates, T* c, T* tanh_c, T* h) {
  by_vectors<T>(units, [&](int j, auto n) {
    const auto a = [&](int gate) { return load(x + gate * H + j, n) + load(gates_h + gate * H + j, n); };
    const Vec<T> i = sigmoid<T>(a(0)), f = sigmoid<T>(a(1));            // (1) (2)
    const Vec<T> g = tanh(a(2)), o = sigmoid<T>(a(3));                  // (3) (4)
    const Vec<T> cell = f * load(c_prev + j, n) + i * g, t = tanh(cell);  // (5)
    store(gates + j, i, n);
    store(gates + H + j, f, n);
    store(gates + 2 * H + j, g, n);
    store(gates + 3 * H + j, o, n);
    store(c + j, cell, n);
    store(tanh_c + j, t, n);
    store(h + j, o * t, n);                                             // (6)
  });
}

// d_h and d_c hold what the steps after sent back to (h, c); afterwards the direct part for (h_prev, c_prev). d_gates may
// be gates.
template <class T>
inline void lstm_backward(int units, int H, const T* gates, const T* c_prev, const T* tanh_c, const T* d_outputs, T* d_h, T* d_c,
                          T* d_gates) {
  by_vectors<T>(units, [&](int j, auto n) {
    const Vec<T> i = load(gates + j, n), f = load(gates + H + j, n), g = load(gates + 2 * H + j, n),
                 o = load(gates + 3 * H + j, n), t = load(tanh_c + j, n), d = load(d_h + j, n) + load(d_outputs + j, n);
    const Vec<T> dc = load(d_c + j, n) + d * o * (T(1) - t * t);                   // (6)
    store(d_gates + j, dc * g * i * (T(1) - i), n);                                // (5) (1)
    store(d_gates + H + j, dc * load(c_prev + j, n) * f * (T(1) - f), n);          // (5) (2)
    store(d_gates + 2 * H + j, dc * i * (T(1) - g * g), n);                        // (5) (3)
    store(d_gates + 3 * H + j, d * t * o * (T(1) - o), n);                         // (6) (4)
    store(d_c + j, dc * f, n);                                                     // (5)
    store(d_h + j, Vec<T>{}, n);
  });
}

// gates_h comes without b_hn, which is added here.
template <class T>
inline void gru_forward(int units, int H, const T* x, const T* gates_h, const T* b_hn, const T* h_prev, T* gates, T* h_n, T* h) {
  by_vectors<T>(units, [&](int j, auto n) {
    const auto part = [&](const T* from, int gate) { return load(from + gate * H + j, n); };
    const Vec<T> r = sigmoid<T>(part(x, 0) + part(gates_h, 0));         // (1)
    const Vec<T> z = sigmoid<T>(part(x, 1) + part(gates_h, 1));         // (2)
    const Vec<T> hn = part(gates_h, 2) + load(b_hn + j, n);
    const Vec<T> new_h = tanh(part(x, 2) + r * hn);                     // (3)
    store(gates + j, r, n);
    store(gates + H + j, z, n);
    store(gates + 2 * H + j, new_h, n);
    store(h_n + j, hn, n);
    store(h + j, (T(1) - z) * new_h + z * load(h_prev + j, n), n);      // (4)
  });
}

template <class T>
inline void gru_backward(int units, int H, const T* gates, const T* h_n, const T* h_prev, const T* d_outputs, T* d_h, T* d_gates_x,
                         T* d_gates_h) {
  by_vectors<T>(units, [&](int j, auto n) {
    const Vec<T> r = load(gates + j, n), z = load(gates + H + j, n), new_h = load(gates + 2 * H + j, n),
                 d = load(d_h + j, n) + load(d_outputs + j, n);
    const Vec<T> d_x_n = d * (T(1) - z) * (T(1) - new_h * new_h);                        // (4) (3)
    const Vec<T> d_z = d * (load(h_prev + j, n) - new_h) * z * (T(1) - z);               // (4) (2)
    const Vec<T> d_r = d_x_n * load(h_n + j, n) * r * (T(1) - r);                        // (3) (1)
    store(d_gates_x + j, d_r, n);
    store(d_gates_h + j, d_r, n);
    store(d_gates_x + H + j, d_z, n);
    store(d_gates_h + H + j, d_z, n);
    store(d_gates_x + 2 * H + j, d_x_n, n);
    store(d_gates_h + 2 * H + j, d_x_n * r, n);                                          // (3)
    store(d_h + j, d * z, n);                                                            // (4)
  });
}

}  // namespace
