// Vectors of the machine's width, by GCC and Clang's vector extensions: one source for every instruction set.
//
// Everything is in an anonymous namespace, because this file is compiled once for each instruction set, and a
// template instance shared between those would let code for a newer processor run on an older one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

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

}  // namespace
