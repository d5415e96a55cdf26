// Matrix products of operands that are rounded to bfloat16, summed in float32 by the tile registers of Intel AMX.
//
// They have the names of gemm.h, told apart by what B is packed as. A tile of A holds 16 rows and 32 of K; one of B 32 of
// K and 16 columns, the two entries of a pair along K side by side. Each is 1 KB in one piece; zeros fill those at the
// edges. Rounding is to nearest even. Numbers below 2^-126 count as 0, since the processor's instructions treat them so.
#pragma once

#include <immintrin.h>

#include "gemm.h"

namespace {

struct Bf16 {
  uint16_t bits;
};

constexpr int kSide = 16;
constexpr int kTile = 512;  // entries

template <>
constexpr int kPanel<Bf16> = 2 * kSide;  // a tile of B and its neighbour, then the two below them
template <>
constexpr int kAlong<Bf16> = 32;
template <>
constexpr int kTogether<Bf16> = kSide;
template <>
constexpr int kRows<Bf16> = kSide;
template <>
constexpr int kDepth<Bf16> = 256;  // 16 KB of A and 16 KB of B
template <>
constexpr int kBlock<Bf16> = 256;
template <>
constexpr int kStrip<Bf16> = kBlock<Bf16> * kDepth<Bf16>;

// The tile registers, eight of 16 rows of 64 bytes, for as long as this lives.
class TileRegisters {
 public:
  TileRegisters() {
    struct Shapes {
      uint8_t palette = 1, start = 0, reserved[14] = {};
      uint16_t bytes_a_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    };
    alignas(64) static constexpr Shapes shapes;
    _tile_loadconfig(&shapes);
  }
  ~TileRegisters() { _tile_release(); }
  TileRegisters(const TileRegisters&) = delete;
  TileRegisters& operator=(const TileRegisters&) = delete;
};

// A matrix rounded to tiles of A: the one of rows 16·i and entries 32·k of K at data[i · below + k · kTile].
struct Tiles {
  const Bf16* data;
  ptrdiff_t below;

  Tiles from(int m, int k) const { return {data + m / kSide * below + k / kAlong<Bf16> * kTile, below}; }
};

// The first `count` of 16 floats, the rest 0.
inline Vec<float> first_of(const float* from, int count) {
  return (Vec<float>)_mm512_maskz_loadu_ps(count <= 0 ? 0 : count >= kSide ? 0xffff : (1u << count) - 1, from);
}

// from (rows, along), its rows or its columns contiguous -> a tile of A, or one of B if that is its transpose.
inline void round_tile(View<float> from, int rows, int along, bool transposed, Bf16* to) {
  struct Order {
    uint16_t at[2 * kSide];
  };
  static constexpr Order side_by_side = [] {
    Order order{};
    for (int i = 0; i < 2 * kSide; ++i) order.at[i] = uint16_t(i / 2 + i % 2 * kSide);
    return order;
  }();
  const auto rounded = [](Vec<float> first, Vec<float> second) {
    return (__m512i)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first);
  };
  Vec<float> pairs[kSide];  // pairs[i][j]: of row i, the j-th along K; or with contiguous columns the other way round
  const bool by_rows = from.column == 1;
  for (int i = 0; i < kSide; ++i) {
    __m512i both = _mm512_setzero_si512();
    if (by_rows && i < rows) {
      const float* row = from.data + i * from.row;
      both = rounded(first_of(row, along), first_of(row + kSide, along - kSide));
    } else if (!by_rows && 2 * i < along) {
      const float* column = from.data + 2 * i * from.column;
      both = rounded(first_of(column, rows), first_of(column + from.column, 2 * i + 1 < along ? rows : 0));
      both = _mm512_permutexvar_epi16(_mm512_loadu_si512(&side_by_side), both);
    }
    pairs[i] = (Vec<float>)both;
  }
  if (by_rows == transposed) transpose_square<float>(pairs);
  for (int i = 0; i < kSide; ++i) std::memcpy(to + i * 2 * kSide, &pairs[i], sizeof pairs[i]);
}

// A (M, K) -> tiles of A.
inline Tiles round_rows(View<float> A, int M, int K, Bf16* to, ptrdiff_t below) {
  const auto round = [&](int m, int k) {
    round_tile(A.from(m, k), smaller(kSide, M - m), smaller(kAlong<Bf16>, K - k), false,
               to + m / kSide * below + k / kAlong<Bf16> * kTile);
  };
  // Along what is contiguous, where the processor looks ahead.
  if (A.column == 1)
    for (int m = 0; m < M; m += kSide)
      for (int k = 0; k < K; k += kAlong<Bf16>) round(m, k);
  else
    for (int k = 0; k < K; k += kAlong<Bf16>)
      for (int m = 0; m < M; m += kSide) round(m, k);
  return {to, below};
}

// B (K, N) -> panels [first, last).
inline void pack(View<float> B, int K, int N, Bf16* packed, int first, int last) {
  const Panels<Bf16> panels = packed_panels<Bf16>(packed, K);
  for (int n = first * kPanel<Bf16>; n < last * kPanel<Bf16>; n += kSide)
    for (int k = 0; k < K; k += kAlong<Bf16>)
      round_tile(B.transposed().from(n, k), larger(0, smaller(kSide, N - n)), smaller(kAlong<Bf16>, K - k), true,
                 packed + n / kPanel<Bf16> * panels.panel + k * panels.depth + n % kPanel<Bf16> / kSide * kTile);
}

