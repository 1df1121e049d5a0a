// A receipt: what proves which tokens a model gave and why. It has all that decides the bits (the model's fingerprint,
// numerics, caches, sampling, the prompt's ids), the ids, and for each of them a running hash over the logits that it
// was chosen from. Whoever has the model can replay it, or any stretch of it, on another machine or instruction set,
// and learns the first token that differs. The hash is XXH3 (base/hash.h): it finds differences, and no forger.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "app/open.h"
#include "base/hash.h"
#include "kvass/sampling.h"
#include "kvass/status.h"
#include "ops/sample/sample.h"

namespace kvass {

struct Receipt {
  std::string model;        // its name, for people
  std::string fingerprint;  // Engine::fingerprint()
  int numerics = 0;
  Math math = Math::a16;
  CacheOptions caches;  // without what decides no bit: chunk, checkpoints
  SampleOptions sampling;
  OutputPenalties penalties;
  std::vector<int32_t> prompt, ids;
  std::vector<std::string> hashes;  // [ids] 16 hexadecimal digits: of what came before it, its logits and itself
};

Receipt receipt_of(const OpenModel& model, const CacheOptions& caches, const SampleOptions& sampling,
                   const OutputPenalties& penalties, std::span<const int32_t> prompt);
// The next token, and the row of logits [vocabulary] that it was chosen from.
void add_token(Receipt& receipt, std::span<const float> logits, int32_t token);

std::string receipt_json(const Receipt& receipt);
Result<Receipt> parse_receipt(std::string_view json, const std::string& name);

struct ReceiptCheck {
  int64_t tokens = 0;                 // that were looked at
  std::optional<int64_t> differs_at;  // the first of the receipt's ids that differs; none: all are the same
  std::string difference;             // "token 17: expected hash …, got …"
};
// Replays ids [begin, end) of a receipt; what is before them is only read. bad_input: a receipt of another model,
// arithmetic or numerics version, or ids that the model has not.
Result<ReceiptCheck> check_receipt(const OpenModel& model, const Receipt& receipt, int64_t begin, int64_t end,
                                   int threads, const std::atomic<bool>& cancel);

}  // namespace kvass
