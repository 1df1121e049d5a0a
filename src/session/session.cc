#include "session/session.h"

#include <algorithm>
#include <cassert>
#include <chrono>
#include <string>
#include <utility>

#include "base/busy.h"
#include "base/float_env.h"
#include "session/executor.h"
#include "session/step.h"

namespace kvass {
namespace {

int64_t now() { return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1); }

Status busy_error() {
  return Status::error(StatusCode::busy,
                       expected_message("session", "one caller at a time", "a second one while a step runs"));
}

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
  for (const Op& op : program.ops) method.workspace_bytes.push_back(workspace_bytes(program, math, op, options));
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
  KVASS_ASSIGN_OR_RETURN(const std::vector<MethodPlan> methods, plan_methods(program, math, options));
  return arena_bytes_of(methods) + Executor::table_bytes(program, options, device);
}

Session::Session(std::shared_ptr<const Engine> engine, const SessionOptions& options)
    : engine_(std::move(engine)),
      options_(options),
      pool_(options.threads, options.pin),
      executed_(engine_->program().ops.size(), 0),
      max_positions_(engine_->program().max_positions()) {
  for (const Branch& branch : engine_->program().branches) {
    one_sequence_.push_back(engine_->program().one_sequence(branch));
  }
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
  const size_t bytes = arena_bytes_of(session->methods_);
  const Program& program = session->engine_->program();
  KVASS_ASSIGN_OR_RETURN(session->executor_, Executor::create(*session->engine_, options, bytes));
  session->tables_ = std::make_unique<StepTables>(program, options, session->executor_->tables());
  return session;
}

size_t Session::arena_bytes() const { return executor_->bytes(); }

