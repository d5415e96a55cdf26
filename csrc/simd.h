// Vectors of the machine's width, by GCC and Clang's vector extensions: one source for every instruction set.
//
// Everything is in an anonymous namespace, because this file is compiled once for each instruction set, and a
// template instance shared between those would let code for a newer processor run on an older one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

namespace {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
  typedef float type __attribute__((vector_size(kVectorBytes)));
  typedef int32_t integers __attribute__((vector_size(kVectorBytes)));
};
template <>
struct VectorOf<double> {
  typedef double type __attribute__((vector_size(kVectorBytes)));
  typedef int64_t integers __attribute__((vector_size(kVectorBytes)));
};
template <class T>
using Vec = typename VectorOf<T>::type;
template <class T>
using Ints = typename VectorOf<T>::integers;
template <class T>
constexpr int kWidth = kVectorBytes / sizeof(T);

inline int smaller(int a, int b) { return a < b ? a : b; }
inline int larger(int a, int b) { return a > b ? a : b; }

// [0, count) in `parts` parts as even as can be: where part i begins. And how many of at most `size` there must be.
inline int part(int count, int parts, int i) { return int(int64_t(count) * i / parts); }
inline int parts_of(int count, int size) { return (count + size - 1) / size; }

template <class T>
inline Vec<T> load(const T* p) {
  Vec<T> v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

template <class T>
inline void store(T* p, Vec<T> v) {
  std::memcpy(p, &v, sizeof v);
}

// x - 0 rather than x + 0: the compiler may drop the one (for every x), not the other (for x = -0).
template <class T>
inline Vec<T> broadcast(T x) {
  return x - Vec<T>{};
}

// Calls f(j, n) for n = kWidth<T> entries from j on, and once for the n < kWidth<T> that are left.
template <class T, class F>
inline void by_vectors(int count, F f) {
  int j = 0;
  for (; j + kWidth<T> <= count; j += kWidth<T>) f(j, std::integral_constant<int, kWidth<T>>{});
  if (j < count) f(j, count - j);
}

template <class T, class N>
inline Vec<T> load(const T* p, N n) {
  Vec<T> v{};
  std::memcpy(&v, p, n * sizeof(T));
  return v;
}

template <class T, class N>
inline void store(T* p, Vec<T> v, N n) {
  std::memcpy(p, &v, n * sizeof(T));
}

// One step of transposing a square of kWidth rows: squares of `S` entries change places across the diagonal.
template <class T, int S, size_t... lane>
inline void exchange(Vec<T>& a, Vec<T>& b, std::index_sequence<lane...>) {
  constexpr int W = kWidth<T>;
  const Vec<T> low = __builtin_shufflevector(a, b, ((lane & S) ? int(W + lane - S) : int(lane))...);
  b = __builtin_shufflevector(a, b, ((lane & S) ? int(W + lane) : int(lane + S))...);
  a = low;
}

// Transposes a square of kWidth rows in registers (J. O. Eklundh 1972).
template <class T, int S = kWidth<T> / 2>
inline void transpose_square(Vec<T>* rows) {
#pragma GCC unroll 16
  for (int i = 0; i < kWidth<T>; ++i)
    if (!(i & S)) exchange<T, S>(rows[i], rows[i + S], std::make_index_sequence<kWidth<T>>{});
  if constexpr (S > 1) transpose_square<T, S / 2>(rows);
}

}  // namespace
