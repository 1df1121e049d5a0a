#include "session/session.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/busy.h"
#include "base/float_env.h"
#include "exec/operators.h"
#include "program/greedy.h"

namespace kvass {
namespace {

Status busy_error() {
  return Status::error(StatusCode::busy,
                       expected_message("session", "one caller at a time", "a second one while a step runs"));
}

Status cancelled_error() { return Status::error(StatusCode::cancelled, "step: cancelled"); }

// The claims of a step on its sequences: all of them, or it does not run.
class Claims {
 public:
  explicit Claims(std::span<const Run> runs) : runs_(runs) {
    while (held_ < runs.size() && !runs[held_].sequence->busy().exchange(true, std::memory_order_acquire)) ++held_;
  }
  ~Claims() {
    for (size_t i = 0; i < held_; ++i) runs_[i].sequence->busy().store(false, std::memory_order_release);
  }
  Claims(const Claims&) = delete;
  Claims& operator=(const Claims&) = delete;
  Status status() const { return held_ == runs_.size() ? Status() : Sequence::busy_error(); }

 private:
  std::span<const Run> runs_;
  size_t held_ = 0;  // runs [0, held_)
};

// A method without its arena.
MethodPlan sized_method(std::string name, const Program& program, Math math, const SessionOptions& options) {
  MethodPlan method;
  method.name = std::move(name);
  method.rows = options.rows;
  method.head_rows = options.head_rows;
  method.sequences = options.sequences;
  method.threads = options.threads;
  for (const Op& op : program.ops) {
    method.workspace_bytes.push_back(workspace_bytes({program, op, math, method.limits(), options.threads}));
  }
  return method;
}

Result<std::vector<MethodPlan>> sized_methods(const Program& program, Math math, const SessionOptions& options) {
  if (options.threads < 1) return bad_input("SessionOptions.threads", "at least 1", std::to_string(options.threads));
  if (options.sequences < 1)
    return bad_input("SessionOptions.sequences", "at least 1", std::to_string(options.sequences));
  std::vector<MethodPlan> methods;
  methods.push_back(sized_method(options.decode_method ? "prefill" : "forward", program, math, options));
  if (!options.decode_method) return methods;
  SessionOptions decode = options;
  decode.rows = std::min(options.rows, options.sequences);
  methods.push_back(sized_method("decode", program, math, decode));
  return methods;
}

size_t arena_bytes_of(const std::vector<MethodPlan>& methods) {
  size_t bytes = 0;
  for (const MethodPlan& method : methods) bytes = std::max(bytes, method.arena.bytes);
  return bytes;
}

BackendLimits backend_limits(const SessionOptions& options) {
  return {{options.rows, options.head_rows, options.sequences}, options.keys};
}

// Whether planned methods of the program are those that would be planned now, wherever they put their values.
bool same_methods(const std::vector<MethodPlan>& planned, const std::vector<MethodPlan>& wanted,
                  const Program& program) {
  return std::equal(
      planned.begin(), planned.end(), wanted.begin(), wanted.end(), [&](const MethodPlan& a, const MethodPlan& b) {
        return a.rows == b.rows && a.head_rows == b.head_rows && a.sequences == b.sequences && a.threads == b.threads &&
               a.workspace_bytes == b.workspace_bytes && a.arena.values.size() == program.values.size();
      });
}

}  // namespace

Result<std::vector<MethodPlan>> plan_methods(const Program& program, Math math, const SessionOptions& options) {
  KVASS_ASSIGN_OR_RETURN(std::vector<MethodPlan> methods, sized_methods(program, math, options));
  for (MethodPlan& method : methods) {
    KVASS_ASSIGN_OR_RETURN(method.arena, plan_arena(program, method.limits(), method.workspace_bytes));
  }
  return methods;
}

Result<size_t> plan_session_bytes(const Program& program, Math math, const SessionOptions& options, Device device) {
  Program whole = program;  // as an engine has it
  add_greedy(whole);
  KVASS_ASSIGN_OR_RETURN(const std::vector<MethodPlan> methods, plan_methods(whole, math, options));
  return arena_bytes_of(methods) + ExecBackend::table_bytes(whole, backend_limits(options), device);
}

Session::Session(std::shared_ptr<const Engine> engine, const SessionOptions& options)
    : engine_(std::move(engine)),
      options_(options),
      pool_(options.threads, options.pin),
      model_(engine_->model()),
      interpreter_(engine_->program()),
      argmax_(static_cast<size_t>(options.head_rows)),
      max_positions_(engine_->program().max_positions()) {
  const auto sequences = static_cast<size_t>(options.sequences);
  runs_.reserve(sequences);
  crosses_.resize(sequences * engine_->program().crosses.size());
}

Session::~Session() = default;

Result<std::unique_ptr<Session>> Session::create(std::shared_ptr<const Engine> engine, const SessionOptions& options,
                                                 const std::vector<MethodPlan>& planned) {
  KVASS_ASSIGN_OR_RETURN(std::vector<MethodPlan> methods, sized_methods(engine->program(), engine->math(), options));
  if (same_methods(planned, methods, engine->program())) {
    methods = planned;
  } else {
    KVASS_ASSIGN_OR_RETURN(methods, plan_methods(engine->program(), engine->math(), options));
  }
  std::unique_ptr<Session> session(new Session(std::move(engine), options));
  session->methods_ = std::move(methods);
  const BackendLimits limits = backend_limits(options);
  KVASS_ASSIGN_OR_RETURN(session->backend_,
                         ExecBackend::create(session->model_, limits, arena_bytes_of(session->methods_)));
  session->frame_ = std::make_unique<Frame>(session->model_.program, limits.rows, session->backend_->frame_memory());
  return session;
}

Status Session::check_sequences(std::span<const Run> runs) const {
  if (static_cast<int64_t>(runs.size()) > options_.sequences) {
    return bad_input("runs of a step", "at most " + std::to_string(options_.sequences), std::to_string(runs.size()));
  }
  for (size_t i = 0; i < runs.size(); ++i) {
    const Run& run = runs[i];
    if (run.sequence == nullptr || &run.sequence->engine() != engine_.get()) {
      return bad_input("sequence of run " + std::to_string(i), "one of this session's engine", "another");
    }
    for (size_t j = 0; j < i; ++j) {
      if (runs[j].sequence == run.sequence) {
        return bad_input("runs of a step", "each sequence once",
                         "runs " + std::to_string(j) + " and " + std::to_string(i) + " of one sequence");
      }
    }
    if (run.sequence->options().dtype != runs[0].sequence->options().dtype) {
      return bad_input("sequences of a step", "one storage type of caches",
                       std::string(dtype_name(runs[0].sequence->options().dtype)) + " and " +
                           std::string(dtype_name(run.sequence->options().dtype)));
    }
  }
  return {};
}

Status Session::check_tokens(std::span<const Run> runs, int64_t& rows) const {
  for (size_t i = 0; i < runs.size(); ++i) {
    const Run& run = runs[i];
    KVASS_RETURN_IF_ERROR(run.sequence->check_extend(run.start, static_cast<int64_t>(run.tokens.size())));
    if (max_positions_ != 0 && run.start + static_cast<int64_t>(run.tokens.size()) > max_positions_) {
      return bad_input("positions of a step", "below " + std::to_string(max_positions_) + ", as many as the model has",
                       "tokens up to " + std::to_string(run.start + static_cast<int64_t>(run.tokens.size())));
    }
    if (engine_->program().has_encoder() && (run.sequence->cross() == nullptr || run.sequence->cross()->rows() == 0)) {
      return bad_input("sequence of run " + std::to_string(i), "an encode before its first step", "none");
    }
    const int64_t vocabulary = engine_->program().vocabulary();
    for (int32_t token : run.tokens) {
      if (token < 0 || token >= vocabulary) {
        return bad_input("token id", "0 to " + std::to_string(vocabulary - 1), std::to_string(token));
      }
    }
    rows += static_cast<int64_t>(run.tokens.size());
  }
  if (rows > options_.rows) {
    return bad_input("tokens of a step", "at most " + std::to_string(options_.rows) + " over all its runs",
                     std::to_string(rows));
  }
  return {};
}

Status Session::check_rows(std::span<const int32_t> wanted, int64_t rows) const {
  if (static_cast<int64_t>(wanted.size()) > options_.head_rows) {
    return bad_input("rows of logits", "at most " + std::to_string(options_.head_rows), std::to_string(wanted.size()));
  }
  for (int32_t row : wanted) {
    if (row < 0 || row >= rows) {
      return bad_input("row of logits", "a row of the step (0 to " + std::to_string(rows - 1) + ")",
                       std::to_string(row));
    }
  }
  return {};
}

Status Session::check_cross_weights(const CrossWeights& weights) const {
  const Program& program = engine_->program();
  for (const CrossHead& wanted : weights.heads) {
    int64_t heads = 0;
    for (const Op& op : program.ops) {
      if (op_spec(op.kind).has_cross_weights && op.cross == wanted.cross) heads = op.heads;
    }
    if (wanted.head < 0 || wanted.head >= heads) {
      return bad_input("head of cross-attention " + std::to_string(wanted.cross), "below " + std::to_string(heads),
                       std::to_string(wanted.head));
    }
  }
  if (!weights.heads.empty() && weights.out == nullptr) return bad_input("cross weights", "memory for them", "none");
  return {};
}

Result<StepResult> Session::step(const StepRequest& request) {
  Busy busy(busy_);
  if (!busy.mine()) return busy_error();
  KVASS_RETURN_IF_ERROR(check_sequences(request.runs));
  const Claims claims(request.runs);
  KVASS_RETURN_IF_ERROR(claims.status());
  int64_t rows = 0;
  KVASS_RETURN_IF_ERROR(check_tokens(request.runs, rows));
  if (request.runs.empty()) rows = last_rows_;
  KVASS_RETURN_IF_ERROR(check_rows(request.logits, rows));
  KVASS_RETURN_IF_ERROR(check_rows(request.argmax, rows));
  KVASS_RETURN_IF_ERROR(check_cross_weights(request.cross_weights));
  FloatEnvironment environment;
  if (!request.runs.empty()) begin_frame(request.runs);
  const ThreadPool::Cancel cancel(pool_, request.cancel);
  if (request.runs.empty()) return unless_cancelled(answer(request));
  last_rows_ = 0;
  if (rows == 0) return StepResult{};
  method_ = methods_.size() - 1;
  while (methods_[method_].rows < rows) --method_;
  KVASS_RETURN_IF_ERROR(backend_->begin(*frame_));
  execute(*engine_->program().find_part("body"), nullptr, request.cross_weights);
  Result<StepResult> result = unless_cancelled(answer(request));
  if (!result.ok()) {
    for (const Run& run : request.runs) run.sequence->abandon(static_cast<int64_t>(run.tokens.size()));
    return result;
  }
  commit(request.runs);
  last_rows_ = rows;
  return result;
}

FrameRun Session::frame_run(Sequence& sequence, size_t index) {
  FrameRun run;
  run.plan = &sequence.plan();
  run.caches = sequence.block();
  CrossCache* cross = sequence.cross();
  if (!cross) return run;
  run.source = cross->source();
  run.source_rows = cross->rows();
  const size_t count = engine_->program().crosses.size();
  run.crosses = std::span(crosses_).subspan(index * count, count);
  for (size_t i = 0; i < count; ++i) {
    const auto id = static_cast<CrossId>(i);
    run.crosses[i] = {cross->shape(id), cross->segment(id), cross->initialised(id), cross->filled(id)};
  }
  return run;
}

void Session::begin_frame(std::span<const Run> runs) {
  runs_.clear();
  for (const Run& run : runs) {
    FrameRun& added = runs_.emplace_back(frame_run(*run.sequence, runs_.size()));
    added.tokens = run.tokens;
    added.start = run.start;
  }
  frame_->begin(runs_, model_.rotaries, pool_);
}

void Session::commit(std::span<const Run> runs) {
  for (size_t i = 0; i < runs.size(); ++i) {
    runs[i].sequence->commit(static_cast<int64_t>(runs[i].tokens.size()));
    for (size_t c = 0; c < runs_[i].crosses.size(); ++c) {
      const CrossView& cross = runs_[i].crosses[c];
      const auto id = static_cast<CrossId>(c);
      if (cross.initialised) runs[i].sequence->cross()->set_initialised(id, cross.filled);
    }
  }
}

// A step whose tasks were left out in part has no result.
Result<StepResult> Session::unless_cancelled(Result<StepResult> result) const {
  return pool_.cancelled() ? Result<StepResult>(cancelled_error()) : result;
}

// The rows' values of `result` once the ops of a head have run.
Result<const float*> Session::run_head(const Part& part, std::span<const int32_t> rows, ValueId result) {
  const Program& program = engine_->program();
  frame_->select(rows);
  KVASS_RETURN_IF_ERROR(backend_->select(*frame_));
  execute(part);
  const auto* from =
      reinterpret_cast<const float*>(backend_->arena() + last_method().arena.values[static_cast<size_t>(result)]);
  const int64_t width = program.values[static_cast<size_t>(result)].width;
  return backend_->read(from, static_cast<int64_t>(rows.size()) * width);
}

// The argmax comes first: `greedy` may work where logits lie (plan/arena.h).
Result<StepResult> Session::answer(const StepRequest& request) {
  const Program& program = engine_->program();
  const Part& head = *program.find_part("head");
  StepResult result;
  if (!request.argmax.empty()) {
    if (interpreter_.observer().probe) {
      KVASS_RETURN_IF_ERROR(run_head(head, request.argmax, program.logits).status());
    }
    const ThreadPool::Cancel whole(pool_, nullptr);  // its tables of candidates are never half made
    KVASS_ASSIGN_OR_RETURN(const float* found,
                           run_head(*program.find_part("greedy"), request.argmax, program.argmax()));
    std::copy_n(reinterpret_cast<const Argmax*>(found), request.argmax.size(), argmax_.begin());
    result.argmax = std::span(argmax_).first(request.argmax.size());
  }
  if (!request.logits.empty()) {
    KVASS_ASSIGN_OR_RETURN(const float* logits, run_head(head, request.logits, program.logits));
    result.logits = std::span(logits, request.logits.size() * static_cast<size_t>(program.vocabulary()));
  }
  if (request.logits.empty() && request.argmax.empty()) KVASS_RETURN_IF_ERROR(backend_->finish());
  KVASS_RETURN_IF_ERROR(engine_->check_weights());
  return result;
}

Status Session::check_input(const EncoderInput& input, int64_t& rows) const {
  const Program& program = engine_->program();
  if (!program.has_encoder()) return bad_input("encode", "a program with an encoder", "one without");
  const Value& value = program.values[static_cast<size_t>(program.input()->outputs[0])];
  const int64_t most = value.extent == Extent::frames ? program.source.frames : program.source.rows;
  if (input.shape.size() != 2) {
    return bad_input("encoder input", "rank 2: [channels][rows]", "rank " + std::to_string(input.shape.size()));
  }
  if (input.dtype != DType::f32) return bad_input("encoder input", "f32", dtype_name(input.dtype));
  if (input.shape[0] != value.width) {
    return bad_input("encoder input", std::to_string(value.width) + " channels", std::to_string(input.shape[0]));
  }
  if (input.shape[1] < 1 || input.shape[1] > most) {
    return bad_input("encoder input", "1 to " + std::to_string(most) + " rows", std::to_string(input.shape[1]));
  }
  if (input.stride != 0 && input.stride < input.shape[1]) {
    return bad_input("encoder input",
                     "channels that do not overlap, a stride of at least " + std::to_string(input.shape[1]),
                     std::to_string(input.stride));
  }
  rows = input.shape[1];
  return {};
}

Status Session::encode(Sequence& sequence, const EncoderInput& input, const std::atomic<bool>* cancel) {
  Busy busy(busy_);
  if (!busy.mine()) return busy_error();
  int64_t frames = 0;
  KVASS_RETURN_IF_ERROR(check_input(input, frames));
  if (&sequence.engine() != engine_.get())
    return bad_input("sequence to encode for", "one of this session's engine", "another");
  const Busy sequence_busy(sequence.busy());
  if (!sequence_busy.mine()) return Sequence::busy_error();
  KVASS_RETURN_IF_ERROR(sequence.own_cross());
  const Program& program = engine_->program();
  const bool halved = program.values[static_cast<size_t>(program.input()->outputs[0])].extent == Extent::frames;
  sequence.cross()->begin(halved ? (frames + 1) / 2 : frames);
  FloatEnvironment environment;
  last_rows_ = 0;
  frame_->begin_encode(frame_run(sequence, 0), frames);
  KVASS_RETURN_IF_ERROR(backend_->begin(*frame_));
  const ThreadPool::Cancel scope(pool_, cancel);
  execute(*program.find_part("encode"), &input);
  Status status = backend_->finish();
  if (status.ok() && pool_.cancelled()) status = cancelled_error();
  if (status.ok()) status = engine_->check_weights();
  if (!status.ok()) sequence.cross()->clear();
  return status;
}

int64_t Session::executed(OpKind kind) const {
  int64_t count = 0;
  for (size_t i = 0; i < executed_ops().size(); ++i) {
    if (engine_->program().ops[i].kind == kind) count += executed_ops()[i];
  }
  return count;
}

void Session::execute(const Part& part, const EncoderInput* input, const CrossWeights& weights) {
  const ExecContext context{model_, *frame_, last_method().arena, backend_->arena(), pool_,
                            input,  weights, options_.rows};
  interpreter_.run(part, context, *backend_);
}

}  // namespace kvass