// R × Q tiles of C = start or C, plus A · B. start: 16 · Q entries, added to every row, or null. Not inline, as GCC does
// not know that its tile loads read memory, and could leave out what the caller wrote there.
template <int R, int Q>
[[gnu::noinline]] void tiles_of_C(int K, Tiles A, const Bf16* B, const float* start, float* C, ptrdiff_t c_row, bool add) {
  const ptrdiff_t bytes = c_row * sizeof(float), first_bytes = add ? bytes : 0;
  float* below = C + kSide * c_row;
  if (add || start) {
    const float *from = add ? C : start, *from_below = add ? below : start;
    _tile_loadd(0, from, first_bytes);
    if constexpr (Q == 2) _tile_loadd(1, from + kSide, first_bytes);
    if constexpr (R == 2) _tile_loadd(2, from_below, first_bytes);
    if constexpr (R == 2 && Q == 2) _tile_loadd(3, from_below + kSide, first_bytes);
  } else {
    _tile_zero(0);
    if constexpr (Q == 2) _tile_zero(1);
    if constexpr (R == 2) _tile_zero(2);
    if constexpr (R == 2 && Q == 2) _tile_zero(3);
  }
  for (int k = 0; k < K; k += kAlong<Bf16>) {
    _tile_loadd(4, A.data, 64);
    _tile_loadd(6, B, 64);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (Q == 2) {
      _tile_loadd(7, B + kTile, 64);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (R == 2) {
      _tile_loadd(5, A.data + A.below, 64);
      _tile_dpbf16ps(2, 5, 6);
    }
    if constexpr (R == 2 && Q == 2) _tile_dpbf16ps(3, 5, 7);
    A.data += kTile;
    B += 2 * kTile;
  }
  _tile_stored(0, C, bytes);
  if constexpr (Q == 2) _tile_stored(1, C + kSide, bytes);
  if constexpr (R == 2) _tile_stored(2, below, bytes);
  if constexpr (R == 2 && Q == 2) _tile_stored(3, below + kSide, bytes);
}

// One thread's product with A rounded already; else as that of gemm.h.
template <class T>
void gemm(int M, int N, int K, Tiles A, Panels<Bf16> B, const T* start, T* C, ptrdiff_t c_row, bool add) {
  constexpr int P = kPanel<Bf16>, R = 2 * kSide;
  const TileRegisters registers;
  for (int k = 0; k < K; k += kDepth<Bf16>) {
    const int depth = smaller(kDepth<Bf16>, K - k);
    const float* first = k ? nullptr : start;
    for (int n = 0; n < N; n += P)
      for (int m = 0; m < M; m += R) {
        const int rows = smaller(R, M - m), columns = smaller(P, N - n);
        const bool one_row = rows <= kSide, one_column = columns <= kSide;
        const auto part = one_row ? (one_column ? tiles_of_C<1, 1> : tiles_of_C<1, 2>)
                                  : (one_column ? tiles_of_C<2, 1> : tiles_of_C<2, 2>);
        const Tiles a = A.from(m, k);
        const Bf16* b = B.from(k, n / P).data;
        float* c = C + m * c_row + n;
        if (rows % kSide == 0 && columns % kSide == 0) {
          part(depth, a, b, first ? first + n : nullptr, c, c_row, add || k);
        } else {  // whole tiles of C beside it, of which it gets what it has room for
          alignas(64) float whole[R * P];
          if (add || k)
            for (int i = 0; i < rows; ++i) std::memcpy(whole + i * P, c + i * c_row, columns * sizeof(float));
          part(depth, a, b, first ? first + n : nullptr, whole, P, add || k);
          for (int i = 0; i < rows; ++i) std::memcpy(c + i * c_row, whole + i * P, columns * sizeof(float));
        }
      }
  }
}

// One thread's product; rows or columns of A are contiguous. strip: kStrip entries.
template <class T>
void gemm(int M, int N, int K, View<T> A, Panels<Bf16> B, const T* start, T* C, ptrdiff_t c_row, bool add, Bf16* strip) {
  for (int m = 0; m < M; m += kBlock<Bf16>)
    for (int k = 0; k < K; k += kDepth<Bf16>) {
      const int rows = smaller(kBlock<Bf16>, M - m), depth = smaller(kDepth<Bf16>, K - k);
      const Tiles rounded = round_rows(A.from(m, k), rows, depth, strip, kSide * kDepth<Bf16>);
      for (int n = 0; n < N; n += kColumns)
        gemm<T>(rows, smaller(kColumns, N - n), depth, rounded, B.from(k, n / kPanel<Bf16>), k || !start ? nullptr : start + n,
             C + m * c_row + n, c_row, add || k);
    }
}

template <>
class StepRows<float, Bf16> {
 public:
  StepRows(elman::Scratch& scratch, int rows, int parts, int columns)
      : parts_(parts), columns_(columns), below_(ptrdiff_t(parts) * packed_depth<Bf16>(columns) * kSide) {
    for (Bf16*& step : steps_) step = take<Bf16>(scratch, parts_of(rows, kSide) * below_);
  }
  // first and column: multiples of the sides of a tile.
  void keep(int t, const float* rows, int first, int last, int column, int columns) const {
    const View<float> from = View<float>{rows, ptrdiff_t(parts_) * columns_, 1}.from(first, column);
    Bf16* to = steps_[t & 1] + first / kSide * below_ + column * kSide;
    for (int part = 0; part < parts_; ++part)
      round_rows(from.from(0, part * columns_), last - first, columns, to + part * packed_depth<Bf16>(columns_) * kSide, below_);
  }
  Tiles of(int t, const float*, int first) const { return Tiles{steps_[t & 1], below_}.from(first, 0); }

 private:
  Bf16* steps_[2];
  int parts_, columns_;
  ptrdiff_t below_;
};

}  // namespace
