#include "threads.h"

#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>

namespace elman {
namespace {

constexpr int kSpins = 400000;  // some milliseconds: longer than the gap between two steps
constexpr int kSpinsOfAMeeting = 4000;  // then others may have the processor, for there may be more threads than processors
constexpr int kPauses = 64;     // spins between two pauses: a virtual machine takes closer ones for idling and steps in

// Spins until done() holds, or so many times; says whether it does.
template <class F>
inline bool spin(F done, int spins = kSpins) {
  for (int i = 0; i < spins; ++i) {
    if (done()) return true;
    if (i % kPauses == kPauses - 1) {
#if defined(__x86_64__)
      __builtin_ia32_pause();
#else
      std::this_thread::yield();
#endif
    }
  }
  return false;
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
    pending_.store(workers_, std::memory_order_relaxed);
    round_.fetch_add(1);
    if (sleepers_.load() > 0) {
      { std::lock_guard lock(mutex_); }  // a worker between its last look at the round and its sleep is asleep after this
      wake_.notify_all();
    }
    task(context, 0);
    while (!spin([&] { return pending_.load(std::memory_order_acquire) == 0; })) std::this_thread::yield();
  }

 private:
  void work(int index, unsigned seen) {
    const auto called = [&] { return round_.load() != seen; };
    for (;;) {
      if (!spin(called)) {
        std::unique_lock lock(mutex_);
        sleepers_.fetch_add(1);
        wake_.wait(lock, called);
        sleepers_.fetch_sub(1);
      }
      ++seen;
      if (index < count_) task_(context_, index);
      pending_.fetch_sub(1, std::memory_order_release);
    }
  }

  int workers_ = 0;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<int> sleepers_{0};
  alignas(64) std::atomic<unsigned> round_{0};  // one cache line brings a worker all that it needs
  Task task_ = nullptr;
  void *context_ = nullptr;
  int count_ = 0;
  alignas(64) std::atomic<int> pending_{0};
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

bool run_at_once(int count, Task task, void *context) {
  if (count > 1) {
    Pool &shared = the_pool();
    std::unique_lock lock(shared.busy, std::try_to_lock);
    if (!lock || !shared.grow(count)) return false;
    shared.run(count, task, context);
  } else {
    task(context, 0);
  }
  return true;
}

void run_tasks(int count, Task task, void *context) {
  if (!run_at_once(count, task, context))
    for (int i = 0; i < count; ++i) task(context, i);
}

void Meeting::wait(int64_t times) {
  arrived_.fetch_add(1, std::memory_order_acq_rel);
  const auto complete = [&] { return arrived_.load(std::memory_order_acquire) >= times * count_; };
  while (!spin(complete, kSpinsOfAMeeting)) std::this_thread::yield();
}

}  // namespace elman
