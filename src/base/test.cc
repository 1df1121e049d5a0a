// CPU choice, float environment, thread pool, mapped files and blocks.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/block.h"
#include "base/cpu.h"
#include "base/file_map.h"
#include "base/float_env.h"
#include "base/thread_pool.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace kvass {
namespace {

// Some work that the compiler keeps, so that more than one thread gets a task.
void linger(int rounds) {
  for (int i = 0; i < rounds; ++i) asm volatile("" : "+r"(i));
}

TEST(Cpu, TheBestAvailableSetIsChosenFromTheFeatures) {
  EXPECT_EQ(choose_isa({}, "").value(), Isa::scalar);
  EXPECT_EQ(choose_isa({.avx2 = true}, "").value(), Isa::avx2);
  EXPECT_EQ(choose_isa({.avx2 = true, .avx512vnni = true}, "").value(), Isa::avx512vnni);
  EXPECT_EQ(choose_isa({.neon = true}, "").value(), Isa::neon);
  EXPECT_EQ(choose_isa({.neon = true, .dotprod = true}, "").value(), Isa::dotprod);
  EXPECT_EQ(choose_isa({.neon = true, .dotprod = true, .i8mm = true}, "").value(), Isa::i8mm);
}

TEST(Cpu, EachSetOfAArch64NeedsItsBitAndThoseOfTheSetsBeforeIt) {
  constexpr uint64_t kAsimd = uint64_t{1} << 1, kDotProducts = uint64_t{1} << 20, kInt8Matrix2 = uint64_t{1} << 13;
  const auto best = [](uint64_t hwcap, uint64_t hwcap2) {
    return choose_isa(aarch64_features(hwcap, hwcap2), "").value();
  };
  EXPECT_EQ(best(kAsimd, 0), Isa::neon);
  EXPECT_EQ(best(kAsimd | kDotProducts, 0), Isa::dotprod);
  EXPECT_EQ(best(kAsimd | kDotProducts, kInt8Matrix2), Isa::i8mm);
  EXPECT_EQ(best(~kDotProducts, ~uint64_t{0}), Isa::neon);
  EXPECT_EQ(best(~uint64_t{0}, ~kInt8Matrix2), Isa::dotprod);
  EXPECT_EQ(best(~kAsimd, ~uint64_t{0}), Isa::scalar);
}

TEST(Cpu, AForcedSetIsTakenWhereItIsAvailableAndRefusedWhereNot) {
  const CpuFeatures all{.avx2 = true, .avx512vnni = true};
  EXPECT_EQ(choose_isa(all, "scalar").value(), Isa::scalar);
  EXPECT_EQ(choose_isa(all, "avx2").value(), Isa::avx2);
  EXPECT_EQ(choose_isa(all, "avx512").value(), Isa::avx512vnni);
  const Result<Isa> missing = choose_isa({.avx2 = true}, "avx512");
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(choose_isa({.neon = true, .dotprod = true, .i8mm = true}, "dotprod").value(), Isa::dotprod);
  EXPECT_FALSE(choose_isa({.neon = true, .dotprod = true}, "i8mm").ok());
  EXPECT_NE(missing.status().message().find("KVASS_ISA"), std::string::npos);
  EXPECT_NE(missing.status().message().find("avx512"), std::string::npos);
  const Result<Isa> unknown = choose_isa(all, "sse9");
  ASSERT_FALSE(unknown.ok());
  EXPECT_NE(unknown.status().message().find("scalar, avx2, avx512, neon, dotprod or i8mm"), std::string::npos);
  EXPECT_NE(unknown.status().message().find("sse9"), std::string::npos);
  EXPECT_FALSE(choose_isa(all, "AVX2").ok());
}

TEST(Cpu, AMachineThatIsKnownHasTheSetThatItShouldHave) {
  const char* expected = std::getenv("KVASS_EXPECTED_ISA");  // the emulated machines of tests/CMakeLists.txt
  if (!expected) GTEST_SKIP() << "KVASS_EXPECTED_ISA is not set";
  EXPECT_EQ(isa_name(choose_isa(detect_cpu_features(), "").value()), expected);
}

TEST(Cpu, ThisMachineHasAtLeastTheScalarSetAndOneCpu) {
  const CpuFeatures features = detect_cpu_features();
  EXPECT_TRUE(isa_available(Isa::scalar, features));
  EXPECT_TRUE(isa_available(choose_isa(features, "").value(), features));
  EXPECT_GE(usable_cpus(), 1);
  if (features.avx512vnni) {
    EXPECT_TRUE(features.avx2);
  }
}

#if defined(__x86_64__)
constexpr uint32_t kFlushAndRoundDown = 0x1f80 | 0x8000 | 0x0040 | 0x2000;  // FTZ, DAZ, toward −infinity

TEST(FloatEnvironment, KeepsDenormalsInsideAndRestoresTheCallersOutside) {
  const uint32_t before = _mm_getcsr();
  _mm_setcsr(kFlushAndRoundDown);
  {
    FloatEnvironment environment;
    volatile float small = 1e-38f;
    volatile float result = small * 0.5f;
    EXPECT_GT(result, 0.0f);
    EXPECT_EQ(_mm_getcsr() & 0xffc0u, 0x1f80u);
    {
      FloatEnvironment nested;
      EXPECT_EQ(_mm_getcsr() & 0xffc0u, 0x1f80u);
    }
    EXPECT_EQ(_mm_getcsr() & 0xffc0u, 0x1f80u);
  }
  EXPECT_EQ(_mm_getcsr() & 0xffc0u, kFlushAndRoundDown & 0xffc0u);
  _mm_setcsr(before);
}

TEST(ThreadPool, WorkersRoundToNearestAndKeepDenormals) {
  const uint32_t before = _mm_getcsr();
  _mm_setcsr(kFlushAndRoundDown);  // a thread starts with its creator's register
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

class FileMapTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("kvass_file_map_" + std::to_string(::getpid()));
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string path(const char* name) const { return (folder_ / name).string(); }
  std::string write(const char* name, const std::string& bytes) const {
    std::ofstream(path(name), std::ios::binary) << bytes;
    return path(name);
  }
  static std::string refusal(const std::string& path) {
    const Result<FileMap> map = FileMap::open(path);
    return map.ok() ? "" : map.status().message();
  }
  std::filesystem::path folder_;
};

TEST_F(FileMapTest, MapsTheBytesAndKeepsThemWhenMoved) {
  std::string bytes;
  for (int i = 0; i < 100000; ++i) bytes += static_cast<char>(i * 7);
  Result<FileMap> opened = FileMap::open(write("data", bytes));
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  FileMap map = std::move(opened).value();
  const std::span<const uint8_t> view = map.bytes();
  FileMap moved = std::move(map);
  ASSERT_EQ(moved.bytes().size(), bytes.size());
  EXPECT_EQ(moved.bytes().data(), view.data());
  EXPECT_EQ(std::memcmp(view.data(), bytes.data(), bytes.size()), 0);
  moved.release(0, bytes.size());  // read anew
  moved.release(5, 10);
  moved.release(bytes.size(), 0);
  EXPECT_EQ(std::memcmp(view.data(), bytes.data(), bytes.size()), 0);
}

TEST_F(FileMapTest, EveryErrorNamesTheFileAndWhatItIs) {
  EXPECT_NE(refusal(path("none")).find(path("none")), std::string::npos);
  EXPECT_NE(refusal(path("none")).find("No such file"), std::string::npos);
  EXPECT_NE(refusal(folder_.string()).find("a folder"), std::string::npos);
  EXPECT_NE(refusal(write("empty", "")).find("an empty file"), std::string::npos);
  EXPECT_NE(refusal("/dev/null").find("a special file"), std::string::npos);
  EXPECT_NE(refusal(""), "");
}

TEST(Block, IsZeroedAlignedAndEmptyWhereNothingIsAskedFor) {
  for (const size_t bytes : {size_t{1}, size_t{4096}, size_t{3} << 20}) {
    Result<Block> block = Block::map(bytes);
    ASSERT_TRUE(block.ok()) << block.status().message();
    EXPECT_EQ(block->bytes(), bytes);
    EXPECT_EQ(std::bit_cast<uintptr_t>(block->data()) % 4096, 0u);
    size_t sum = 0;
    for (size_t i = 0; i < bytes; ++i) sum += block->data()[i];
    EXPECT_EQ(sum, 0u);
    block->data()[bytes - 1] = 7;
    Block moved = std::move(block).value();
    EXPECT_EQ(moved.data()[bytes - 1], 7);
  }
  Result<Block> none = Block::map(0);
  ASSERT_TRUE(none.ok());
  EXPECT_EQ(none->bytes(), 0u);
  Block assigned = std::move(none).value();
  assigned = Block::map(100).value();
  EXPECT_EQ(assigned.bytes(), 100u);
}

TEST(Block, AnImpossibleSizeIsAnErrorWithTheBytes) {
  const Result<Block> block = Block::map(size_t{1} << 62, "caches");
  ASSERT_FALSE(block.ok());
  EXPECT_EQ(block.status().code(), StatusCode::out_of_memory);
  EXPECT_EQ(block.status().message(),
            "caches: expected 4611686018427387904 bytes of memory, got Cannot allocate memory");
}

}  // namespace
}  // namespace kvass
