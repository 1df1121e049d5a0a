// The job of `kvass bench`: speed of prefill and decode in llama-bench's terms, beside what the machine can do at that moment.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "app/open.h"
#include "kvass/status.h"

namespace kvass {

struct BenchOptions {
  std::vector<int64_t> prefill;      // tokens of a prompt: a row each; 0: none
  std::vector<int64_t> decode;       // tokens to generate: a row each; 0: none
  std::vector<int64_t> depths{0};    // tokens in the cache before the clock starts
  std::vector<int64_t> batches{1};   // sequences of a decode step
  int repetitions = 3;
};

struct BenchRow {
  std::string test;           // "pp512", "tg64"
  int64_t depth = 0;          // tokens
  int64_t batch = 1;          // sequences
  double tps = 0.0;           // tokens/s, median
  double deviation = 0.0;     // standard deviation over the repetitions
  double limit_share = 0.0;   // pp: multiply-adds over the multiply-add limit; tg: bytes over the read limit
};

// What the machine does with these threads: sampled before and after each row; a row uses the higher of the two.
struct MachineLimits {
  double read_bytes = 0.0;     // bytes/s of a plain read of a buffer four times the last-level cache
  double multiply_adds = 0.0;  // a second: float32 fma, or pairs of 16-bit integers for quantised activations
};
MachineLimits measure_limits(ThreadPool& pool, Math math);

// Calls `on_row` as rows are done.
Status bench(const OpenModel& model, const StreamOptions& options, const BenchOptions& bench,
             const std::function<void(const BenchRow&, const MachineLimits&)>& on_row, const std::atomic<bool>& cancel);

}  // namespace kvass
