// Matrix products: C (M, N) = A (M, K) · B (K, N), A of any layout, B with contiguous rows or columns.
//
// B is packed into panels of kPanel columns, k after k, zeros filling the last panel. A register tile of up to kRows
// rows of C stays in registers over a block of K. The method is that of K. Goto and R. van de Geijn, "Anatomy of
// high-performance matrix multiplication" (2008), with A left where it is unless its columns are contiguous.
#pragma once

#include "scratch.h"
#include "sharing.h"

namespace {

template <class T>
constexpr int kPanel = 2 * kWidth<T>;
#if defined(__AVX512F__)
constexpr int kRows = 12;  // 24 of 32 registers accumulate
#else
constexpr int kRows = 6;  // 12 of 16
#endif
constexpr int kDepth = 256;          // of K at a time: a strip of A and a panel of B lie in the first cache
constexpr int kColumns = 512;        // of N at a time: the panels of a block lie in the second
constexpr int kBlock = 32 * kRows;   // of M at a time: their part of C stays in the second over the whole of K
constexpr int kPacked = 1 << 20;     // entries of B packed at a time, unless one block of K has more

template <class T>
inline T* take(elman::Scratch& scratch, size_t count) {
  return static_cast<T*>(scratch.take(count * sizeof(T)));
}

// A matrix of any layout: entry (i, j) at data[i · row + j · column].
template <class T>
struct View {
  const T* data;
  ptrdiff_t row, column;

  View transposed() const { return {data, column, row}; }
  View from(ptrdiff_t i, ptrdiff_t j) const { return {data + i * row + j * column, row, column}; }
};

// Panels of kPanel columns: entry (k, n) of panel p at data[p · panel + k · depth + n].
template <class T>
struct Panels {
  const T* data;
  ptrdiff_t depth, panel;

  Panels from(int k, int p) const { return {data + k * depth + p * panel, depth, panel}; }
};

// to (N, M; row_size entries a row) = the transpose of from (M, N; row_size entries a row).
template <class T>
void transpose(const T* from, ptrdiff_t from_row, int M, int N, T* to, ptrdiff_t to_row) {
  constexpr int W = kWidth<T>;
  int m = 0;
  for (; m + W <= M; m += W) {
    int n = 0;
    for (; n + W <= N; n += W) {
      Vec<T> square[W];
      for (int i = 0; i < W; ++i) square[i] = load(from + (m + i) * from_row + n);
      transpose_square<T>(square);
      for (int i = 0; i < W; ++i) store(to + (n + i) * to_row + m, square[i]);
    }
    for (; n < N; ++n)
      for (int i = m; i < m + W; ++i) to[n * to_row + i] = from[i * from_row + n];
  }
  for (; m < M; ++m)
    for (int n = 0; n < N; ++n) to[n * to_row + m] = from[m * from_row + n];
}

template <class T>
inline int panels_of(int N) {
  return parts_of(N, kPanel<T>);
}

template <class T>
inline size_t packed_size(int K, int N) {
  return size_t(K) * panels_of<T>(N) * kPanel<T>;
}

// B (K, N) -> panels [first, last).
template <class T>
void pack(View<T> B, int K, int N, T* packed, int first, int last) {
  constexpr int P = kPanel<T>;
  for (int panel = first; panel < last; ++panel) {
    T* to = packed + size_t(panel) * K * P;
    const int n0 = panel * P, columns = smaller(P, N - n0);
    if (columns < P) std::memset(to, 0, size_t(K) * P * sizeof(T));
    if (B.row == 1) {
      transpose(B.data + n0 * B.column, B.column, columns, K, to, P);
    } else if (columns == P) {
      for (ptrdiff_t k = 0; k < K; ++k) std::memcpy(to + k * P, B.data + k * B.row + n0 * B.column, P * sizeof(T));
    } else {
      for (ptrdiff_t k = 0; k < K; ++k) std::memcpy(to + k * P, B.data + k * B.row + n0 * B.column, columns * sizeof(T));
    }
  }
}

template <class T>
void pack_shared(View<T> B, int K, int N, T* packed, int shares) {
  const int panels = panels_of<T>(N);
  share_out(panels, smaller(shares, panels), [&](int, int first, int last) { pack(B, K, N, packed, first, last); });
}

template <class T>
Panels<T> packed_panels(const T* packed, int K) {
  return {packed, kPanel<T>, ptrdiff_t(K) * kPanel<T>};
}

// R rows and Q vectors of C: C = start (one row, of whole panels; null is 0) or C, plus A (R, K) · B.
template <class T, int R, int Q>
inline void tile(int K, View<T> A, Panels<T> B, const T* start, T* C, ptrdiff_t c_row, int columns, bool add) {
  constexpr int W = kWidth<T>;
  Vec<T> c[R][Q];
  for (int q = 0; q < Q; ++q) {
    const Vec<T> first = start ? load(start + q * W) : Vec<T>{};
    for (int r = 0; r < R; ++r) c[r][q] = first;
  }
  for (int k = 0; k < K; ++k) {
    Vec<T> b[Q];
    for (int q = 0; q < Q; ++q) b[q] = load(B.data + (q / 2) * B.panel + (q % 2) * W);
    B.data += B.depth;
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
      const T a = A.data[r * A.row];
      for (int q = 0; q < Q; ++q) c[r][q] += a * b[q];
    }
    A.data += A.column;
  }
  if (columns == Q * W) {
    for (int r = 0; r < R; ++r)
      for (int q = 0; q < Q; ++q) {
        T* to = C + r * c_row + q * W;
        store(to, add ? c[r][q] + load(to) : c[r][q]);
      }
  } else {
    T rest[Q * W];
    for (int r = 0; r < R; ++r) {
      for (int q = 0; q < Q; ++q) store(rest + q * W, c[r][q]);
      T* to = C + r * c_row;
      for (int j = 0; j < columns; ++j) to[j] = add ? to[j] + rest[j] : rest[j];
    }
  }
}

