// Session: the memory and the threads that run an engine's program. It steps any number of sequences of that engine;
// all of its memory is mapped when it is created. One caller at a time: a second one gets an error, not a race.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "exec/backend.h"
#include "exec/interpreter.h"
#include "kernels/argmax/argmax.h"
#include "plan/method.h"
#include "session/engine.h"
#include "session/sequence.h"

namespace kvass {

struct SessionOptions {
  int64_t rows = 256;     // most tokens of one step, over all its runs
  int64_t head_rows = 1;  // most rows whose logits one step is asked for
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

// What runs, and what is wanted of it. Rows are those of the step, in the order of the runs; each list at most the
// session's head_rows. Without runs the rows are those of the last step, which the same caller may ask for more.
struct StepRequest {
  std::span<const Run> runs = {};
  std::span<const int32_t> logits = {};  // rows whose logits are wanted
  // Rows whose argmax is wanted; their other logits are not copied from a device.
  std::span<const int32_t> argmax = {};
  CrossWeights cross_weights = {};  // of the runs
  // Where it is set before the step has ended, the step fails with StatusCode::cancelled, within a fraction of the time
  // that it takes; it stays set until then. null: none.
  const std::atomic<bool>* cancel = nullptr;
};

// Valid until the session's next call.
struct StepResult {
  std::span<const float> logits;   // [rows][vocabulary]
  std::span<const Argmax> argmax;  // [rows] the largest of all logits of each (kernels/argmax), to the bit
};

class Session {
 public:
  // `planned`: methods that have been planned before, proven by check_method. Where they are not what these options
  // take (other rows, threads or workspaces), they are planned anew.
  static Result<std::unique_ptr<Session>> create(std::shared_ptr<const Engine> engine, const SessionOptions& options,
                                                 const std::vector<MethodPlan>& planned = {});
  ~Session();

  // Runs the program's body over the runs' tokens, row after row in the order of the runs, answers what is wanted, and
  // advances the sequences. On an error no sequence has advanced and each goes on as if the step had not been; only
  // where it was cancelled, a device failed or the file of the weights changed while it ran, sequences cannot be rewound
  // as far as before (Sequence::abandon), and rows of the last step are gone.
  Result<StepResult> step(const StepRequest& request);

  // Runs the program's encoder and keeps its rows with the sequence: the next step's cross-attention makes its keys
  // and values of them. An earlier encode's output is forgotten for this sequence; sequences that share it keep it.
  // The sequence's own stream is not touched. On an error nothing has changed; only where it was cancelled (as in
  // StepRequest), a device failed or the file of the weights changed while it ran, the sequence has no encoder output.
  Status encode(Sequence& sequence, const EncoderInput& input, const std::atomic<bool>* cancel = nullptr);

  int threads() const { return pool_.threads(); }
  ThreadPool& pool() { return pool_; }
  const Engine& engine() const { return *engine_; }
  const SessionOptions& options() const { return options_; }
  const std::vector<MethodPlan>& methods() const { return methods_; }  // the longest first
  const ArenaPlan& arena_plan() const { return methods_.front().arena; }
  const MethodPlan& last_method() const { return methods_[method_]; }  // that the last step ran
  size_t arena_bytes() const { return backend_->bytes(); }             // values, workspace and the step's tables

  // How often each op of the program has run, by its index; in a branch, once for each time that it was taken.
  std::span<const int64_t> executed_ops() const { return interpreter_.observer().executed; }
  int64_t executed(OpKind kind) const;
  // From here on, after each op. With a probe, a step that is asked for argmax also makes all logits, for it to see.
  void set_probe(std::function<void(const ProbeView&)> probe) { interpreter_.observer().probe = std::move(probe); }
  // From here on every op that has run is added to `times`, which grows; null: none is.
  void set_timeline(std::vector<OpTime>* times) { interpreter_.observer().timeline = times; }

 private:
  Session(std::shared_ptr<const Engine> engine, const SessionOptions& options);
  Status check_sequences(std::span<const Run> runs) const;  // reads nothing of them that a step changes
  Status check_tokens(std::span<const Run> runs, int64_t& rows) const;
  Status check_rows(std::span<const int32_t> wanted, int64_t rows) const;
  Status check_cross_weights(const CrossWeights& weights) const;
  Status check_input(const EncoderInput& input, int64_t& rows) const;
  FrameRun frame_run(Sequence& sequence, size_t index);  // without its tokens; index among the runs
  void begin_frame(std::span<const Run> runs);
  Result<StepResult> answer(const StepRequest& request);
  Result<StepResult> unless_cancelled(Result<StepResult> result) const;
  Result<const float*> run_head(const Part& part, std::span<const int32_t> rows, ValueId result);
  void commit(std::span<const Run> runs);
  void execute(const Part& part, const EncoderInput* input = nullptr, const CrossWeights& weights = {});

  std::shared_ptr<const Engine> engine_;
  SessionOptions options_;
  ThreadPool pool_;
  ExecModel model_;
  Interpreter interpreter_;
  std::vector<MethodPlan> methods_;
  size_t method_ = 0;                     // of the last step
  std::unique_ptr<ExecBackend> backend_;  // its memory: values and workspace of the longest method, tables of the frame
  std::unique_ptr<Frame> frame_;
  std::vector<FrameRun> runs_;      // [runs of a step]
  std::vector<CrossView> crosses_;  // [sequences][cross caches of the program]
  std::vector<Argmax> argmax_;      // [head rows] of the last step that was asked
  int64_t last_rows_ = 0;           // that can be asked for; 0 after an encode or an error of a device
  int64_t max_positions_ = 0;       // of position embeddings; 0: any number
  std::atomic<bool> busy_{false};
};

// Bytes of the arena that `create` would map for an engine of this program and arithmetic: in the memory of the device
// that it runs on.
Result<size_t> plan_session_bytes(const Program& program, Math math, const SessionOptions& options,
                                  Device device = Device::cpu);

}  // namespace kvass
