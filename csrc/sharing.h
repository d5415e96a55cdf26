// A loop shared out among threads, in as many shares as its work is worth.
#pragma once

#include "simd.h"
#include "threads.h"

namespace {

constexpr double kWorkOfAThread = 2e5;  // floating-point operations below which waking a thread costs more than it gives

inline int shares_of(int streams, double work, int threads) {
  const double worth = work / kWorkOfAThread;
  int shares = smaller(threads, streams);
  if (worth < shares) shares = int(worth);
  return shares < 1 ? 1 : shares;
}

// Runs f(first, last) on shares of [0, n).
template <class F>
void share_out(int n, int shares, F f) {
  struct Context {
    F* f;
    int n, shares;
  } context{&f, n, shares};
  elman::run_tasks(
      shares,
      [](void* pointer, int i) {
        const Context& c = *static_cast<Context*>(pointer);
        (*c.f)(int(int64_t(c.n) * i / c.shares), int(int64_t(c.n) * (i + 1) / c.shares));
      },
      &context);
}

}  // namespace
