#include "base/thread_pool.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <system_error>
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

}  // namespace

// A job is published by raising `generation`; workers take task indices from `next` and count themselves off in
// `finished`.
struct ThreadPool::Shared {
  std::atomic<uint64_t> generation{0};
  std::atomic<bool> stop{false};
  alignas(64) std::atomic<int64_t> next{0};
  alignas(64) std::atomic<int> finished{0};
  int64_t tasks = 0;
  Erased body = nullptr;
  void* context = nullptr;
  int spins = 0;  // polls before a thread sleeps; 0 where there are more threads than CPUs
  std::mutex mutex;
  std::condition_variable wake;
  std::vector<std::thread> workers;

  void work(int thread) {
    for (int64_t task = next.fetch_add(1, std::memory_order_relaxed); task < tasks;
         task = next.fetch_add(1, std::memory_order_relaxed)) {
      body(context, task, thread);
    }
  }

  void worker(int thread) {
    FloatEnvironment environment;
    for (uint64_t seen = 0;;) {
      for (int i = 0; i < spins && generation.load(std::memory_order_acquire) == seen; ++i) relax();
      if (generation.load(std::memory_order_acquire) == seen) {
        std::unique_lock lock(mutex);
        wake.wait(lock, [&] { return generation.load(std::memory_order_acquire) != seen; });
      }
      ++seen;
      if (stop.load(std::memory_order_relaxed)) return;
      work(thread);
      finished.fetch_add(1, std::memory_order_release);
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
  for (int thread = 1; thread < threads_; ++thread) {
    try {
      shared_->workers.emplace_back([this, thread] { shared_->worker(thread); });
    } catch (const std::system_error&) {  // the system gives no more: fewer threads do the same work, to the same bits
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
  shared.next.store(0, std::memory_order_relaxed);
  shared.finished.store(0, std::memory_order_relaxed);
  shared.publish();
  shared.work(0);
  for (int polls = 0; shared.finished.load(std::memory_order_acquire) != threads_ - 1; ++polls) {
    if (polls < shared.spins) {
      relax();
    } else {
      std::this_thread::yield();
    }
  }
}

}  // namespace kvass
