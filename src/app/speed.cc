#include "app/speed.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>
#include <random>

#include "ops/linear/weight.h"
#include "program/op_spec.h"

namespace kvass {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

std::vector<int32_t> random_tokens(size_t count, int64_t vocabulary) {
  std::mt19937 random(1);
  std::vector<int32_t> tokens(count);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % static_cast<uint32_t>(vocabulary));
  return tokens;
}

// The first `count` tokens of the text, as often as it takes.
std::vector<int32_t> text_tokens(const OpenModel& model, const std::string& text, size_t count) {
  const std::vector<int32_t> once = model.tokenizer->encode(text, {.bos = model.tokenizer->add_bos()});
  std::vector<int32_t> tokens;
  while (tokens.size() < count) {
    tokens.insert(tokens.end(), once.begin(),
                  once.begin() + static_cast<std::ptrdiff_t>(std::min(once.size(), count - tokens.size())));
  }
  return tokens;
}

// With `logits`, those of the last row are asked for.
Status feed(Session& session, Sequence& sequence, std::span<const int32_t> tokens, const std::atomic<bool>& cancel,
            bool logits = false) {
  const size_t chunk = static_cast<size_t>(sequence.plan().chunk);
  for (size_t at = 0; at < tokens.size(); at += chunk) {
    if (cancel.load(std::memory_order_relaxed)) return Status::error(StatusCode::cancelled, "bench: interrupted");
    const Run run{&sequence, sequence.length(), tokens.subspan(at, std::min(chunk, tokens.size() - at))};
    const int32_t last = static_cast<int32_t>(run.tokens.size()) - 1;
    const size_t asked = logits && at + run.tokens.size() == tokens.size() ? 1 : 0;
    KVASS_RETURN_IF_ERROR(
        session.step({.runs = std::span(&run, 1), .logits = std::span(&last, asked), .cancel = &cancel}).status());
  }
  return {};
}

// One depth: a sequence that is filled to it once and copied to where the clock runs, since filling costs far more.
struct Depth {
  int64_t depth = 0;                 // tokens
  CacheOptions caches;               // with room for the longest row
  std::vector<int32_t> tokens;       // [depth + longest row]
  std::unique_ptr<Sequence> filled;  // with the first `depth` tokens
};

// Sequences that run together, and the session that steps them.
struct Batch {
  std::unique_ptr<Session> session;
  std::vector<std::unique_ptr<Sequence>> sequences;
};

Result<std::unique_ptr<Session>> open_session(const OpenModel& model, const StreamOptions& options,
                                              const CacheOptions& caches, int64_t sequences) {
  KVASS_ASSIGN_OR_RETURN(SessionOptions session, session_options(options, caches, /*head_rows=*/sequences));
  session.rows = std::max(session.rows, sequences);
  session.sequences = sequences;
  session.decode_method = model.methods.size() > 1;
  return Session::create(model.engine, session, model.methods);
}

Result<Batch> open_batch(const OpenModel& model, const StreamOptions& options, const Depth& depth, int64_t sequences) {
  Batch batch;
  KVASS_ASSIGN_OR_RETURN(batch.session, open_session(model, options, depth.caches, sequences));
  for (int64_t i = 0; i < sequences; ++i) {
    KVASS_ASSIGN_OR_RETURN(std::unique_ptr<Sequence> sequence, Sequence::create(model.engine, depth.caches));
    batch.sequences.push_back(std::move(sequence));
  }
  return batch;
}

