// A fork-join pool: `run` hands out task indices to its threads and returns when all are done. The caller is one of the
// threads. Each begins with a range of neighbouring tasks of its own and then helps the others. Tasks divide work over
// outputs, never inside a chain, so results do not depend on which thread takes which task. One caller at a time; workers
// spin shortly and then sleep, and hold the float environment of kvass.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

namespace kvass {

class ThreadPool {
 public:
  // At least 1 thread; 1 starts none; fewer where the system gives no more. `pin`: where there is a CPU for each, worker i
  // stays on the i-th that the process may use, which leaves the first to the caller. For a process with one pool at work:
  // the workers of two would share CPUs.
  explicit ThreadPool(int threads, bool pin = false);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return threads_; }

  // Calls body(task, thread) for every task in [0, tasks), fewer than 2^31; thread in [0, threads()). No allocation.
  template <class Body>
  void run(int64_t tasks, Body&& body) {
    using Function = std::remove_reference_t<Body>;
    run_erased(
        tasks, [](void* context, int64_t task, int thread) { (*static_cast<Function*>(context))(task, thread); },
        const_cast<void*>(static_cast<const void*>(&body)));
  }

 private:
  using Erased = void (*)(void* context, int64_t task, int thread);
  void run_erased(int64_t tasks, Erased body, void* context);

  struct Shared;
  int threads_;
  std::unique_ptr<Shared> shared_;
};

}  // namespace kvass
