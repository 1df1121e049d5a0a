#include "base/thread_pool.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <vector>

#include "base/cpu.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace kvass {
namespace {

// Some work that the compiler keeps, so that more than one thread gets a task.
void linger(int rounds) {
  for (int i = 0; i < rounds; ++i) asm volatile("" : "+r"(i));
}

#if defined(__x86_64__)
TEST(ThreadPool, WorkersRoundToNearestAndKeepDenormals) {
  const uint32_t before = _mm_getcsr();
  _mm_setcsr(0x1f80 | 0x8000 | 0x0040 |
             0x2000);  // FTZ, DAZ, toward −infinity; a thread inherits its creator's register
  ThreadPool pool(4);
  _mm_setcsr(before);
  std::vector<uint32_t> registers(4, 0);
  std::vector<std::atomic<bool>> seen(4);
  for (int round = 0; round < 200; ++round) {
    pool.run(64, [&](int64_t, int thread) {
      registers[static_cast<size_t>(thread)] = _mm_getcsr() & 0xffc0u;
      seen[static_cast<size_t>(thread)] = true;
      linger(200);
    });
  }
  int threads = 0;
  for (size_t thread = 0; thread < 4; ++thread) {
    if (!seen[thread]) continue;
    ++threads;
    EXPECT_EQ(registers[thread], 0x1f80u) << "thread " << thread;
  }
  EXPECT_GE(threads, 1);
}
#endif

TEST(ThreadPool, EveryTaskRunsExactlyOnceWithAnyNumberOfThreads) {
  for (int threads = 1; threads <= 9; ++threads) {
    ThreadPool pool(threads);
    ASSERT_EQ(pool.threads(), threads);
    constexpr int64_t kMostTasks = 67;
    std::vector<std::atomic<int>> counts(kMostTasks);
    std::atomic<bool> bad_thread{false};
    for (int round = 0; round < 1500; ++round) {
      const int64_t tasks = round % (kMostTasks + 1);
      for (std::atomic<int>& count : counts) count.store(0, std::memory_order_relaxed);
      pool.run(tasks, [&](int64_t task, int thread) {
        counts[static_cast<size_t>(task)].fetch_add(1, std::memory_order_relaxed);
        if (thread < 0 || thread >= threads) bad_thread = true;
      });
      for (int64_t task = 0; task < kMostTasks; ++task) {
        ASSERT_EQ(counts[static_cast<size_t>(task)].load(), task < tasks ? 1 : 0)
            << threads << " threads, round " << round << ", task " << task;
      }
    }
    EXPECT_FALSE(bad_thread);
  }
}

TEST(ThreadPool, WhatTasksWroteIsThereWhenRunReturns) {
  ThreadPool pool(usable_cpus() + 3);    // more threads than CPUs
  std::vector<int64_t> values(1000, 0);  // plain memory: run itself must order it
  for (int64_t round = 1; round <= 3000; ++round) {
    pool.run(static_cast<int64_t>(values.size()) / 10, [&](int64_t task, int) {
      for (size_t i = static_cast<size_t>(task) * 10; i < static_cast<size_t>(task + 1) * 10; ++i) values[i] += round;
    });
    ASSERT_EQ(values.front(), round * (round + 1) / 2);
    ASSERT_EQ(values.back(), round * (round + 1) / 2);
  }
}

TEST(ThreadPool, OneThreadAtATimeHoldsAThreadIndex) {
  ThreadPool pool(4);
  std::vector<std::atomic<int>> busy(4);
  std::atomic<bool> clash{false};
  for (int round = 0; round < 300; ++round) {
    pool.run(200, [&](int64_t, int thread) {
      if (busy[static_cast<size_t>(thread)].fetch_add(1) != 0) clash = true;
      linger(50);
      busy[static_cast<size_t>(thread)].fetch_sub(1);
    });
  }
  EXPECT_FALSE(clash);
}

volatile sig_atomic_t g_signals = 0;

TEST(ThreadPool, WorkersLeaveSignalsToTheCallers) {
  ThreadPool pool(4);
  struct sigaction action {
  }, before{};
  action.sa_handler = [](int) { g_signals = g_signals + 1; };
  ASSERT_EQ(::sigaction(SIGUSR1, &action, &before), 0);
  sigset_t usr1;
  sigemptyset(&usr1);
  sigaddset(&usr1, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &usr1, nullptr);
  ::kill(::getpid(), SIGUSR1);
  for (int round = 0; round < 50; ++round) pool.run(8, [](int64_t, int) { linger(200); });
  EXPECT_EQ(g_signals, 0) << "a worker took it";
  pthread_sigmask(SIG_UNBLOCK, &usr1, nullptr);
  EXPECT_EQ(g_signals, 1);
  ::sigaction(SIGUSR1, &before, nullptr);
}

TEST(ThreadPool, PoolsStartAndStopWithoutWork) {
  for (int round = 0; round < 200; ++round) {
    ThreadPool pool(1 + round % 5);
    if (round % 3 == 0) pool.run(0, [](int64_t, int) { FAIL(); });
  }
  ThreadPool none(0);
  EXPECT_EQ(none.threads(), 1);
  int64_t sum = 0;
  none.run(10, [&](int64_t task, int) { sum += task; });
  EXPECT_EQ(sum, 45);
}

}  // namespace
}  // namespace kvass
