// Speed of attention compared with the machine's limits, over a cache's tiles and (rows_…) over row-major tensors. The
// result is the best of the repetitions: GB/s of keys and values read (decode) or GFLOP/s of visible pairs (prefill),
// and its share of the roofline. The roofline is the lower of a plain read of as many bytes and an fma loop of as many
// flops, by the same threads, measured before and after the repetitions.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <vector>

#include "base/block.h"
#include "base/float16.h"
#include "kvass/ops.h"
#include "ops/attention/attention.h"
#include "ops/context.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace kvass {
namespace {

constexpr size_t kColdBytes = size_t{4} * 32
                              << 20;  // working set of a decode: larger than the last-level caches that were tried

double seconds_of(auto&& body) {
  const auto begin = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

uint64_t read_all(const uint8_t* data, size_t bytes) {
  uint64_t sum[8] = {};
  for (size_t i = 0; i + 64 <= bytes; i += 64) {
    for (size_t j = 0; j < 8; ++j) sum[j] += reinterpret_cast<const uint64_t*>(data + i)[j];
  }
  return sum[0] + sum[1] + sum[2] + sum[3] + sum[4] + sum[5] + sum[6] + sum[7];
}

#if defined(__x86_64__)
// Twelve chains: enough to hide the latency of either width.
__attribute__((target("avx512f"))) void fma_512(int64_t steps) {
  const __m512 x = _mm512_set1_ps(0.5f);
  __m512 sum[12];
  for (int j = 0; j < 12; ++j) sum[j] = _mm512_set1_ps(static_cast<float>(j));
  for (int64_t i = 0; i < steps; ++i) {
#pragma GCC unroll 12
    for (int j = 0; j < 12; ++j) sum[j] = _mm512_fmadd_ps(sum[j], x, x);
  }
  for (const __m512& s : sum) benchmark::DoNotOptimize(s);
}
void fma_256(int64_t steps) {
  const __m256 x = _mm256_set1_ps(0.5f);
  __m256 sum[12];
  for (int j = 0; j < 12; ++j) sum[j] = _mm256_set1_ps(static_cast<float>(j));
  for (int64_t i = 0; i < steps; ++i) {
#pragma GCC unroll 12
    for (int j = 0; j < 12; ++j) sum[j] = _mm256_fmadd_ps(sum[j], x, x);
  }
  for (const __m256& s : sum) benchmark::DoNotOptimize(s);
}
#endif

// The limits of the machine for these threads, measured now.
struct Limits {
  double bytes_per_second = 0.0;
  double flops_per_second = 0.0;

  void sample(const Block& block, ThreadPool& pool, Isa isa) {
    const int64_t tasks = 64;
    const size_t part = block.bytes() / tasks;
    for (int i = 0; i < 3; ++i) {
      const double read = seconds_of([&] {
        pool.run(tasks, [&](int64_t task, int) {
          benchmark::DoNotOptimize(read_all(block.data() + static_cast<size_t>(task) * part, part));
        });
      });
      bytes_per_second = std::max(bytes_per_second, static_cast<double>(part * tasks) / read);
#if defined(__x86_64__)
      const int64_t steps = 20000;
      const int64_t lanes = isa == Isa::avx512vnni ? 16 : 8;
      const double time =
          seconds_of([&] { pool.run(tasks, [&](int64_t, int) { lanes == 16 ? fma_512(steps) : fma_256(steps); }); });
      flops_per_second = std::max(flops_per_second, static_cast<double>(tasks * steps * 12 * lanes * 2) / time);
#endif
    }
  }
};

template <class Attend>
void best_of(benchmark::State& state, Limits& limits, const Block& memory, ThreadPool& pool, Isa isa, size_t bytes,
             double flops, Attend&& attend) {
  double best = 1e9;
  attend();
  for (auto _ : state) {
    const double time = seconds_of(attend);
    state.SetIterationTime(time);
    best = std::min(best, time);
  }
  limits.sample(memory, pool, isa);
  const double read = static_cast<double>(bytes) / limits.bytes_per_second;
  const double compute = flops / limits.flops_per_second;
  state.counters["GB/s"] = static_cast<double>(bytes) / best * 1e-9;
  state.counters["read_GB/s"] = limits.bytes_per_second * 1e-9;
  state.counters["GFLOP/s"] = flops / best * 1e-9;
  state.counters["fma_GFLOP/s"] = limits.flops_per_second * 1e-9;
  state.counters["share"] = std::max(read, compute) / best;
  state.SetLabel(std::string(isa_name(isa)) + ", " + std::to_string(pool.threads()) + " threads");
}

void fill(Block& block, const TileShape& shape) {
  const float values[4] = {0.1f, -0.2f, 0.3f, -0.05f};
  if (shape.dtype == DType::q8) {
    for (size_t i = 0; i < block.bytes(); ++i) block.data()[i] = static_cast<uint8_t>(i * 7 / 5 % 19);
    const float scale = 0.01f;
    const size_t half = shape.key_bytes();
    for (size_t at = 0; at + half <= block.bytes(); at += half) {
      for (size_t i = 0; i < 64; ++i) std::memcpy(block.data() + at + shape.scales_offset() + 4 * i, &scale, 4);
    }
  } else if (shape.dtype == DType::f32) {
    float* data = reinterpret_cast<float*>(block.data());
    for (size_t i = 0; i < block.bytes() / 4; ++i) data[i] = values[i * 7 / 5 % 4];
  } else {
    uint16_t bits[4];
    for (int i = 0; i < 4; ++i)
      bits[i] = shape.dtype == DType::f16 ? float_to_f16(values[i]) : float_to_bf16(values[i]);
    uint16_t* data = reinterpret_cast<uint16_t*>(block.data());
    for (size_t i = 0; i < block.bytes() / 2; ++i) data[i] = bits[i * 7 / 5 % 4];
  }
}

// Caches of `keys` keys, enough for a cold working set (or one), and queries for the last `rows` positions.
class Setup {
 public:
  Setup(int64_t heads, int64_t kv_heads, int64_t head_dim, DType dtype, int64_t keys, int64_t rows, bool cold)
      : pool_(usable_cpus()), isa_(default_isa().value()) {
    const TileShape shape{dtype, kv_heads, head_dim};
    const int64_t tiles = (keys + kTileKeys - 1) / kTileKeys;
    segment_bytes_ = shape.segment_bytes(tiles);
    copies_ = cold ? (kColdBytes + segment_bytes_ - 1) / segment_bytes_ : 1;
    cache_ = Block::map(std::max(copies_ * segment_bytes_, kColdBytes)).value();
    fill(cache_, shape);
    scratch_ = Block::map(attention_scratch_bytes(rows, heads, kv_heads, head_dim, pool_.threads())).value();
    q_.resize(static_cast<size_t>(rows * heads * head_dim));
    for (size_t i = 0; i < q_.size(); ++i) q_[i] = static_cast<float>(i % 17) * 0.1f - 0.8f;
    out_.resize(q_.size());
    for (int64_t row = 0; row < rows; ++row) visible_.push_back({0, 0, keys - rows + row + 1});
    run_.rows = rows;
    run_.body.tiles = tiles;
    run_.visible = visible_.data();
    args_.q = q_.data();
    args_.out = out_.data();
    args_.q_stride = args_.out_stride = heads * head_dim;
    args_.heads = heads;
    args_.shape = shape;
    args_.scale = 0.05f;
    int64_t pairs = 0;
    for (const RowVisibility& row : visible_) pairs += row.end;
    flops_ = static_cast<double>(pairs * heads * head_dim * 4);
    limits_.sample(cache_, pool_, isa_);
  }

  void attend() {
    run_.body.data = cache_.data() + next_++ % copies_ * segment_bytes_;
    args_.runs = {&run_, 1};
    attention(args_, scratch_.data(), pool_, isa_);
  }

  void measure(benchmark::State& state) {
    best_of(state, limits_, cache_, pool_, isa_, segment_bytes_, flops_, [&] { attend(); });
  }

 private:
  ThreadPool pool_;
  Isa isa_;
  Block cache_;  // [copies] segments
  Block scratch_;
  size_t segment_bytes_ = 0;
  size_t copies_ = 1;
  size_t next_ = 0;
  double flops_ = 0.0;
  std::vector<float> q_, out_;
  std::vector<RowVisibility> visible_;
  AttentionRun run_;
  AttentionArgs args_;
  Limits limits_;
};

// The operator on row-major tensors: pairs of k and v, enough for a cold working set (or one).
class RowSetup {
 public:
  RowSetup(int64_t heads, int64_t kv_heads, int64_t head_dim, DType dtype, int64_t keys, int64_t rows, bool cold)
      : context_(OpContext::create().value()), pool_(context_.state()->pool), isa_(default_isa().value()) {
    bytes_ = static_cast<size_t>(2 * kv_heads * keys * head_dim) * dtype_bytes(dtype);
    copies_ = cold ? (kColdBytes + bytes_ - 1) / bytes_ : 1;
    memory_ = Block::map(std::max(copies_ * bytes_, kColdBytes)).value();
    fill(memory_, {dtype, kv_heads, head_dim});
    rows_ = Block::map(static_cast<size_t>(2 * heads * rows * head_dim) * dtype_bytes(dtype)).value();
    fill(rows_, {dtype, kv_heads, head_dim});
    q_ = Tensor(rows_.data(), dtype, {1, heads, rows, head_dim});
    out_ = Tensor(rows_.data() + rows_.bytes() / 2, dtype, {1, heads, rows, head_dim});
    k_ = Tensor(memory_.data(), dtype, {1, kv_heads, keys, head_dim});
    const int64_t first = keys - rows;
    flops_ = static_cast<double>((rows * first + rows * (rows + 1) / 2) * heads * head_dim * 4);
    limits_.sample(memory_, pool_, isa_);
  }

  void measure(benchmark::State& state) {
    best_of(state, limits_, memory_, pool_, isa_, bytes_, flops_, [&] {
      Tensor k = k_, v = k_;
      k.data = memory_.data() + next_++ % copies_ * bytes_;
      v.data = static_cast<uint8_t*>(k.data) + bytes_ / 2;
      const Status status = attention(context_, q_, k, v, {}, out_);
      if (!status.ok()) state.SkipWithError(status.message().c_str());
    });
  }

 private:
  OpContext context_;
  ThreadPool& pool_;
  Isa isa_;
  Block memory_;  // [copies] of k, v
  Block rows_;    // q, out
  Tensor q_, k_, out_;
  size_t bytes_ = 0;
  size_t copies_ = 1;
  size_t next_ = 0;
  double flops_ = 0.0;
  Limits limits_;
};

// Arguments: heads, kv_heads, head_dim, dtype, keys.
void decode(benchmark::State& state) {
  Setup setup(state.range(0), state.range(1), state.range(2), static_cast<DType>(state.range(3)), state.range(4), 1,
              true);
  setup.measure(state);
}

void rows_decode(benchmark::State& state) {
  RowSetup setup(state.range(0), state.range(1), state.range(2), static_cast<DType>(state.range(3)), state.range(4), 1,
                 true);
  setup.measure(state);
}

void rows_prefill(benchmark::State& state) {
  RowSetup setup(state.range(0), state.range(1), state.range(2), static_cast<DType>(state.range(3)), state.range(4),
                 state.range(4), false);
  setup.measure(state);
}

// Causal, from an empty cache. Arguments: heads, kv_heads, head_dim, dtype, rows.
void prefill(benchmark::State& state) {
  Setup setup(state.range(0), state.range(1), state.range(2), static_cast<DType>(state.range(3)), state.range(4),
              state.range(4), false);
  setup.measure(state);
}

constexpr int64_t kF32 = static_cast<int64_t>(DType::f32);
constexpr int64_t kF16 = static_cast<int64_t>(DType::f16);
constexpr int64_t kQ8 = static_cast<int64_t>(DType::q8);
constexpr int64_t kBf16 = static_cast<int64_t>(DType::bf16);

BENCHMARK(decode)
    ->ArgNames({"heads", "kv", "dim", "dtype", "keys"})
    ->ArgsProduct({{4}, {1}, {256}, {kF32, kF16, kBf16, kQ8}, {4096, 32768}})
    ->ArgsProduct({{32}, {8}, {128}, {kF32, kF16, kBf16, kQ8}, {4096, 32768}})
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond);
BENCHMARK(rows_decode)
    ->ArgNames({"heads", "kv", "dim", "dtype", "keys"})
    ->ArgsProduct({{4}, {1}, {256}, {kF32, kF16, kBf16}, {32768}})
    ->ArgsProduct({{32}, {8}, {128}, {kF32, kF16, kBf16}, {4096, 32768}})
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond);
BENCHMARK(rows_prefill)
    ->ArgNames({"heads", "kv", "dim", "dtype", "rows"})
    ->ArgsProduct({{32}, {8}, {128}, {kF32, kF16}, {512, 2048}})
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond);
BENCHMARK(prefill)
    ->ArgNames({"heads", "kv", "dim", "dtype", "rows"})
    ->ArgsProduct({{4}, {1}, {256}, {kF32, kF16}, {256, 512, 2048}})
    ->ArgsProduct({{32}, {8}, {128}, {kF32, kF16}, {512, 2048}})
    ->ArgsProduct({{8}, {8}, {64}, {kF32}, {512, 2048}})
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace kvass
