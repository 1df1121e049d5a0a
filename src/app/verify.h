// The job of `kvass verify`: one text through one model in many ways, whose results must be the same bits. A case runs
// the text as it likes through sessions and sequences and hands every step to a recorder, which hashes what comes out;
// a case is right when its hashes equal those of its reference case. Nothing but hashes is kept, so that a vocabulary
// of any size and a text of any length fit.
//
// Hashed: the hidden row (the head's input) of every position, and the logits of every position. The scalar kernels are
// some fifty times slower: their case takes the logits of every 16th position only, and the hidden rows of all.
//
// Where a case differs, it and its reference run again with a hash of every operator's output: the earliest position
// and, at that position, the first operator of the program that differs.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kvass/cache_plan.h"
#include "kvass/status.h"
#include "session/engine.h"
#include "session/session.h"
#include "text/tokenizer.h"

namespace kvass {

inline constexpr int64_t kLeastVerifyTokens = 16;
inline constexpr int64_t kMostVerifyTokens = 1 << 17;

// What every case runs.
struct VerifyInput {
  std::shared_ptr<const Engine> engine;
  std::shared_ptr<const Engine> on_device;  // the same on a device, for rows of its own; null: none
  std::vector<int32_t> ids;
  DType kv = DType::f16;
  int threads = 1;  // where a case does not say otherwise
};

// The engines of `input`. Where `engine` runs on a device, the CPU's is made of it; where it does not, that of a device
// which is there and has the program's ops.
void set_engine(const std::shared_ptr<const Engine>& engine, VerifyInput& input);

// Hashes of what a case computes, by position of the text.
class VerifyRecorder {
 public:
  // `every_op`: also of every operator's output.
  VerifyRecorder(const VerifyInput& input, bool every_op, const std::atomic<bool>& cancel);

  // Steps `runs`, of which number `subject` is the text's, and records its rows. A position that comes again (after a
  // rewind) must give what it gave before.
  Status step(Session& session, std::span<const Run> runs, size_t subject = 0);
  // Logits of every n-th position only.
  void take_logits_of_every(int64_t n) { logits_every_ = n; }

  bool complete() const;      // every position was recorded
  uint64_t checksum() const;  // over the logits of all recorded positions
  bool identical(const VerifyRecorder& reference) const;
  // "position 712, layer 3 attention"; empty where no operator differs. Both with every operator.
  std::string first_difference(const VerifyRecorder& reference) const;

 private:
  void record(const ProbeView& view, Session& session);
  void store(ValueId value, int64_t position, uint64_t hash);
  const uint64_t* row(ValueId value) const { return hashes_.data() + slots_[static_cast<size_t>(value)] * tokens_; }

  const Program* program_;
  const std::atomic<bool>* cancel_;
  int64_t tokens_ = 0;
  int64_t logits_every_ = 1;
  std::vector<int64_t> slots_;        // [values] index into hashes_; -1: not recorded
  std::vector<uint64_t> hashes_;      // [recorded values][tokens]; 0: none yet
  std::vector<uint64_t> row_hashes_;  // of one value's rows in a step
  int64_t first_row_ = 0;             // of the subject in the step
  int64_t rows_ = 0;
  int64_t start_ = 0;               // position of its first row
  std::vector<int32_t> head_rows_;  // rows of the step whose logits are asked for
};

struct VerifyCase {
  std::string name;
  std::string reference;  // name of the case before it that it must equal; empty: it is one
  std::function<Status(const VerifyInput&, VerifyRecorder&)> run;
};

struct VerifyRow {
  std::string name;
  uint64_t checksum = 0;
  bool identical = true;
  std::string first_difference;
};

// One prefill, chunks of several lengths, token by token, in a batch, numbers of threads, the instruction sets of this
// machine, a device beside it, and sinks in rings that wrap against sinks in a cache that is never full.
std::vector<VerifyCase> verify_cases(const VerifyInput& input);

// Runs the cases in order; each row is reported once it is known.
Result<std::vector<VerifyRow>> verify(const VerifyInput& input, std::span<const VerifyCase> cases,
                                      const std::function<void(const VerifyRow&)>& on_row,
                                      const std::atomic<bool>& cancel);

// `tokens` ids of a text that is made up, the same every time, with the token that begins a text.
Result<std::vector<int32_t>> verify_text(const Tokenizer& tokenizer, int64_t tokens);

}  // namespace kvass
