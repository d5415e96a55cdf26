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

// One of `count` shares that run at the same time and can wait for each other.
struct Share {
  int index, count;
  elman::Meeting* meeting;
  int64_t met = 0;

  void meet() {
    if (count > 1) meeting->wait(++met);
  }
  // Its part of [0, total).
  int first(int total) const { return part(total, count, index); }
  int last(int total) const { return part(total, count, index + 1); }
};

// Runs f(share) for each of `shares` shares, or for one that is all where the pool is busy.
template <class F>
void run_shares(int shares, F f) {
  struct Context {
    F* f;
    int shares;
    elman::Meeting meeting;
  } context{&f, shares, elman::Meeting(shares)};
  const bool done = elman::run_at_once(
      shares,
      [](void* pointer, int i) {
        Context& c = *static_cast<Context*>(pointer);
        (*c.f)(Share{i, c.shares, &c.meeting});
      },
      &context);
  if (!done) f(Share{0, 1, nullptr});
}

}  // namespace
