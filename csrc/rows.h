// Rows of a table by id: the product of one-hot vectors with it, and its gradient. And sums of rows.
#pragma once

#include "gemm.h"

namespace {

// rows (N, C) = table (V, C)[ids]; the table's strides are free, since it is often a transposed weight.
template <class T>
void gather_rows(int N, int C, View<T> table, const int64_t* ids, T* rows, int threads) {
  share_out(N, shares_of(N, 4. * N * C, threads), [&](int, int first, int last) {
    for (int i = first; i < last; ++i) {
      const T* from = table.data + ids[i] * table.row;
      T* to = rows + size_t(i) * C;
      if (table.column == 1)
        std::memcpy(to, from, C * sizeof(T));
      else
        for (int c = 0; c < C; ++c) to[c] = from[c * table.column];
    }
  });
}

// table (V, C)[ids] += d_rows (N, C), row after row; the table begins as zeros. Threads share the columns.
template <class T>
void scatter_add_rows(int N, int C, const T* d_rows, const int64_t* ids, T* table, int threads) {
  const int vectors = parts_of(C, kWidth<T>);
  share_out(vectors, shares_of(vectors, 4. * N * C, threads), [&](int, int first, int last) {
    const int c0 = first * kWidth<T>, columns = smaller(last * kWidth<T>, C) - c0;
    for (int i = 0; i < N; ++i) {
      const T* from = d_rows + size_t(i) * C + c0;
      T* to = table + size_t(ids[i]) * C + c0;
      by_vectors<T>(columns, [&](int c, auto n) { store(to + c, load(to + c, n) + load(from + c, n), n); });
    }
  });
}

// rows (N, C; row_size entries a row) += b (C).
template <class T>
void add_to_rows(int N, int C, const T* b, T* rows, size_t row_size) {
  for (int i = 0; i < N; ++i)
    by_vectors<T>(C, [&](int c, auto n) {
      T* to = rows + i * row_size + c;
      store(to, load(to, n) + load(b + c, n), n);
    });
}

// sums (C) of the columns [c0, c0 + C) of rows (N, row_size).
template <class T>
void sum_rows(int N, int C, const T* rows, size_t row_size, T* sums, int threads) {
  const int vectors = parts_of(C, kWidth<T>);
  share_out(vectors, shares_of(vectors, 2. * N * C, threads), [&](int, int first, int last) {
    const int c0 = first * kWidth<T>, columns = smaller(last * kWidth<T>, C) - c0;
    std::memset(sums + c0, 0, columns * sizeof(T));
    for (int i = 0; i < N; ++i) {
      const T* from = rows + i * row_size + c0;
      by_vectors<T>(columns,
                    [&](int c, auto n) { store(sums + c0 + c, load(sums + c0 + c, n) + load(from + c, n), n); });
    }
  });
}

}  // namespace
