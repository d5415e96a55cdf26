// Training with the operands of products rounded to bfloat16, for processors with AMX tiles.
#include "tiles.h"

#include "kernel.h"
#include "step.h"

namespace {

void rounded_product(int M, int N, int K, const float* A, ptrdiff_t a_row, ptrdiff_t a_column, const float* B, ptrdiff_t b_row,
                     ptrdiff_t b_column, float* C, elman::Scratch& scratch, int threads) {
  product<float, Bf16>(M, N, K, {A, a_row, a_column}, {B, b_row, b_column}, nullptr, C, N, false, threads, scratch);
}

}  // namespace

namespace elman {

constinit const Bf16Functions bf16_functions = {rounded_product, loss_and_gradients<float, Bf16>};

}  // namespace elman
