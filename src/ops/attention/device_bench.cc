// Speed of attention on this machine's device, measured with device events: decode over 32k keys (GB/s of keys and
// values, and their share of the memory bandwidth by clock and bus) and a causal prefill of 4k (TFLOP/s of visible
// pairs). Without a device the only row says so.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "kvass/ops.h"
#include "ops/context.h"

namespace kvass {
namespace {

constexpr int kCalls = 20;  // between two events

struct Case {
  int64_t batch, rows, keys;
};

// The tensors of a case on the device. Their values do not affect the time.
struct Memory {
  DeviceBlock q, k, v, out;

  Memory(const DeviceRuntime& runtime, const Case& of, int64_t heads, int64_t kv_heads, int64_t head_dim) {
    const auto make = [&](int64_t elements) {
      DeviceBlock block = DeviceBlock::map(runtime, static_cast<size_t>(elements) * 2).value();
      (void)runtime.fill(block.data(), 0x3c, block.bytes(), nullptr);  // 0.0115 in bf16
      return block;
    };
    q = make(of.batch * heads * of.rows * head_dim);
    out = make(of.batch * heads * of.rows * head_dim);
    k = make(of.batch * kv_heads * of.keys * head_dim);
    v = make(of.batch * kv_heads * of.keys * head_dim);
  }
};

void run(benchmark::State& state, const std::string& backend, const Case& of) {
  constexpr int64_t kHeads = 32, kKvHeads = 8, kHeadDim = 128;
  const DeviceRuntime& runtime = *device_runtime(Device::cuda);
  OpContext context = OpContext::create({1, "attention=" + backend}).value();
  Memory memory(runtime, of, kHeads, kKvHeads, kHeadDim);
  const auto view = [&](DeviceBlock& block, int64_t heads, int64_t rows) {
    Tensor t(block.data(), DType::bf16, {of.batch, heads, rows, kHeadDim});
    t.device = Device::cuda;
    return t;
  };
  const auto call = [&] {
    const Status status = attention(context, view(memory.q, kHeads, of.rows), view(memory.k, kKvHeads, of.keys),
                                    view(memory.v, kKvHeads, of.keys), {}, view(memory.out, kHeads, of.rows));
    if (!status.ok()) state.SkipWithError(status.message().c_str());
  };
  const DeviceEvent begin = runtime.create_event().value(), end = runtime.create_event().value();
  for (int i = 0; i < 3; ++i) call();
  double best = 1e30;
  for (auto _ : state) {
    (void)runtime.record(begin, nullptr);
    for (int i = 0; i < kCalls; ++i) call();
    (void)runtime.record(end, nullptr);
    const double seconds = runtime.seconds(begin, end).value() / kCalls;
    state.SetIterationTime(seconds);
    best = std::min(best, seconds);
  }
  runtime.destroy_event(begin);
  runtime.destroy_event(end);
  if (of.rows == 1) {
    const double bytes = static_cast<double>(of.batch * kKvHeads * of.keys * kHeadDim) * 2.0 * 2.0;
    state.counters["GB/s"] = bytes / best * 1e-9;
    const double bandwidth = runtime.properties().value().bandwidth;
    if (bandwidth > 0.0) state.counters["share"] = bytes / best / bandwidth;
  } else {
    const double pairs = static_cast<double>(of.batch * kHeads * of.rows * (of.rows + 1)) / 2.0;
    state.counters["TFLOP/s"] = pairs * 4.0 * kHeadDim / best * 1e-12;
  }
}

const bool kRegistered = [] {
  const std::string& why = why_no_device(Device::cuda);
  if (!why.empty()) {
    benchmark::RegisterBenchmark("device_attention/SKIPPED: no GPU", [&why](benchmark::State& state) {
      for (auto _ : state) {
      }
      state.SetLabel(why);
    })->Iterations(1);
    return true;
  }
  for (const std::string backend : {"cuda_exact", "cuda_fast"}) {
    for (const Case& of : {Case{1, 1, 32768}, Case{32, 1, 32768}, Case{1, 4096, 4096}}) {
      const std::string name = std::string(of.rows == 1 ? "device_decode/" : "device_prefill/") + backend +
                               "/batch:" + std::to_string(of.batch) + "/keys:" + std::to_string(of.keys);
      benchmark::RegisterBenchmark(name.c_str(), [backend, of](benchmark::State& state) { run(state, backend, of); })
          ->UseManualTime()
          ->Unit(benchmark::kMicrosecond);
    }
  }
  return true;
}();

}  // namespace
}  // namespace kvass
