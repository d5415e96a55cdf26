// What the multiply-and-add units reach on registers alone: the roof that a share of peak is measured against.
#pragma once

#include <chrono>

#include "sharing.h"

namespace {

template <class T>
double fma_peak(int threads) {
  constexpr int kSums = 12, kTimes = 20000, kRounds = 400;
  using Clock = std::chrono::steady_clock;
  double best = 0;
  for (int round = 0; round < kRounds; ++round) {
    const auto began = Clock::now();
    share_out(threads, threads, [&](int, int, int) {
      Vec<T> sums[kSums];
      for (int i = 0; i < kSums; ++i) sums[i] = broadcast(T(i));
      const Vec<T> a = broadcast(T(0.999)), b = broadcast(T(0.5));
      for (int k = 0; k < kTimes; ++k)
#pragma GCC unroll 12
        for (int i = 0; i < kSums; ++i) sums[i] = sums[i] * a + b;
      for (int i = 1; i < kSums; ++i) sums[0] += sums[i];
      volatile T kept = sums[0][0];
      (void)kept;
    });
    const double seconds = std::chrono::duration<double>(Clock::now() - began).count();
    const double rate = 2. * kWidth<T> * kSums * kTimes * threads / seconds;
    best = rate > best ? rate : best;
  }
  return best;
}

}  // namespace
