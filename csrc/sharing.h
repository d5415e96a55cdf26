// A loop shared out among threads, in as many shares as its work is worth.
#pragma once

#include "simd.h"
#include "threads.h"

namespace {

constexpr double kWorkOfAThread = 1e6;  // floating-point operations below which waking a thread costs more than it gives
constexpr double kWorkOfAWeight = 32;  // what reading a weight that is used once costs, in such operations

// How many threads should share `count` pieces of so much work in all.
inline int shares_of(int count, double work, int threads) {
  const double worth = work / kWorkOfAThread;
  int shares = smaller(threads, count);
  if (worth < shares) shares = int(worth);
  return shares < 1 ? 1 : shares;
}

// Runs f(share, first, last) for every share of [0, count).
template <class F>
void share_out(int count, int shares, F f) {
  struct Context {
    F* f;
    int count, shares;
  } context{&f, count, shares};
  elman::run_tasks(
      shares,
      [](void* pointer, int i) {
        const Context& c = *static_cast<Context*>(pointer);
        (*c.f)(i, part(c.count, c.shares, i), part(c.count, c.shares, i + 1));
      },
      &context);
}

}  // namespace
