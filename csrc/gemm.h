// Matrix products on packed panels: C (M, N) += A (M, K) · B (K, N).
//
// B is packed once into panels of kPanel columns, k after k, zeros filling the last panel. A register tile of up to
// kRows rows × kPanel columns stays in registers over the whole of K; A is read through two
// strides, so that a transposed A needs no copy.
#pragma once

#include "simd.h"

namespace {

template <class T>
constexpr int kPanel = 2 * kWidth<T>;
#if defined(__AVX512F__)
constexpr int kRows = 12;  // 24 of 32 registers accumulate
#else
constexpr int kRows = 6;  // 12 of 16
#endif

template <class T>
inline int panels_of(int N) {
  return (N + kPanel<T> - 1) / kPanel<T>;
}

template <class T>
inline size_t packed_size(int K, int N) {
  return size_t(K) * panels_of<T>(N) * kPanel<T>;
}

// B (K, N) with the strides given -> panels [first, last) of kPanel columns.
template <class T>
void pack(const T* B, ptrdiff_t k_stride, ptrdiff_t n_stride, int K, int N, T* packed, int first, int last) {
  constexpr int P = kPanel<T>;
  for (int panel = first; panel < last; ++panel) {
    T* to = packed + size_t(panel) * K * P;
    const int n0 = panel * P, columns = smaller(P, N - n0);
    if (n_stride == 1) {
      for (int k = 0; k < K; ++k, to += P) {
        std::memcpy(to, B + k * k_stride + n0, columns * sizeof(T));
        std::memset(to + columns, 0, (P - columns) * sizeof(T));
      }
    } else {
      if (columns < P) std::memset(to, 0, size_t(K) * P * sizeof(T));
      for (int k0 = 0; k0 < K; k0 += 16)
        for (int n = 0; n < columns; ++n) {
          const T* from = B + (n0 + n) * n_stride;
          for (int k = k0; k < smaller(k0 + 16, K); ++k) to[size_t(k) * P + n] = from[k * k_stride];
        }
    }
  }
}

template <class T, int R>
inline void tile(int K, const T* A, ptrdiff_t a_row, ptrdiff_t a_k, const T* B, T* C, ptrdiff_t c_row, int columns, bool add) {
  constexpr int W = kWidth<T>;
  Vec<T> c0[R], c1[R];
  for (int r = 0; r < R; ++r) c0[r] = c1[r] = Vec<T>{};
  for (int k = 0; k < K; ++k) {
    const Vec<T> b0 = load(B), b1 = load(B + W);
    B += kPanel<T>;
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
      const T a = A[r * a_row];
      c0[r] += a * b0;
      c1[r] += a * b1;
    }
    A += a_k;
  }
  if (columns == kPanel<T>) {
    for (int r = 0; r < R; ++r) {
      T* c = C + r * c_row;
      if (add) {
        c0[r] += load(c);
        c1[r] += load(c + W);
      }
      store(c, c0[r]);
      store(c + W, c1[r]);
    }
  } else {
    T rest[kPanel<T>];
    for (int r = 0; r < R; ++r) {
      store(rest, c0[r]);
      store(rest + W, c1[r]);
      T* c = C + r * c_row;
      for (int j = 0; j < columns; ++j) c[j] = add ? c[j] + rest[j] : rest[j];
    }
  }
}

template <class T>
using Tile = void (*)(int, const T*, ptrdiff_t, ptrdiff_t, const T*, T*, ptrdiff_t, int, bool);

template <class T>
inline Tile<T> tile_of(int rows) {
  static constexpr Tile<T> tiles[] = {
      nullptr,     tile<T, 1>, tile<T, 2>, tile<T, 3>, tile<T, 4>, tile<T, 5>, tile<T, 6>,
#if defined(__AVX512F__)
      tile<T, 7>, tile<T, 8>, tile<T, 9>, tile<T, 10>, tile<T, 11>, tile<T, 12>,
#endif
  };
  return tiles[rows];
}

// Rows of C, panels [first, last) of its columns. add: C += A·B, else C = A·B.
template <class T>
void gemm(int M, int N, int K, const T* A, ptrdiff_t a_row, ptrdiff_t a_k, const T* packed, T* C, ptrdiff_t c_row, bool add,
          int first, int last) {
  constexpr int P = kPanel<T>;
  const int tiles = (M + kRows - 1) / kRows;  // rows are shared evenly: 25 = 9 + 8 + 8
  for (int panel = first; panel < last; ++panel) {
    const T* B = packed + size_t(panel) * K * P;
    const int columns = smaller(P, N - panel * P);
    for (int i = 0; i < tiles; ++i) {
      const int r0 = int(int64_t(M) * i / tiles), r1 = int(int64_t(M) * (i + 1) / tiles);
      tile_of<T>(r1 - r0)(K, A + r0 * a_row, a_row, a_k, B, C + r0 * c_row + panel * P, c_row, columns, add);
    }
  }
}

}  // namespace