float* Session::value(ValueId id) {
  return reinterpret_cast<float*>(executor_->arena() + last_method().arena.values[static_cast<size_t>(id)]);
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

Status Session::check_tokens(std::span<const Run> runs) const {
  int64_t rows = 0;
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

Status Session::step(std::span<const Run> runs) {
  Busy busy(busy_);
  if (!busy.mine()) return busy_error();
  KVASS_RETURN_IF_ERROR(check_sequences(runs));
  const Claims claims(runs);
  KVASS_RETURN_IF_ERROR(claims.status());
  KVASS_RETURN_IF_ERROR(check_tokens(runs));
  FloatEnvironment environment;
  tables_->begin(*engine_, runs, pool_);
  if (tables_->rows() == 0) return {};
  method_ = methods_.size() - 1;
  while (methods_[method_].rows < tables_->rows()) --method_;
  KVASS_RETURN_IF_ERROR(executor_->begin(*tables_));
  execute(*engine_->program().find_method("body"));
  KVASS_RETURN_IF_ERROR(executor_->finish());
  for (const Run& run : runs) run.sequence->commit(static_cast<int64_t>(run.tokens.size()));
  return {};
}

Status Session::run_head(std::span<const int32_t> rows, LikeliestLogit* likeliest) {
  if (static_cast<int64_t>(rows.size()) > options_.head_rows) {
    return bad_input("rows of logits", "at most " + std::to_string(options_.head_rows), std::to_string(rows.size()));
  }
  for (int32_t row : rows) {
    if (row < 0 || row >= tables_->rows()) {
      return bad_input("row of logits", "a row of the last step (0 to " + std::to_string(tables_->rows() - 1) + ")",
                       std::to_string(row));
    }
  }
  tables_->select(rows);
  KVASS_RETURN_IF_ERROR(executor_->select(*tables_));
  execute(*engine_->program().find_method("head"), nullptr, likeliest);
  return {};
}

Result<std::span<const float>> Session::logits(std::span<const int32_t> rows) {
  Busy busy(busy_);
  if (!busy.mine()) return busy_error();
  FloatEnvironment environment;
  KVASS_RETURN_IF_ERROR(run_head(rows));
  const int64_t floats = static_cast<int64_t>(rows.size()) * engine_->program().vocabulary();
  KVASS_ASSIGN_OR_RETURN(const float* logits, executor_->read(value(engine_->program().logits), floats));
  return std::span<const float>(logits, static_cast<size_t>(floats));
}

Result<std::span<const Argmax>> Session::likeliest(std::span<const int32_t> rows) {
  Busy busy(busy_);
  if (!busy.mine()) return busy_error();
  FloatEnvironment environment;
  LikeliestLogit* likeliest = rows.size() == 1 && !probe_ ? executor_->likeliest() : nullptr;
  KVASS_RETURN_IF_ERROR(run_head(rows, likeliest));
  if (likeliest && likeliest->found) return std::span<const Argmax>(&likeliest->logit, 1);
  const Program& program = engine_->program();
  KVASS_ASSIGN_OR_RETURN(
      const Argmax* result,
      executor_->argmax(value(program.logits), static_cast<int64_t>(rows.size()), program.vocabulary(), pool_));
  return std::span(result, rows.size());
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

Status Session::encode(Sequence& sequence, const EncoderInput& input) {
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
  tables_->begin_encode(sequence, frames);
  KVASS_RETURN_IF_ERROR(executor_->begin(*tables_));
  execute(*program.find_method("encode"), &input);
  return executor_->finish();
}

Status Session::set_cross_weights(const CrossWeights& weights) {
  Busy busy(busy_);
  if (!busy.mine()) return busy_error();
  const Program& program = engine_->program();
  for (const CrossHead& wanted : weights.heads) {
    int64_t heads = 0;
    for (const Op& op : program.ops) {
      if (op.kind == OpKind::cross_attention && op.cross == wanted.cross) heads = op.heads;
    }
    if (wanted.head < 0 || wanted.head >= heads) {
      return bad_input("head of cross-attention " + std::to_string(wanted.cross), "below " + std::to_string(heads),
                       std::to_string(wanted.head));
    }
  }
  if (!weights.heads.empty() && weights.out == nullptr) return bad_input("cross weights", "memory for them", "none");
  cross_weights_ = weights;
  return {};
}

int64_t Session::executed(OpKind kind) const {
  int64_t count = 0;
  for (size_t i = 0; i < executed_.size(); ++i) {
    if (engine_->program().ops[i].kind == kind) count += executed_[i];
  }
  return count;
}

void Session::execute(const Method& method, const EncoderInput* input, LikeliestLogit* likeliest) {
  const StepContext context{*engine_, *tables_,       last_method().arena, executor_->arena(), pool_,
                            input,    cross_weights_, options_.rows,       likeliest};
  execute_ops(method.begin, method.end, context);
}

void Session::execute_ops(int32_t begin, int32_t end, const StepContext& context) {
  const Program& program = engine_->program();
  for (int32_t i = begin; i < end; ++i) {
    const Op& op = program.ops[static_cast<size_t>(i)];
    ++executed_[static_cast<size_t>(i)];
    const int64_t begin_time = timeline_ ? now() : 0;
    const int32_t index = i;
    if (op.kind == OpKind::cond) {
      execute_cond(op, context);
      i = program.branches[static_cast<size_t>(op.branches.back())].end - 1;
    } else {
      executor_->run(context, op, static_cast<size_t>(i));
    }
    if (timeline_) {
      (void)executor_->finish();  // an error comes again at the end of the step
      timeline_->push_back({index, begin_time, now()});
    }
    if (probe_) show(op);
  }
}

// Neighbours that take the same branch run it together, unless it works on the source rows of one sequence.
void Session::execute_cond(const Op& op, const StepContext& context) {
  const Program& program = engine_->program();
  const StepTables::Window whole = tables_->window();
  const float* predicate = value(op.inputs[0]);
  const int64_t end = whole.first_run + whole.runs;
  for (int64_t run = whole.first_run; run < end;) {
    const bool taken = predicate[run] != 0.0f;
    const size_t id = static_cast<size_t>(op.branches[taken ? 0 : 1]);
    int64_t next = run + 1;
    while (!one_sequence_[id] && next < end && (predicate[next] != 0.0f) == taken) ++next;
    tables_->set_window(tables_->narrow(run, next - run));
    execute_ops(program.branches[id].begin, program.branches[id].end, context);
    run = next;
  }
  tables_->set_window(whole);
}

void Session::show(const Op& op) {
  for (ValueId id : op.outputs) {
    const Value& output = engine_->program().values[static_cast<size_t>(id)];
    if (output.view == View::keys || output.view == View::values) continue;
    const StepTables::Window& window = tables_->window();
    const float* data = output.view == View::source ? tables_->cross().source() : value(id);
    int64_t rows = 0;
    switch (output.extent) {
      case Extent::chunk:
        data += window.first_row * output.width;
        rows = window.rows;
        break;
      case Extent::head:
        rows = tables_->head_rows();
        break;
      case Extent::frames:
        rows = tables_->frames();
        break;
      case Extent::source:
        rows = tables_->cross().rows();
        break;
      case Extent::sequence:
        data += window.first_run;
        rows = window.runs;
        break;
    }
    const Result<const float*> shown = executor_->read(data, rows * output.width);
    if (shown.ok()) probe_({op, id, shown.value(), rows, output.width});  // otherwise the step's end says what is wrong
  }
}

}  // namespace kvass