Result<Depth> open_depth(const OpenModel& model, const StreamOptions& options, int64_t tokens, int64_t longest,
                         const std::string& text, const std::atomic<bool>& cancel) {
  Depth depth;
  depth.depth = tokens;
  const auto count = static_cast<size_t>(tokens + longest);
  depth.tokens =
      text.empty() ? random_tokens(count, model.engine->program().vocabulary()) : text_tokens(model, text, count);
  StreamOptions sized = options;
  if (!options.attention_sink && !options.endless) {
    sized.context = std::max({tokens + longest, options.context.value_or(0), int64_t{1}});
  }
  KVASS_ASSIGN_OR_RETURN(depth.caches, resolve_caches(sized, model.trained_context));
  KVASS_ASSIGN_OR_RETURN(depth.filled, Sequence::create(model.engine, depth.caches));
  KVASS_ASSIGN_OR_RETURN(const std::unique_ptr<Session> session, open_session(model, options, depth.caches, 1));
  KVASS_RETURN_IF_ERROR(
      feed(*session, *depth.filled, std::span(depth.tokens).first(static_cast<size_t>(tokens)), cancel));
  return depth;
}

// Seconds of one prefill of `count` tokens, the last row's logits included.
Result<double> time_prefill(const Depth& depth, Batch& batch, int64_t count, const std::atomic<bool>& cancel) {
  Sequence& sequence = *batch.sequences[0];
  KVASS_RETURN_IF_ERROR(sequence.copy_from(*depth.filled));
  const std::span<const int32_t> prompt =
      std::span(depth.tokens).subspan(static_cast<size_t>(depth.depth), static_cast<size_t>(count));
  const Clock::time_point begin = Clock::now();
  KVASS_RETURN_IF_ERROR(feed(*batch.session, sequence, prompt, cancel, true));
  return seconds_since(begin);
}

// Seconds of `count` steps of all sequences: with all logits of each, or `greedy`, with the tokens of the largest
// logits, which are the next step's.
Result<double> time_decode(const Depth& depth, Batch& batch, int64_t count, bool greedy,
                           const std::atomic<bool>& cancel) {
  std::vector<int32_t> rows;
  for (const std::unique_ptr<Sequence>& sequence : batch.sequences) {
    rows.push_back(static_cast<int32_t>(rows.size()));
    KVASS_RETURN_IF_ERROR(sequence->copy_from(*depth.filled));
  }
  std::vector<Run> runs(rows.size());
  std::vector<int32_t> tokens(rows.size(), depth.tokens[static_cast<size_t>(depth.depth)]);
  const Clock::time_point begin = Clock::now();
  for (int64_t step = 0; step < count; ++step) {
    if (cancel.load(std::memory_order_relaxed)) return Status::error(StatusCode::cancelled, "bench: interrupted");
    if (!greedy) std::fill(tokens.begin(), tokens.end(), depth.tokens[static_cast<size_t>(depth.depth + step)]);
    for (size_t i = 0; i < runs.size(); ++i) {
      runs[i] = {batch.sequences[i].get(), depth.depth + step, std::span(&tokens[i], 1)};
    }
    const std::span<const int32_t> none;
    KVASS_ASSIGN_OR_RETURN(
        const StepResult result,
        batch.session->step({.runs = runs, .logits = greedy ? none : rows, .argmax = greedy ? rows : none}));
    for (size_t i = 0; i < result.argmax.size(); ++i) {
      if (result.argmax[i].index < 0) return bad_input("logits", "a number among them", "NaN alone");
      tokens[i] = static_cast<int32_t>(result.argmax[i].index);
    }
  }
  return seconds_since(begin);
}

// Keys that layer `state` sees from position `query`.
double visible_keys(const Depth& depth, size_t state, int64_t query) {
  const RowVisibility row = depth.filled->plan().layers[state].layout.row_visibility(query);
  return static_cast<double>(row.sink_end + row.end - row.begin);
}

