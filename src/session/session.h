// Session: the arena and the threads that run an engine's program. It steps any number of sequences of that engine; all
// of its memory is mapped when it is created. One caller at a time: a second one gets an error, not a race.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/argmax/argmax.h"
#include "plan/method.h"
#include "session/engine.h"
#include "session/sequence.h"

namespace kvass {

struct SessionOptions {
  int64_t rows = 256;     // most tokens of one step, over all its runs
  int64_t head_rows = 1;  // most rows of one `logits` call
  int64_t sequences = 1;  // most runs of one step
  int threads = 1;
  bool pin = false;  // threads stay on CPUs of their own: see ThreadPool
  // On a device: most keys that the rows of a run see between them, which its scratch is planned for. It grows where a
  // longer stream comes.
  int64_t keys = 0;
  bool decode_method = false;  // beside `prefill` of so many rows a `decode` of one row a sequence; otherwise `forward`
};

// The methods of such a session. They share its arena; a step runs the shortest that its rows fit.
Result<std::vector<MethodPlan>> plan_methods(const Program& program, Math math, const SessionOptions& options);

// `tokens` are the positions [start, start + size) of `sequence`; start is its length.
struct Run {
  Sequence* sequence = nullptr;
  int64_t start = 0;
  std::span<const int32_t> tokens;
};

// What `encode` reads: float32 [width of the program's input][rows], channels first, `stride` elements from a channel
// to the next.
struct EncoderInput {
  const void* data = nullptr;
  DType dtype = DType::f32;
  std::span<const int64_t> shape;
  int64_t stride = 0;  // elements; 0: rows, they lie close
};

// Softmax weights of cross-attention, for word times: of which cross caches (their index is the decoder layer's) and
// heads, and where they go. Memory is the caller's; they are computed only while they are asked for.
struct CrossHead {
  CrossId cross = 0;
  int64_t head = 0;
};
struct CrossWeights {
  std::span<const CrossHead> heads;
  float* out = nullptr;  // [heads][rows of the session's options][most source rows of the program]
};

// What a probe sees after each op, in program order: its outputs as they are; in a branch, the rows of the sequences
// that took it. Views of keys and values are not shown. For tests and for `verify`.
struct ProbeView {
  const Op& op;
  ValueId value;
  const float* data;  // [rows][width]
  int64_t rows;
  int64_t width;
};

// When an op ran, in nanoseconds of the steady clock. That of a cond encloses those of its branches.
struct OpTime {
  int32_t op = 0;  // index in the program
  int64_t begin = 0;
  int64_t end = 0;
};

class Executor;
class StepTables;
struct LikeliestLogit;
struct StepContext;

class Session {
 public:
  // `planned`: methods that have been planned before, proven by check_method. Where they are not what these options
  // take (other rows, threads or workspaces), they are planned anew.
  static Result<std::unique_ptr<Session>> create(std::shared_ptr<const Engine> engine, const SessionOptions& options,
                                                 const std::vector<MethodPlan>& planned = {});
  ~Session();

  // Runs the program's body over the runs' tokens, row after row in the order of the runs, and advances the sequences.
  // On an error nothing has changed.
  Status step(std::span<const Run> runs);

  // Runs the program's encoder and keeps its rows beside the sequence: the next step's cross-attention makes its keys
  // and values of them. What an earlier encode left for this sequence is forgotten; sequences that share it keep it.
  // The sequence's own stream is not touched. On an error nothing has changed.
  Status encode(Sequence& sequence, const EncoderInput& input);

  // Logits of rows of the last step: [rows.size()][vocabulary], valid until the next call.
  Result<std::span<const float>> logits(std::span<const int32_t> rows);
  // Of each of these rows the largest logit (kernels/argmax), without bringing all of them to this machine's memory,
  // and of one row alone without computing all of them where the head allows it. With a probe all are computed.
  Result<std::span<const Argmax>> likeliest(std::span<const int32_t> rows);

  int threads() const { return pool_.threads(); }
  ThreadPool& pool() { return pool_; }
  const Engine& engine() const { return *engine_; }
  const SessionOptions& options() const { return options_; }
  const std::vector<MethodPlan>& methods() const { return methods_; }  // the longest first
  const ArenaPlan& arena_plan() const { return methods_.front().arena; }
  const MethodPlan& last_method() const { return methods_[method_]; }  // that the last step ran
  size_t arena_bytes() const;                                          // values, workspace and the step's tables
  // Every step from here on writes these weights for its rows; no heads: none does. On an error nothing has changed.
  Status set_cross_weights(const CrossWeights& weights);

  // How often each op of the program has run, by its index; in a branch, once for each time that it was taken.
  std::span<const int64_t> executed_ops() const { return executed_; }
  int64_t executed(OpKind kind) const;
  void set_probe(std::function<void(const ProbeView&)> probe) { probe_ = std::move(probe); }
  // From here on every op that has run is added to `times`, which grows; null: none is.
  void set_timeline(std::vector<OpTime>* times) { timeline_ = times; }

 private:
  Session(std::shared_ptr<const Engine> engine, const SessionOptions& options);
  Status check_sequences(std::span<const Run> runs) const;  // reads nothing of them that a step changes
  Status check_tokens(std::span<const Run> runs) const;
  Status run_head(std::span<const int32_t> rows, LikeliestLogit* likeliest = nullptr);
  Status check_input(const EncoderInput& input, int64_t& rows) const;
  void execute(const Method& method, const EncoderInput* input = nullptr, LikeliestLogit* likeliest = nullptr);
  void execute_ops(int32_t begin, int32_t end, const StepContext& context);
  void execute_cond(const Op& op, const StepContext& context);
  void show(const Op& op);
  float* value(ValueId id);  // in the executor's memory

  std::shared_ptr<const Engine> engine_;
  SessionOptions options_;
  ThreadPool pool_;
  std::vector<MethodPlan> methods_;
  size_t method_ = 0;                   // of the last step
  std::unique_ptr<Executor> executor_;  // its memory: values and workspace of the longest method, tables of the step
  std::unique_ptr<StepTables> tables_;
  std::function<void(const ProbeView&)> probe_;
  std::vector<OpTime>* timeline_ = nullptr;
  std::vector<int64_t> executed_;   // [ops]
  std::vector<bool> one_sequence_;  // [branches]
  int64_t max_positions_ = 0;       // of position embeddings; 0: any number
  CrossWeights cross_weights_;
  std::atomic<bool> busy_{false};
};

// Bytes of the arena that `create` would map for an engine of this program and arithmetic: in the memory of the device
// that it runs on.
Result<size_t> plan_session_bytes(const Program& program, Math math, const SessionOptions& options,
                                  Device device = Device::cpu);

}  // namespace kvass
