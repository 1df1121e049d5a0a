#include "app/machine.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <utility>

#include "base/cpu.h"
#include "base/platform.h"

namespace kvass {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

// A sanitizer's check of each word would take longer than the word, and its notes of them more memory than the buffer.
#define KVASS_PLAIN_ACCESS __attribute__((no_sanitize("thread", "address")))

// Gives each page memory of its own: before, all of them are one page of zeros.
KVASS_PLAIN_ACCESS void touch_pages(uint8_t* data, size_t bytes) {
  for (size_t i = 0; i < bytes; i += 4096) data[i] = 1;
}

// Reads every byte once, and nothing else. 64-byte aligned; `bytes` a multiple of 64.
KVASS_PLAIN_ACCESS void read_all(const uint8_t* data, size_t bytes) {
  using Words = uint64_t __attribute__((vector_size(32)));  // by the compiler's own extension: the baseline has them
  const Words* words = reinterpret_cast<const Words*>(data);
  Words a{}, b{};
  for (size_t i = 0; i < bytes / sizeof(Words); i += 2) {
    a |= words[i];
    b |= words[i + 1];
  }
  a |= b;
  asm volatile("" : : "m"(a));
}

constexpr int kChains = 10;  // enough to hide the latency of two units

}  // namespace

#if defined(__x86_64__)
// A loop of ten chains in assembler, so that no compiler can leave work out and no flag for the instruction set is
// needed. `body` gets the number of a chain's register; register 15 is the operand, 14 and 13 are scratch.
#define KVASS_TEN(body) \
  body("0") body("1") body("2") body("3") body("4") body("5") body("6") body("7") body("8") body("9")