// Multiply-adds of a prefill: the body's weights once a token, the head's once, and the visible keys, for the scores
// and for the sum of values.
double prefill_multiply_adds(const Program& program, const Depth& depth, int64_t count) {
  double sum = 0.0;
  for (const Part& part : program.parts) {
    if (part.name == "greedy") continue;  // instead of the head
    const double rows = part.name == "head" ? 1.0 : static_cast<double>(count);
    for (int32_t i = part.begin; i < part.end; ++i) {
      const Op& op = program.ops[static_cast<size_t>(i)];
      const OpSpec& spec = op_spec(op.kind);
      if (spec.weight_form == WeightForm::matrix && !spec.reads_single_rows) {
        for (WeightId id : op.weights) {
          const Weight& weight = program.weights[static_cast<size_t>(id)];
          sum += rows * static_cast<double>(weight.outputs) * static_cast<double>(weight.inputs);
        }
      } else if (spec.state == Access::reads) {
        const auto state = static_cast<size_t>(op.state);
        const double per_key = 2.0 * static_cast<double>(op.heads * program.states[state].head_dim);
        for (int64_t t = 0; t < count; ++t) sum += per_key * visible_keys(depth, state, depth.depth + t);
      }
    }
  }
  return sum;
}

// Bytes that a step of `sequences` reads in the middle of a row: the weights once (only rows of an embedding that is
// not the head too), and every sequence's visible keys and values.
double decode_bytes(const Engine& engine, const Depth& depth, int64_t count, int64_t sequences) {
  const Program& program = engine.program();
  std::vector<bool> read(program.weights.size(), false);
  for (const Op& op : program.ops) {
    if (op_spec(op.kind).reads_single_rows) continue;
    for (WeightId id : op.weights) read[static_cast<size_t>(id)] = true;
  }
  double bytes = 0.0;
  for (size_t i = 0; i < read.size(); ++i) {
    if (!read[i]) continue;
    const PackedWeight& weight = engine.weights().matrices[i];
    const Result<size_t> packed = packed_bytes(weight.type, weight.n, weight.k);  // an error for a vector: it has no n
    bytes += packed.ok() ? static_cast<double>(packed.value()) : 4.0 * static_cast<double>(program.weights[i].inputs);
  }
  for (size_t i = 0; i < program.states.size(); ++i) {
    const CacheState& state = program.states[i];
    const double key =
        static_cast<double>(state.kv_heads) * static_cast<double>(head_row_bytes(depth.caches.dtype, state.head_dim));
    bytes += static_cast<double>(sequences) * 2.0 * key * visible_keys(depth, i, depth.depth + count / 2);
  }
  return bytes;
}

void summarise(std::vector<double> values, BenchRow& row) {
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  row.tps = n % 2 == 1 ? values[n / 2] : 0.5 * (values[n / 2 - 1] + values[n / 2]);
  double mean = 0.0, squares = 0.0;
  for (double value : values) mean += value / static_cast<double>(n);
  for (double value : values) squares += (value - mean) * (value - mean);
  row.deviation = n > 1 ? std::sqrt(squares / static_cast<double>(n - 1)) : 0.0;
}

MachineLimits higher(const MachineLimits& a, const MachineLimits& b) {
  return {std::max(a.read_bytes, b.read_bytes), std::max(a.multiply_adds, b.multiply_adds)};
}

}  // namespace

Status validate(const BenchOptions& options) {
  constexpr int64_t kMost = int64_t{1} << 30;
  const auto tokens = [](const char* field, const std::vector<int64_t>& list) -> Status {
    for (int64_t value : list) {
      if (value < 0 || value > kMost) return bad_input(field, "0 to 2^30 tokens", std::to_string(value));
    }
    return {};
  };
  KVASS_RETURN_IF_ERROR(tokens("BenchOptions.prefill", options.prefill));
  KVASS_RETURN_IF_ERROR(tokens("BenchOptions.decode", options.decode));
  KVASS_RETURN_IF_ERROR(tokens("BenchOptions.greedy", options.greedy));
  KVASS_RETURN_IF_ERROR(tokens("BenchOptions.depths", options.depths));
  for (int64_t batch : options.batches) {
    if (batch < 1 || batch > 4096)
      return bad_input("BenchOptions.batches", "1 to 4096 sequences", std::to_string(batch));
  }
  if (options.repetitions < 1)
    return bad_input("BenchOptions.repetitions", "at least 1", std::to_string(options.repetitions));
  return {};
}

