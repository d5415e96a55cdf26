// A small pool of threads that share out a loop.
#pragma once

namespace elman {

using Task = void (*)(void *context, int index);

// Runs task(context, i) for every i in [0, count), each on a thread of its own where the pool is free, and returns when
// all are done. Where another Python thread is using the pool, or after a failed start, the caller runs them all.
void run_tasks(int count, Task task, void *context);

}  // namespace elman
