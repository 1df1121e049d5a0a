// The job of `kvass bench`: speed of prefill and decode in llama-bench's terms, beside what the machine can do at that
// moment.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "app/machine.h"
#include "app/open.h"
#include "kvass/status.h"
#include "session/session.h"

namespace kvass {

struct BenchOptions {
  std::vector<int64_t> prefill;  // tokens of a prompt: a row each; 0: none
  std::vector<int64_t> decode;   // tokens to generate, with all logits of each: a row each; 0: none
  std::vector<int64_t>
      greedy;  // tokens to generate, each with the largest logit after the ones before: a row each; 0: none
  std::vector<int64_t> depths{0};   // tokens in the cache before the clock starts
  std::vector<int64_t> batches{1};  // sequences of a decode step
  std::string text;                 // where the tokens come from, repeated as need be; empty: random ones
  int repetitions = 3;
  bool profile = false;  // note when each op of the last repetition ran
};

// Counts in their ranges; an error names the flag.
Status validate(const BenchOptions& options);

struct BenchRow {
  std::string test;        // "pp512", "tg64", "gg64"
  bool prefill = false;    // pp
  int64_t depth = 0;       // tokens
  int64_t batch = 1;       // sequences
  double tps = 0.0;        // tokens/s, median
  double deviation = 0.0;  // tokens/s, standard deviation over the repetitions
  double limit_share =
      0.0;  // pp: multiply-adds over the machine's; tg, gg: bytes of weights and visible keys over its read
  double seconds = 0.0;         // of the last repetition
  std::vector<OpTime> profile;  // of the last repetition, where it was asked for
};

// Calls `on_row` as rows are done, with the machine's limits: the higher ones of a sample before and one after the row.
// Of a device they are what it says of itself, 0 where that is nothing.
Status bench(const OpenModel& model, const StreamOptions& options, const BenchOptions& bench,
             const std::function<void(const BenchRow&, const MachineLimits&)>& on_row, const std::atomic<bool>& cancel);

}  // namespace kvass