// R rows of C over N columns; few rows take several panels at once, to keep as many sums under way. A whose columns are
// contiguous (a transposed matrix) is first copied to `strip` (kDepth · kRows), where its entries lie as they are used.
template <class T, int R>
void rows(int N, int K, View<T> A, Panels<T> B, const T* start, T* C, ptrdiff_t c_row, bool add, T* strip) {
  constexpr int Q = R <= 3 ? 8 : R <= 6 ? 4 : 2, W = kWidth<T>;
  const View<T> source = A;
  const bool copied = A.row == 1 && A.column != 1 && R > 1;
  if (copied) {
    for (int k = 0; k < K; ++k) std::memcpy(strip + k * R, A.data + k * A.column, R * sizeof(T));
    A = {strip, 1, R};
  }
  int n = 0;
  const auto step = [&](auto vectors) {
    constexpr int columns = vectors * W;
    tile<T, R, vectors>(K, A, B, start ? start + n : nullptr, C + n, c_row, smaller(N - n, columns), add);
    // Columns of A lie far apart, where no hardware looks ahead: fetch those of the next strip meanwhile.
    if (copied)
      for (int k = int(int64_t(K) * n / N); k < int(int64_t(K) * (n + columns) / N) && k < K; ++k)
        __builtin_prefetch(source.data + R + k * source.column, 0, 2);
    n += columns;
    B.data += vectors / 2 * B.panel;
  };
  while (N - n > (Q - 2) * W) N - n <= W ? step(std::integral_constant<int, 1>{}) : step(std::integral_constant<int, Q>{});
  if constexpr (Q > 4)
    while (N - n > 2 * W) step(std::integral_constant<int, 4>{});
  if constexpr (Q > 2)
    while (N > n) N - n <= W ? step(std::integral_constant<int, 1>{}) : step(std::integral_constant<int, 2>{});
}

template <class T>
using Rows = void (*)(int, int, View<T>, Panels<T>, const T*, T*, ptrdiff_t, bool, T*);

