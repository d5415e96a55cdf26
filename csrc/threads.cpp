#include "threads.h"

#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>

namespace elman {
namespace {

constexpr int kSpins = 20000;  // some 50 µs: longer than a gap between two steps, shorter than a person notices

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

class Pool {
 public:
  std::mutex busy;

  // False where the system has no thread left to give.
  bool grow(int count) {
    try {
      while (workers_ < count - 1) {
        std::thread([this, index = workers_ + 1, seen = round_.load()] { work(index, seen); }).detach();
        ++workers_;
      }
      return true;
    } catch (const std::system_error &) {
      return false;
    }
  }

  void run(int count, Task task, void *context) {
    task_ = task;
    context_ = context;
    count_ = count;
    pending_.store(workers_);
    {
      std::lock_guard lock(mutex_);
      round_.fetch_add(1);
    }
    wake_.notify_all();
    task(context, 0);
    while (pending_.load() > 0) relax();
  }

 private:
  void work(int index, unsigned seen) {
    for (;;) {
      for (int i = 0; i < kSpins && round_.load() == seen; ++i) relax();
      if (round_.load() == seen) {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] { return round_.load() != seen; });
      }
      ++seen;
      if (index < count_) task_(context_, index);
      pending_.fetch_sub(1);
    }
  }

  int workers_ = 0;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<unsigned> round_{0};
  std::atomic<int> pending_{0};
  Task task_ = nullptr;
  void *context_ = nullptr;
  int count_ = 0;
};

Pool *pool = nullptr;

// A fork copies the pool but none of its threads: the child leaves that copy alone and starts its own.
void forget_pool() { pool = new Pool; }

Pool &the_pool() {
  static const bool once = [] {
    pool = new Pool;
    pthread_atfork(nullptr, nullptr, forget_pool);
    return true;
  }();
  (void)once;
  return *pool;
}

}  // namespace

void run_tasks(int count, Task task, void *context) {
  if (count > 1) {
    Pool &shared = the_pool();
    if (std::unique_lock lock(shared.busy, std::try_to_lock); lock && shared.grow(count)) {
      shared.run(count, task, context);
      return;
    }
  }
  for (int i = 0; i < count; ++i) task(context, i);
}

}  // namespace elman
