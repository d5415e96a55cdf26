#include "threads.h"

#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace elman {
namespace {

constexpr int kSpins = 400000;  // some milliseconds: longer than the gap between two steps
constexpr int kSpinsOfAMeeting = 4000;  // then others may have the processor
constexpr int kPauses = 64;     // spins between two pauses: a virtual machine takes closer ones for idling and steps in

// Spins until done() holds, or so many times; says whether it does.
template <class F>
inline bool spin(F done, int spins) {
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
  return done();
}

// More threads than there are processors wait for each other asleep, as one that spins keeps another from its work.
bool crowded(int count) {
  static const int processors = int(std::thread::hardware_concurrency());
  return processors > 0 && count > processors;
}

class Pool {
 public:
  std::mutex busy;

  // False where the system has no thread or memory left to give.
  bool grow(int count) {
    try {
      workers_.reserve(count - 1);
      while (int(workers_.size()) < count - 1) {
        auto worker = std::make_unique<Worker>();
        std::thread([this, &own = *worker, index = int(workers_.size()) + 1] { work(own, index); }).detach();
        workers_.push_back(std::move(worker));
      }
      return true;
    } catch (const std::exception &) {
      return false;
    }
  }

  void run(int count, Task task, void *context) {
    const int spins = crowded(count) ? 0 : kSpins;
    pending_.store(count - 1, std::memory_order_relaxed);
    for (int index = 1; index < count; ++index) {
      Worker &worker = *workers_[index - 1];
      worker.task = task;
      worker.context = context;
      worker.spins = spins;
      worker.calls.fetch_add(1);
      if (worker.asleep.load()) {
        { std::lock_guard lock(worker.mutex); }  // between its last look at the calls and its sleep it is asleep after this
        worker.wake.notify_one();
      }
    }
    task(context, 0);
    while (!spin([&] { return pending_.load(std::memory_order_acquire) == 0; }, spins)) std::this_thread::yield();
  }

 private:
  struct alignas(64) Worker {  // one cache line brings a worker all that it needs
    std::atomic<unsigned> calls{0};
    std::atomic<bool> asleep{false};
    int spins = 0;  // after the call, before it sleeps
    Task task = nullptr;
    void *context = nullptr;
    std::mutex mutex;
    std::condition_variable wake;
  };

  void work(Worker &own, int index) {
    int spins = kSpins;
    for (unsigned done = 0;; ++done) {
      const auto called = [&] { return own.calls.load() != done; };
      if (!spin(called, spins)) {
        std::unique_lock lock(own.mutex);
        own.asleep.store(true);
        own.wake.wait(lock, called);
        own.asleep.store(false);
      }
      spins = own.spins;
      own.task(own.context, index);
      pending_.fetch_sub(1, std::memory_order_release);
    }
  }

  std::vector<std::unique_ptr<Worker>> workers_;
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

Meeting::Meeting(int count) : count_(count), spins_(crowded(count) ? 0 : kSpinsOfAMeeting) {}

void Meeting::wait(int64_t times) {
  arrived_.fetch_add(1, std::memory_order_acq_rel);
  const auto complete = [&] { return arrived_.load(std::memory_order_acquire) >= times * count_; };
  while (!spin(complete, spins_)) std::this_thread::yield();
}

}  // namespace elman