#define KVASS_ZERO(i) "vpxor %%xmm" i ",%%xmm" i ",%%xmm" i "\n"
#define KVASS_CHAIN_LOOP(body)                                                                                  \
  asm volatile(KVASS_TEN(KVASS_ZERO) KVASS_ZERO("15") "1:\n" KVASS_TEN(body) "decq %0\n jnz 1b\n vzeroupper"    \
               : "+r"(rounds)                                                                                   \
               :                                                                                                \
               : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm13", \
                 "xmm14", "xmm15")

#define KVASS_FMA_256(i) "vfmadd231ps %%ymm15,%%ymm15,%%ymm" i "\n"
#define KVASS_FMA_512(i) "vfmadd231ps %%zmm15,%%zmm15,%%zmm" i "\n"
#define KVASS_WORDS_256(i) "vpmaddwd %%ymm15,%%ymm15,%%ymm14\n vpaddd %%ymm14,%%ymm" i ",%%ymm" i "\n"
#define KVASS_WORDS_512(i) "vpdpwssd %%zmm15,%%zmm15,%%zmm" i "\n"
#define KVASS_BYTES_256(i) "vpmaddubsw %%ymm15,%%ymm15,%%ymm14\n vpaddw %%ymm14,%%ymm" i ",%%ymm" i "\n"
#define KVASS_BYTES_512(i) "vpdpbusd %%zmm15,%%zmm15,%%zmm" i "\n"

int64_t multiply_add_loop(int64_t rounds, Math math) {
  static const bool wide = isa_available(Isa::avx512vnni, detect_cpu_features());
  const int64_t lanes = (math == Math::f32 ? 8 : math == Math::a16 ? 16 : 32) * (wide ? 2 : 1);
  const int64_t done = rounds * kChains * lanes;
  if (math == Math::f32) {
    if (wide)
      KVASS_CHAIN_LOOP(KVASS_FMA_512);
    else
      KVASS_CHAIN_LOOP(KVASS_FMA_256);
  } else if (math == Math::a16) {
    if (wide)
      KVASS_CHAIN_LOOP(KVASS_WORDS_512);
    else
      KVASS_CHAIN_LOOP(KVASS_WORDS_256);
  } else {
    if (wide)
      KVASS_CHAIN_LOOP(KVASS_BYTES_512);
    else
      KVASS_CHAIN_LOOP(KVASS_BYTES_256);
  }
  return done;
}
#else
int64_t multiply_add_loop(int64_t rounds, Math) {
  float chains[kChains * 8] = {};
  float x = 1.0f;
  asm volatile("" : "+w"(x));
  for (int64_t i = 0; i < rounds; ++i) {
    for (float& chain : chains) chain = __builtin_fmaf(x, x, chain);
  }
  asm volatile("" : : "m"(chains));
  return rounds * kChains * 8;
}
#endif

namespace {

// Four times the last-level cache, in multiples of 64. Some virtual machines report the caches of a whole host beside
// little memory, and a process may have less than its machine.
Result<Block> map_buffer() {
  constexpr size_t kUsual = size_t{128} << 20, kLeast = size_t{8} << 20;
  const platform::MemoryInfo memory = platform::memory_info();
  const size_t room = memory.limit == 0 ? memory.available : std::min(memory.available, memory.limit);
  size_t bytes = std::max(kUsual, std::min(4 * platform::last_level_cache_bytes(), room / 4 / 64 * 64));
  while (true) {
    Result<Block> block = Block::map(bytes, "a buffer to measure memory with");
    if (block.ok() || bytes / 2 < kLeast) return block;
    bytes = bytes / 2 / 64 * 64;
  }
}

}  // namespace

Result<MachineProbe> MachineProbe::create(int threads, const std::atomic<bool>* cancel) {
  constexpr size_t kSlice = size_t{32} << 20;
  MachineProbe probe;
  probe.cancel_ = cancel;
  probe.pool_ = std::make_unique<ThreadPool>(threads);
  KVASS_ASSIGN_OR_RETURN(probe.buffer_, map_buffer());
  const size_t bytes = probe.buffer_.bytes();
  for (size_t at = 0; at < bytes; at += kSlice) {
    KVASS_RETURN_IF_ERROR(probe.check_cancel());
    touch_pages(probe.buffer_.data() + at, std::min(kSlice, bytes - at));
  }
  return probe;
}

Status MachineProbe::check_cancel() const {
  if (cancel_ == nullptr || !cancel_->load(std::memory_order_relaxed)) return {};
  return Status::error(StatusCode::cancelled, "the machine's limits: interrupted while they were measured");
}

Result<MachineLimits> MachineProbe::measure(Math math) {
  const ThreadPool::Cancel cancel(*pool_, cancel_);
  MachineLimits limits;
  const int64_t pieces = int64_t{8} * pool_->threads();
  const size_t piece = buffer_.bytes() / static_cast<size_t>(pieces) / 64 * 64;
  for (int round = 0; round < 3; ++round) {
    const Clock::time_point begin = Clock::now();
    pool_->run(pieces, [&](int64_t i, int) { read_all(buffer_.data() + static_cast<size_t>(i) * piece, piece); });
    KVASS_RETURN_IF_ERROR(check_cancel());
    const double bytes = static_cast<double>(piece) * static_cast<double>(pieces);
    limits.read_bytes = std::max(limits.read_bytes, bytes / seconds_since(begin));
  }
  constexpr int64_t kRounds = int64_t{1} << 20;
  std::atomic<int64_t> done{0};
  for (int round = 0; round < 5; ++round) {
    done = 0;
    const Clock::time_point begin = Clock::now();
    pool_->run(pool_->threads(), [&](int64_t, int) { done += multiply_add_loop(kRounds, math); });
    KVASS_RETURN_IF_ERROR(check_cancel());
    limits.multiply_adds = std::max(limits.multiply_adds, static_cast<double>(done.load()) / seconds_since(begin));
  }
  return limits;
}

std::vector<std::string> available_isas() {
  const CpuFeatures features = detect_cpu_features();
  std::vector<std::string> names;
  for (const Isa isa : kIsas) {
    if (isa_available(isa, features)) names.emplace_back(isa_name(isa));
  }
  return names;
}

std::string runs_on(const Engine& engine) {
  const DeviceRuntime* device = engine.device();
  if (!device) return std::string(isa_name(engine.isa()));
  const Result<DeviceProperties> properties = device->properties();
  return std::string(device->name) + (properties.ok() ? ": " + properties->name : "");
}

}  // namespace kvass
