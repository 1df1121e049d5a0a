// A fork-join pool: `run` hands out task indices to its threads and returns when all tasks are done. The caller is one
// of the threads. Each thread begins with its own range of neighbouring tasks and then helps the others. Tasks divide
// work over outputs, never inside a chain, so results do not depend on which thread takes which task. One caller at a
// time. Workers spin briefly and then sleep; they compute in kvass's float environment.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <type_traits>

namespace kvass {

class ThreadPool {
 public:
  // `threads`: at least 1, the caller included. If the system cannot start them all, the pool has fewer. `pin`: if
  // every thread can have a CPU, worker i is pinned to CPU i of the process's affinity mask; CPU 0 is left to the
  // caller. Use it in a process with one working pool: the workers of two pools would share CPUs.
  explicit ThreadPool(int threads, bool pin = false);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return threads_; }

  // While it lives and `flag` is set, the pool's tasks are left out: what they would have computed is not there. For
  // the caller of run(), who then drops the whole work. null: nothing happens.
  class Cancel {
   public:
    Cancel(ThreadPool& pool, const std::atomic<bool>* flag) : pool_(pool), before_(pool.cancel_) {
      pool.cancel_ = flag;
    }
    ~Cancel() { pool_.cancel_ = before_; }
    Cancel(const Cancel&) = delete;
    Cancel& operator=(const Cancel&) = delete;

   private:
    ThreadPool& pool_;
    const std::atomic<bool>* before_;
  };
  bool cancelled() const { return cancel_ != nullptr && cancel_->load(std::memory_order_relaxed); }

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
  const std::atomic<bool>* cancel_ = nullptr;
  std::unique_ptr<Shared> shared_;
};

}  // namespace kvass
