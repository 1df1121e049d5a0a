#include "base/thread_pool.h"

#include <signal.h>

#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "base/cpu.h"
#include "base/float_env.h"

namespace kvass {
namespace {

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Signals are the callers': one that a worker took would not end the call in which a caller waits for it. Threads that
// are made while this lives never see one.
class NoSignals {
 public:
  NoSignals() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~NoSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  NoSignals(const NoSignals&) = delete;
  NoSignals& operator=(const NoSignals&) = delete;

 private:
  sigset_t before_{};
};

}  // namespace

// A job is published by setting `unclaimed` and raising `generation`. Threads claim tasks one by one; the job is done
// when every task is. A worker that wakes late finds nothing and is not waited for: on a busy machine that may take a
// time slice of the system's, a thousand times a small job. What describes the job may be read once a task of it has
// been claimed, since it stands until that task is done.
struct ThreadPool::Shared {
  std::atomic<uint64_t> generation{0};
  std::atomic<bool> stop{false};
  alignas(64) std::atomic<int64_t> unclaimed{0};
  alignas(64) std::atomic<int64_t> done{0};
  int64_t tasks = 0;
  Erased body = nullptr;
  void* context = nullptr;
  int spins = 0;  // polls before a thread sleeps; 0 where there are more threads than CPUs
  std::mutex mutex;
  std::condition_variable wake;
  std::vector<std::thread> workers;

  void work(int thread) {
    int64_t mine = 0;
    for (int64_t left = unclaimed.load(std::memory_order_relaxed); left > 0;) {
      if (!unclaimed.compare_exchange_weak(left, left - 1, std::memory_order_acquire, std::memory_order_relaxed))
        continue;
      body(context, tasks - left, thread);
      ++mine;
      left = unclaimed.load(std::memory_order_relaxed);
    }
    if (mine > 0) done.fetch_add(mine, std::memory_order_release);
  }

  void worker(int thread) {
    FloatEnvironment environment;
    for (uint64_t seen = 0;;) {
      for (int i = 0; i < spins && generation.load(std::memory_order_acquire) == seen; ++i) relax();
      if (generation.load(std::memory_order_acquire) == seen) {
        std::unique_lock lock(mutex);
        wake.wait(lock, [&] { return generation.load(std::memory_order_acquire) != seen; });
      }
      seen = generation.load(std::memory_order_acquire);
      if (stop.load(std::memory_order_relaxed)) return;
      work(thread);
    }
  }

  void publish() {
    {
      std::lock_guard lock(mutex);  // a worker between its check and its sleep must not miss this
      generation.fetch_add(1, std::memory_order_release);
    }
    wake.notify_all();
  }
};

ThreadPool::ThreadPool(int threads) : threads_(threads < 1 ? 1 : threads) {
  if (threads_ == 1) return;
  shared_ = std::make_unique<Shared>();
  shared_->spins = threads_ <= usable_cpus() ? 20000 : 0;
  shared_->workers.reserve(static_cast<size_t>(threads_ - 1));
  const NoSignals inherited;
  for (int thread = 1; thread < threads_; ++thread) {
    try {
      shared_->workers.emplace_back([this, thread] { shared_->worker(thread); });
    } catch (const std::exception&) {  // no more threads, or no memory: fewer do the same work, to the same bits
      threads_ = thread;
    }
  }
}

ThreadPool::~ThreadPool() {
  if (!shared_) return;
  shared_->stop.store(true, std::memory_order_relaxed);
  shared_->publish();
  for (std::thread& worker : shared_->workers) worker.join();
}

void ThreadPool::run_erased(int64_t tasks, Erased body, void* context) {
  if (!shared_ || tasks <= 1) {
    for (int64_t task = 0; task < tasks; ++task) body(context, task, 0);
    return;
  }
  Shared& shared = *shared_;
  shared.tasks = tasks;
  shared.body = body;
  shared.context = context;
  shared.done.store(0, std::memory_order_relaxed);
  shared.unclaimed.store(tasks, std::memory_order_release);
  shared.publish();
  shared.work(0);
  for (int polls = 0; shared.done.load(std::memory_order_acquire) != tasks; ++polls) {
    if (polls < shared.spins) {
      relax();
    } else {
      std::this_thread::yield();
    }
  }
}

}  // namespace kvass
