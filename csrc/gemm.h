// Matrix products: C (M, N) = A (M, K) · B (K, N), A of any layout, B with contiguous rows or columns.
//
// B is packed into panels of kPanel columns, k after k, zeros filling the last panel. Its entries are packed as E, which is
// T, or what T is rounded to before the product (tiles.h). A register tile of up to kRows
// rows of C stays in registers over a block of K. The method is that of K. Goto and R. van de Geijn, "Anatomy of
// high-performance matrix multiplication" (2008), with A left where it is unless its columns are contiguous.
#pragma once

#include "scratch.h"
#include "sharing.h"

namespace {

template <class E>
constexpr int kPanel = 2 * kWidth<E>;
#if defined(__AVX512F__)
template <class E>
constexpr int kRows = 12;  // 24 of 32 registers accumulate
#else
template <class E>
constexpr int kRows = 6;  // 12 of 16
#endif
template <class E>
constexpr int kDepth = 256;             // of K at a time: a strip of A and a panel of B lie in the first cache
template <class E>
constexpr int kAlong = 1;               // entries of K that are packed together, zeros filling the last
template <class E>
constexpr int kTogether = 1;            // rows of A that one thread takes together
constexpr int kColumns = 512;           // of N at a time: the panels of a block lie in the second
template <class E>
constexpr int kBlock = 32 * kRows<E>;   // of M at a time: their part of C stays in the second over the whole of K
template <class E>
constexpr int kStrip = kDepth<E> * kRows<E>;  // entries of A that a thread copies at a time
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
template <class E>
struct Panels {
  const E* data;
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

template <class E>
inline int panels_of(int N) {
  return parts_of(N, kPanel<E>);
}

// K of a packed matrix: whole numbers of kAlong.
template <class E>
inline int packed_depth(int K) {
  return parts_of(K, kAlong<E>) * kAlong<E>;
}

template <class E>
inline size_t packed_size(int K, int N) {
  return size_t(packed_depth<E>(K)) * panels_of<E>(N) * kPanel<E>;
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

template <class T, class E>
void pack_shared(View<T> B, int K, int N, E* packed, int shares) {
  const int panels = panels_of<E>(N);
  share_out(panels, smaller(shares, panels), [&](int, int first, int last) { pack(B, K, N, packed, first, last); });
}

template <class E>
Panels<E> packed_panels(const E* packed, int K) {
  return {packed, kPanel<E>, ptrdiff_t(packed_depth<E>(K)) * kPanel<E>};
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
// contiguous (a transposed matrix) is first copied to `strip` (kStrip), where its entries lie as they are used.
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
// add: C += A·B, else C = A·B. strip: kStrip entries, or null where the rows of A are contiguous.
template <class T>
void gemm(int M, int N, int K, View<T> A, Panels<T> B, const T* start, T* C, ptrdiff_t c_row, bool add, T* strip = nullptr) {
  const int blocks = parts_of(M, kBlock<T>), depths = parts_of(K, kDepth<T>);
  for (int block = 0; block < blocks; ++block) {
    const int m0 = part(M, blocks, block), rows_here = part(M, blocks, block + 1) - m0;
    const int strips = parts_of(rows_here, kRows<T>);  // shared evenly: 25 = 9 + 8 + 8
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

// The rows of a time step and of the one before, as gemm takes them: those of T where they are. t may be -1.
template <class T, class E>
class StepRows {
 public:
  // Rows of so many parts, each of so many columns.
  StepRows(elman::Scratch&, int /*rows*/, int parts, int columns) : row_(ptrdiff_t(parts) * columns) {}
  // Some rows of step t are done, in these columns of every part.
  void keep(int /*t*/, const T*, int /*first*/, int /*last*/, int /*column*/, int /*columns*/) const {}
  View<T> of(int /*t*/, const T* rows, int first) const { return View<T>{rows, row_, 1}.from(first, 0); }

 private:
  ptrdiff_t row_;
};

// The whole product by several threads. They share rows of C, or its panels where it has few rows.
template <class T, class E = T>
void product(int M, int N, int K, View<T> A, View<T> B, const T* start, T* C, ptrdiff_t c_row, bool add, int threads,
             elman::Scratch& scratch) {
  const size_t mark = scratch.mark();
  const int panels = panels_of<E>(N), at_once = larger(kDepth<E>, kPacked / (panels * kPanel<E>));
  const int turns = parts_of(K, at_once);
  const bool by_rows = M >= threads * kRows<E> || M >= N;
  const int shares = shares_of(by_rows ? M : panels, 2. * M * N * K, threads);
  E* packed = take<E>(scratch, packed_size<E>(parts_of(K, turns), N));
  E* strips = take<E>(scratch, size_t(shares) * kStrip<E>);
  for (int turn = 0; turn < turns; ++turn) {
    const int k0 = part(K, turns, turn), depth = part(K, turns, turn + 1) - k0;
    Panels<E> ready = packed_panels<E>(packed, depth);
    bool direct = false;
    if constexpr (std::is_same_v<T, E>) {
      // B may stay where it is if its rows are short, so that a panel's lines do not fall into the same few cache sets, or
      // if few strips read it.
      direct = B.column == 1 && N % kPanel<E> == 0 && (B.row <= 256 || M <= 4 * kRows<E> * shares);
      if (direct) ready = {B.data + k0 * B.row, B.row, kPanel<E>};
    }
    if (!direct) pack_shared(B.from(k0, 0), depth, N, packed, shares);
    const T* row = turn == 0 ? start : nullptr;
    share_out(by_rows ? M : panels, shares, [&](int share, int first, int last) {
      E* strip = strips + size_t(share) * kStrip<E>;
      if (by_rows) {
        gemm<T>(last - first, N, depth, A.from(first, k0), ready, row, C + first * c_row, c_row, add || turn > 0, strip);
      } else {
        const int n0 = first * kPanel<E>;
        gemm<T>(M, smaller(last * kPanel<E>, N) - n0, depth, A.from(0, k0), ready.from(0, first), row ? row + n0 : nullptr,
                C + n0, c_row, add || turn > 0, strip);
      }
    });
  }
  scratch.release(mark);
}

}  // namespace
