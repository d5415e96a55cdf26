// A small pool of threads that share out a loop.
#pragma once

#include <atomic>
#include <cstdint>

namespace elman {

using Task = void (*)(void *context, int index);

// Runs task(context, i) for every i in [0, count), each on a thread of its own where the pool is free, and returns when
// all are done. Where another Python thread is using the pool, or after a failed start, the caller runs them all.
void run_tasks(int count, Task task, void *context);

// The same, or false and nothing done where they cannot all run at the same time.
bool run_at_once(int count, Task task, void *context);

// Where tasks that run at the same time wait for each other.
class Meeting {
 public:
  explicit Meeting(int count);
  // The caller comes for the `times`-th time, counted from 1: returns when all have come as often.
  void wait(int64_t times);

 private:
  const int count_, spins_;
  alignas(64) std::atomic<int64_t> arrived_{0};
};

}  // namespace elman