Status bench(const OpenModel& model, const StreamOptions& options, const BenchOptions& bench,
             const std::function<void(const BenchRow&, const MachineLimits&)>& on_row,
             const std::atomic<bool>& cancel) {
  KVASS_RETURN_IF_ERROR(validate(bench));
  int64_t longest = 0;
  for (int64_t count : bench.prefill) longest = std::max(longest, count);
  for (int64_t count : bench.decode) longest = std::max(longest, count);
  for (int64_t count : bench.greedy) longest = std::max(longest, count);
  KVASS_ASSIGN_OR_RETURN(const int threads, resolve_threads(options.threads));
  std::optional<MachineProbe> probe;
  MachineLimits of_device;
  if (const DeviceRuntime* device = model.engine->device()) {
    KVASS_ASSIGN_OR_RETURN(const DeviceProperties properties, device->properties());
    of_device.read_bytes = properties.bandwidth;
  } else {
    KVASS_ASSIGN_OR_RETURN(probe, MachineProbe::create(threads, &cancel));
  }
  const auto measure = [&]() -> Result<MachineLimits> {
    return probe ? probe->measure(model.engine->math()) : of_device;
  };

  enum class Test { prefill, decode, greedy };
  const auto row = [&](const Depth& depth, Test test, int64_t count, int64_t sequences) -> Status {
    const bool prefill = test == Test::prefill;
    KVASS_ASSIGN_OR_RETURN(Batch batch, open_batch(model, options, depth, sequences));
    KVASS_ASSIGN_OR_RETURN(const MachineLimits before, measure());
    std::vector<double> tps;
    BenchRow result;
    result.test = (prefill ? "pp" : test == Test::decode ? "tg" : "gg") + std::to_string(count);
    result.prefill = prefill;
    result.depth = depth.depth;
    result.batch = sequences;
    for (int i = -1; i < bench.repetitions; ++i) {  // the first one warms up
      if (bench.profile && i == bench.repetitions - 1) batch.session->set_timeline(&result.profile);
      KVASS_ASSIGN_OR_RETURN(const double seconds,
                             prefill ? time_prefill(depth, batch, count, cancel)
                                     : time_decode(depth, batch, count, test == Test::greedy, cancel));
      result.seconds = seconds;
      if (i >= 0) tps.push_back(static_cast<double>(count * sequences) / seconds);
    }
    KVASS_ASSIGN_OR_RETURN(const MachineLimits after, measure());
    const MachineLimits limits = higher(before, after);
    summarise(tps, result);
    const double per_second = result.tps / static_cast<double>(prefill ? count : sequences);  // prompts, or steps
    const double work = prefill ? prefill_multiply_adds(model.engine->program(), depth, count)
                                : decode_bytes(*model.engine, depth, count, sequences);
    const double limit = prefill ? limits.multiply_adds : limits.read_bytes;
    result.limit_share = limit > 0.0 ? work * per_second / limit : 0.0;
    on_row(result, limits);
    return {};
  };

  for (int64_t tokens : bench.depths) {
    KVASS_ASSIGN_OR_RETURN(const Depth depth, open_depth(model, options, tokens, longest, bench.text, cancel));
    for (int64_t count : bench.prefill) {
      if (count > 0) KVASS_RETURN_IF_ERROR(row(depth, Test::prefill, count, 1));
    }
    for (const Test test : {Test::decode, Test::greedy}) {
      for (int64_t count : test == Test::decode ? bench.decode : bench.greedy) {
        if (count == 0) continue;
        for (int64_t sequences : bench.batches) KVASS_RETURN_IF_ERROR(row(depth, test, count, sequences));
      }
    }
  }
  return {};
}

}  // namespace kvass
