// Speed of the linear operator. Decode: one row through a weight of the vocabulary head's shape, in GB/s of packed
// weights, beside the read bandwidth sampled just before in the same run (share = the one over the other). Prefill: 128
// rows through a layer's weight, in multiply-adds a second. Screen: half of the bytes of a split head
// (kernels/linear/screen.h), in GB/s of those. Weights are a constant byte: speed does not depend on their values.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <string>
#include <vector>

#include "base/block.h"
#include "base/float_env.h"
#include "kernels/linear/screen.h"
#include "ops/linear/linear.h"

namespace kvass {
namespace {

constexpr int kFill = 0x2c;  // 0x2c2c is a small normal number as f16, bf16 and twice over as f32

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Bytes a second at which these threads read a block of memory: the best of five passes.
double read_bandwidth(const Block& block, ThreadPool& threads) {
  constexpr size_t kPiece = size_t{1} << 20;
  const int64_t pieces = static_cast<int64_t>(block.bytes() / kPiece);
  std::vector<uint64_t> sums(static_cast<size_t>(threads.threads()) * 8);
  double best = 0;
  for (int pass = 0; pass < 5; ++pass) {
    const auto start = std::chrono::steady_clock::now();
    threads.run(pieces, [&](int64_t piece, int thread) {
      const uint64_t* words = reinterpret_cast<const uint64_t*>(block.data() + static_cast<size_t>(piece) * kPiece);
      uint64_t sum[16] = {};
      for (size_t i = 0; i < kPiece / 8; i += 16) {
        for (size_t j = 0; j < 16; ++j) sum[j] += words[i + j];
        __builtin_prefetch(words + i + 512);
        __builtin_prefetch(words + i + 520);
      }
      for (uint64_t part : sum) sums[static_cast<size_t>(thread) * 8] += part;
    });
    best = std::max(best, static_cast<double>(pieces) * static_cast<double>(kPiece) / seconds_since(start));
  }
  benchmark::DoNotOptimize(sums.data());
  return best;
}

struct Problem {
  Problem(WeightType type, int64_t n, int64_t k, int64_t rows, Math math)
      : block(Block::map(packed_bytes(type, n, k).value()).value()),
        x(static_cast<size_t>(rows * k), 0.5f),
        y(static_cast<size_t>(rows * n)),
        scratch(activation_bytes(math, rows, k)) {
    std::memset(block.data(), kFill, block.bytes());
    weight = {type, n, k, block.data()};
  }
  void run(int64_t rows, Math math, ThreadPool& threads, Isa isa) {
    const LinearTarget target = {weight, y.data(), weight.n};
    linear(x.data(), weight.k, rows, weight.k, {&target, 1}, math, scratch.data(), threads, isa);
  }
  Block block;
  std::vector<float> x, y;
  std::vector<uint8_t> scratch;
  PackedWeight weight;
};

void decode(benchmark::State& state, WeightType type, Math math, int threads_count) {
  const int64_t k = 640 % panel_format(type).k_multiple() == 0 ? 640 : 768;
  FloatEnvironment environment;
  ThreadPool threads(threads_count);
  Problem problem(type, 262144, k, 1, math);
  const Isa isa = default_isa().value();
  const double bandwidth = read_bandwidth(problem.block, threads);
  const auto start = std::chrono::steady_clock::now();
  for (auto _ : state) problem.run(1, math, threads, isa);
  const double rate =
      static_cast<double>(problem.block.bytes()) * static_cast<double>(state.iterations()) / seconds_since(start);
  state.counters["GB/s"] = rate * 1e-9;
  state.counters["read_GB/s"] = bandwidth * 1e-9;
  state.counters["share"] = rate / bandwidth;
}

void prefill(benchmark::State& state, WeightType type, Math math, int threads_count, int64_t rows, int64_t n,
             int64_t k) {
  FloatEnvironment environment;
  ThreadPool threads(threads_count);
  Problem problem(type, n, k, rows, math);
  const Isa isa = default_isa().value();
  const auto start = std::chrono::steady_clock::now();
  for (auto _ : state) problem.run(rows, math, threads, isa);
  const double calls = static_cast<double>(state.iterations()) / seconds_since(start);
  state.counters["GMAC/s"] = static_cast<double>(rows * n * k) * calls * 1e-9;
  state.counters["GB/s"] = static_cast<double>(problem.block.bytes()) * calls * 1e-9;  // of packed weights
}

void screen(benchmark::State& state, Math math, int threads_count) {
  constexpr int64_t kOutputs = 262144, kInputs = 640, kTask = 256;  // panels of one
  FloatEnvironment environment;
  ThreadPool threads(threads_count);
  Problem problem(WeightType::Q8_0_split, kOutputs, kInputs, 1, math);
  const Isa isa = default_isa().value();
  const double bandwidth = read_bandwidth(problem.block, threads);
  (math == Math::a16 ? quantise_a16_for(isa)
                     : quantise_a8_for(isa))({problem.x.data(), kInputs, 1, kInputs, problem.scratch.data()});
  const std::vector<ScreenedBlock> blocks(kInputs / kBlock, {1.0f, 1.0f});
  std::vector<ScreenedPanel> out(static_cast<size_t>(panel_count(kOutputs)));
  const ScreenFunction function = math == Math::a16 ? screen_a16_for(isa) : screen_a8_for(isa);
  const auto start = std::chrono::steady_clock::now();
  for (auto _ : state) {
    threads.run(panel_count(kOutputs) / kTask, [&](int64_t task, int) {
      function({problem.weight.data, kOutputs, kInputs, task * kTask, (task + 1) * kTask, problem.scratch.data(),
                blocks.data(), out.data()});
    });
  }
  const double bytes = static_cast<double>(panel_count(kOutputs) * panel_bytes(WeightType::Q8_0_split, kInputs));
  const double rate = bytes * static_cast<double>(state.iterations()) / seconds_since(start);
  state.counters["GB/s"] = rate * 1e-9;
  state.counters["read_GB/s"] = bandwidth * 1e-9;
  state.counters["share"] = rate / bandwidth;
}

void register_all() {
  const int cpus = usable_cpus();
  for (Math math : {Math::a16, Math::a8}) {
    const std::string name = "screen/" + std::string(math_name(math)) + "/threads:" + std::to_string(cpus);
    benchmark::RegisterBenchmark(name.c_str(), screen, math, cpus)->UseRealTime()->Unit(benchmark::kMillisecond);
  }
  for (const WeightType t : kWeightTypes) {
    for (Math math : {Math::f32, Math::a16, Math::a8}) {
      const std::string suffix = std::string(weight_type_name(t)) + "/" + std::string(math_name(math)) + "/threads:";
      if (math != Math::f32 && !panel_format(t).quantised) continue;
      benchmark::RegisterBenchmark(("decode/" + suffix + std::to_string(cpus)).c_str(), decode, t, math, cpus)
          ->UseRealTime()
          ->Unit(benchmark::kMillisecond);
      for (int threads : {1, cpus}) {
        if (threads == 1 && cpus == 1) continue;
        const std::string name = suffix + std::to_string(threads);
        benchmark::RegisterBenchmark(("prefill128/" + name).c_str(), prefill, t, math, threads, 128, 2048, 768)
            ->UseRealTime()
            ->Unit(benchmark::kMicrosecond);
        benchmark::RegisterBenchmark(("batch8/" + name).c_str(), prefill, t, math, threads, 8, 2048, 768)
            ->UseRealTime()
            ->Unit(benchmark::kMicrosecond);
        // A decode step whose weights are in the caches: what the instructions allow.
        benchmark::RegisterBenchmark(("cached/" + name).c_str(), prefill, t, math, threads, 1, 512, 768)
            ->UseRealTime()
            ->Unit(benchmark::kMicrosecond);
      }
    }
  }
}

}  // namespace
}  // namespace kvass

int main(int argc, char** argv) {
  kvass::register_all();
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
