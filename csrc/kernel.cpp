// Everything that computes, compiled once for each instruction set (ELMAN_KERNEL names the result).
#include "kernel.h"

#include "generate.h"
#include "optimizers.h"
#include "output.h"
#include "peak.h"
#include "recurrent.h"
#include "rows.h"
#include "step.h"

namespace {

template <class T>
void strided_product(int M, int N, int K, const T* A, ptrdiff_t a_row, ptrdiff_t a_column, const T* B, ptrdiff_t b_row,
                     ptrdiff_t b_column, T* C, elman::Scratch& scratch, int threads) {
  product<T>(M, N, K, {A, a_row, a_column}, {B, b_row, b_column}, nullptr, C, N, false, threads, scratch);
}

template <class T>
void strided_gather_rows(int N, int C, const T* table, ptrdiff_t row_stride, ptrdiff_t column_stride, const int64_t* ids,
                         T* rows, int threads) {
  gather_rows<T>(N, C, {table, row_stride, column_stride}, ids, rows, threads);
}

template <class T>
constexpr elman::Functions<T> kFunctions = {
    recurrent_forward<T>, recurrent_backward<T>,  strided_product<T>, output<T>,   strided_gather_rows<T>,
    scatter_add_rows<T>,  loss_and_gradients<T>,  global_norm<T>,     update<T>,   packed_weights_size<T>,
    pack_weights<T>,      generate<T>,            fma_peak<T>,
};

}  // namespace

namespace elman {

extern const Kernel ELMAN_KERNEL;
constinit const Kernel ELMAN_KERNEL = {kFunctions<float>, kFunctions<double>};

}  // namespace elman
