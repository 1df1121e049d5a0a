#include "base/thread_pool.h"

#include <atomic>
#include <cassert>
#include <exception>
#include <thread>
#include <vector>

#include "base/cpu.h"
#include "base/float_env.h"
#include "base/platform.h"

namespace kvass {
namespace {

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// The unclaimed tasks [begin, end) of a job, packed into one word.
class Range {
 public:
  void set(uint32_t begin, uint32_t end) { word_.store(pack(begin, end), std::memory_order_release); }
  // Takes a task from the front (the owning thread) or from the back (the others); -1: none left.
  int64_t claim_front() {
    return claim([](uint32_t& begin, uint32_t&) { return begin++; });
  }
  int64_t claim_back() {
    return claim([](uint32_t&, uint32_t& end) { return --end; });
  }

 private:
  static uint64_t pack(uint32_t begin, uint32_t end) { return uint64_t{end} << 32 | begin; }
  template <class Take>
  int64_t claim(Take&& take) {
    for (uint64_t word = word_.load(std::memory_order_relaxed);;) {
      uint32_t begin = static_cast<uint32_t>(word);
      uint32_t end = static_cast<uint32_t>(word >> 32);
      if (begin >= end) return -1;
      const uint32_t task = take(begin, end);
      if (word_.compare_exchange_weak(word, pack(begin, end), std::memory_order_acquire, std::memory_order_relaxed)) {
        return task;
      }
    }
  }

  alignas(64) std::atomic<uint64_t> word_{0};
};

}  // namespace

// A job is published by giving every thread a range of neighbouring tasks and raising `generation`. A thread claims
// tasks from the front of its own range, so that neighbouring memory is read by one thread, and then from the back of
// the others' ranges. The job is done when every task is done. A worker that wakes late finds no task, and `run` does
// not wait for it: waking may take a scheduler time slice, a thousand times longer than a small job. A thread may read
// `body`, `context` and `cancel` only after it has claimed a task: they stay valid until that task is done.
struct ThreadPool::Shared {
  explicit Shared(int threads) : ranges(static_cast<size_t>(threads)) {}

  alignas(64) std::atomic<uint32_t> generation{0};
  std::atomic<bool> stop{false};
  alignas(64) std::atomic<uint32_t> left{0};  // unfinished tasks
  Erased body = nullptr;
  void* context = nullptr;
  const std::atomic<bool>* cancel = nullptr;  // of the job; null: none
  int spins = 0;                              // polls before a thread sleeps; 0 if there are more threads than CPUs
  std::vector<Range> ranges;                  // [threads]
  std::vector<std::thread> workers;

  // Waits until `ready(value of word)`; returns that value.
  template <class Ready>
  uint32_t wait(const std::atomic<uint32_t>& word, Ready&& ready) const {
    uint32_t value = word.load(std::memory_order_acquire);
    for (int i = 0; i < spins && !ready(value); ++i) {
      relax();
      value = word.load(std::memory_order_acquire);
    }
    while (!ready(value)) {
      word.wait(value, std::memory_order_acquire);
      value = word.load(std::memory_order_acquire);
    }
    return value;
  }

  void work(int thread) {
    uint32_t mine = 0;
    const auto drain = [&](auto&& claim) {
      for (int64_t task = claim(); task >= 0; task = claim()) {
        if (cancel == nullptr || !cancel->load(std::memory_order_relaxed)) body(context, task, thread);
        ++mine;
      }
    };
    drain([&] { return ranges[static_cast<size_t>(thread)].claim_front(); });
    for (size_t i = 1; i < ranges.size(); ++i) {
      Range& other = ranges[(static_cast<size_t>(thread) + i) % ranges.size()];
      drain([&] { return other.claim_back(); });
    }
    if (mine > 0 && left.fetch_sub(mine, std::memory_order_acq_rel) == mine) left.notify_one();
  }

  void worker(int thread) {
    FloatEnvironment environment;
    for (uint32_t seen = 0;;) {
      seen = wait(generation, [seen](uint32_t now) { return now != seen; });
      if (stop.load(std::memory_order_relaxed)) return;
      work(thread);
    }
  }

  void publish() {
    generation.fetch_add(1, std::memory_order_release);
    generation.notify_all();
  }
};

ThreadPool::ThreadPool(int threads, bool pin) : threads_(threads < 1 ? 1 : threads) {
  if (threads_ == 1) return;
  shared_ = std::make_unique<Shared>(threads_);
  const bool cpu_for_each = threads_ <= usable_cpus();
  shared_->spins = cpu_for_each ? 20000 : 0;
  pin = pin && cpu_for_each;
  shared_->workers.reserve(static_cast<size_t>(threads_ - 1));
  // Signals are the callers': one that a worker took would not end the call in which a caller waits for it.
  const platform::NoSignals inherited;
  for (int thread = 1; thread < threads_; ++thread) {
    try {
      shared_->workers.emplace_back([this, thread, pin] {
        if (pin) pin_to_cpu(thread);
        shared_->worker(thread);
      });
    } catch (const std::exception&) {  // no more threads, or no memory: fewer threads give the same bits
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
    for (int64_t task = 0; task < tasks && !cancelled(); ++task) body(context, task, 0);
    return;
  }
  assert(tasks <= INT32_MAX);
  Shared& shared = *shared_;
  shared.body = body;
  shared.context = context;
  shared.cancel = cancel_;
  shared.left.store(static_cast<uint32_t>(tasks), std::memory_order_relaxed);
  for (int64_t i = 0; i < threads_; ++i) {
    shared.ranges[static_cast<size_t>(i)].set(static_cast<uint32_t>(tasks * i / threads_),
                                              static_cast<uint32_t>(tasks * (i + 1) / threads_));
  }
  shared.publish();
  shared.work(0);
  shared.wait(shared.left, [](uint32_t left) { return left == 0; });
}

}  // namespace kvass