template <class T>
inline Rows<T> rows_of(int count) {
  static constexpr Rows<T> kinds[] = {
      nullptr,    rows<T, 1>, rows<T, 2>, rows<T, 3>, rows<T, 4>, rows<T, 5>, rows<T, 6>,
#if defined(__AVX512F__)
      rows<T, 7>, rows<T, 8>, rows<T, 9>, rows<T, 10>, rows<T, 11>, rows<T, 12>,
#endif
  };
  return kinds[count];
}

// One thread's product with packed B. start: a row (of whole panels) that is added to every row of C, or null.
// add: C += A·B, else C = A·B. strip: kDepth · kRows entries.
template <class T>
void gemm(int M, int N, int K, View<T> A, Panels<T> B, const T* start, T* C, ptrdiff_t c_row, bool add, T* strip) {
  const int blocks = parts_of(M, kBlock), depths = parts_of(K, kDepth);
  for (int block = 0; block < blocks; ++block) {
    const int m0 = part(M, blocks, block), rows_here = part(M, blocks, block + 1) - m0;
    const int strips = parts_of(rows_here, kRows);  // shared evenly: 25 = 9 + 8 + 8
    for (int d = 0; d < depths; ++d) {
      const int k0 = part(K, depths, d), depth = part(K, depths, d + 1) - k0;
      for (int n0 = 0; n0 < N; n0 += kColumns)
        for (int s = 0; s < strips; ++s) {
          const int r0 = m0 + part(rows_here, strips, s), r1 = m0 + part(rows_here, strips, s + 1);
          rows_of<T>(r1 - r0)(smaller(kColumns, N - n0), depth, A.from(r0, k0), B.from(k0, n0 / kPanel<T>),
                              start && d == 0 ? start + n0 : nullptr, C + r0 * c_row + n0, c_row, add || d > 0, strip);
        }
    }
  }
}

// The whole product by several threads. They share rows of C, or its panels where it has few rows.
template <class T>
void product(int M, int N, int K, View<T> A, View<T> B, const T* start, T* C, ptrdiff_t c_row, bool add, int threads,
             elman::Scratch& scratch) {
  const size_t mark = scratch.mark();
  const int panels = panels_of<T>(N), at_once = larger(kDepth, kPacked / (panels * kPanel<T>));
  const int turns = parts_of(K, at_once);
  const bool by_rows = M >= threads * kRows || M >= N;
  const int shares = shares_of(by_rows ? M : panels, 2. * M * N * K, threads);
  T* packed = take<T>(scratch, packed_size<T>(parts_of(K, turns), N));
  T* strips = take<T>(scratch, size_t(shares) * kDepth * kRows);
  for (int turn = 0; turn < turns; ++turn) {
    const int k0 = part(K, turns, turn), depth = part(K, turns, turn + 1) - k0;
    // B may stay where it is if its rows are short, so that a panel's lines do not fall into the same few cache sets, or
    // if few strips read it.
    const bool direct = B.column == 1 && N % kPanel<T> == 0 && (B.row <= 256 || M <= 4 * kRows * shares);
    if (!direct) pack_shared(B.from(k0, 0), depth, N, packed, shares);
    const Panels<T> ready = direct ? Panels<T>{B.data + k0 * B.row, B.row, kPanel<T>} : packed_panels<T>(packed, depth);
    const T* row = turn == 0 ? start : nullptr;
    share_out(by_rows ? M : panels, shares, [&](int share, int first, int last) {
      T* strip = strips + size_t(share) * kDepth * kRows;
      if (by_rows) {
        gemm<T>(last - first, N, depth, A.from(first, k0), ready, row, C + first * c_row, c_row, add || turn > 0, strip);
      } else {
        const int n0 = first * kPanel<T>;
        gemm<T>(M, smaller(last * kPanel<T>, N) - n0, depth, A.from(0, k0), ready.from(0, first), row ? row + n0 : nullptr,
                C + n0, c_row, add || turn > 0, strip);
      }
    });
  }
  scratch.release(mark);
}

}  // namespace
