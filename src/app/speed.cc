#include "app/speed.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>
#include <random>

#include "app/machine.h"
#include "base/block.h"

namespace kvass {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

// Sequences of one length, and the session that steps them together.
struct Batch {
  std::unique_ptr<Session> session;
  std::vector<std::unique_ptr<Sequence>> sequences;
};

std::vector<int32_t> random_tokens(int64_t count, int64_t vocabulary) {
  std::mt19937 random(1);
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % static_cast<uint32_t>(vocabulary));
  return tokens;
}

Status feed(Session& session, Sequence& sequence, std::span<const int32_t> tokens, const std::atomic<bool>& cancel) {
  const size_t chunk = static_cast<size_t>(sequence.plan().chunk);
  for (size_t at = 0; at < tokens.size(); at += chunk) {
    if (cancel.load(std::memory_order_relaxed)) return Status::error("bench: interrupted");
    const Run run{&sequence, sequence.length(), tokens.subspan(at, std::min(chunk, tokens.size() - at))};
    KVASS_RETURN_IF_ERROR(session.step(std::span(&run, 1)));
  }
  return {};
}

Result<Batch> open_batch(const OpenModel& model, const StreamOptions& options, int64_t context, int64_t sequences) {
  StreamOptions sized = options;
  if (!options.attention_sink) sized.context = std::max<int64_t>(context, 1);
  KVASS_ASSIGN_OR_RETURN(const CacheOptions caches, resolve_caches(sized, model.trained_context));
  KVASS_ASSIGN_OR_RETURN(SessionOptions session, session_options(options, caches, /*head_rows=*/sequences));
  session.rows = std::max(session.rows, sequences);
  session.sequences = sequences;
  Batch batch;
  KVASS_ASSIGN_OR_RETURN(batch.session, Session::create(model.engine, session));
  for (int64_t i = 0; i < sequences; ++i) {
    KVASS_ASSIGN_OR_RETURN(std::unique_ptr<Sequence> sequence, Sequence::create(model.engine, caches));
    batch.sequences.push_back(std::move(sequence));
  }
  return batch;
}

// Seconds of one prefill of `tokens` at `depth`, the last row's logits included.
Result<double> time_prefill(Batch& batch, std::span<const int32_t> tokens, int64_t depth, const std::atomic<bool>& cancel) {
  Sequence& sequence = *batch.sequences[0];
  sequence.clear();
  KVASS_RETURN_IF_ERROR(feed(*batch.session, sequence, tokens.first(static_cast<size_t>(depth)), cancel));
  const Clock::time_point begin = Clock::now();
  const std::span<const int32_t> prompt = tokens.subspan(static_cast<size_t>(depth));
  KVASS_RETURN_IF_ERROR(feed(*batch.session, sequence, prompt, cancel));
  const int32_t last = static_cast<int32_t>((static_cast<int64_t>(prompt.size()) - 1) % sequence.plan().chunk);
  KVASS_ASSIGN_OR_RETURN(const std::span<const float> logits, batch.session->logits(std::span(&last, 1)));
  (void)logits;
  return seconds_since(begin);
}

// Seconds of `steps` decode steps of all sequences, logits included, at `depth`.
Result<double> time_decode(Batch& batch, std::span<const int32_t> tokens, int64_t depth, const std::atomic<bool>& cancel) {
  for (const std::unique_ptr<Sequence>& sequence : batch.sequences) {
    sequence->clear();
    KVASS_RETURN_IF_ERROR(feed(*batch.session, *sequence, tokens.first(static_cast<size_t>(depth)), cancel));
  }
  std::vector<Run> runs(batch.sequences.size());
  std::vector<int32_t> rows(batch.sequences.size());
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<int32_t>(i);
  const Clock::time_point begin = Clock::now();
  for (size_t at = static_cast<size_t>(depth); at < tokens.size(); ++at) {
    if (cancel.load(std::memory_order_relaxed)) return Status::error("bench: interrupted");
    for (size_t i = 0; i < runs.size(); ++i) runs[i] = {batch.sequences[i].get(), batch.sequences[i]->length(), tokens.subspan(at, 1)};
    KVASS_RETURN_IF_ERROR(batch.session->step(runs));
    KVASS_ASSIGN_OR_RETURN(const std::span<const float> logits, batch.session->logits(rows));
    (void)logits;
  }
  return seconds_since(begin);
}

// Multiply-adds of `tokens` prompt tokens at `depth`: every weight of the body a token, the head once, the visible keys.
double prefill_multiply_adds(const Program& program, int64_t tokens, int64_t depth) {
  double sum = 0.0;
  for (const Method& method : program.methods) {
    const double rows = method.name == "head" ? 1.0 : static_cast<double>(tokens);
    for (int32_t i = method.begin; i < method.end; ++i) {
      const Op& op = program.ops[static_cast<size_t>(i)];
      if (op.kind == OpKind::linear) {
        for (WeightId id : op.weights) {
          const Weight& weight = program.weights[static_cast<size_t>(id)];
          sum += rows * static_cast<double>(weight.outputs) * static_cast<double>(weight.inputs);
        }
      } else if (op.kind == OpKind::attention) {
        const CacheState& state = program.states[static_cast<size_t>(op.state)];
        for (int64_t t = depth; t < depth + tokens; ++t) {
          const int64_t keys = state.window == 0 ? t + 1 : std::min(t + 1, state.window);
          sum += 2.0 * static_cast<double>(keys * op.heads * state.head_dim);
        }
      }
    }
  }
  return sum;
}

// Bytes that one decode step reads: the weights once (of an embedding that is not the head too, only rows), and each sequence's
// visible keys and values.
double decode_bytes(const OpenModel& model, const Sequence& sequence, int64_t depth, int64_t sequences) {
  const Program& program = model.engine->program();
  std::vector<bool> read(program.weights.size(), false);
  for (const Op& op : program.ops) {
    if (op.kind == OpKind::embed) continue;
    for (WeightId id : op.weights) read[static_cast<size_t>(id)] = true;
  }
  double bytes = 0.0;
  for (size_t i = 0; i < read.size(); ++i) {
    const PackedWeight& weight = model.engine->weights().matrices[i];
    if (!read[i]) continue;
    bytes += weight.data ? static_cast<double>(panel_count(weight.n) * panel_bytes(weight.type, weight.k))
                         : static_cast<double>(program.weights[i].inputs) * 4.0;
  }
  for (size_t i = 0; i < program.states.size(); ++i) {
    const CacheState& state = program.states[i];
    const RowVisibility row = sequence.plan().layers[i].layout.row_visibility(depth);
    const double keys = static_cast<double>(row.sink_end + row.end - row.begin);
    bytes += static_cast<double>(sequences) * keys * 2.0 * static_cast<double>(state.kv_heads * state.head_dim) *
             static_cast<double>(dtype_bytes(sequence.options().dtype));
  }
  return bytes;
}

struct Measured {
  double median = 0.0;
  double deviation = 0.0;
};

Measured summarise(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  Measured measured;
  measured.median = n % 2 == 1 ? values[n / 2] : 0.5 * (values[n / 2 - 1] + values[n / 2]);
  double mean = 0.0;
  for (double value : values) mean += value / static_cast<double>(n);
  for (double value : values) measured.deviation += (value - mean) * (value - mean) / static_cast<double>(n);
  measured.deviation = std::sqrt(measured.deviation);
  return measured;
}

}  // namespace

MachineLimits measure_limits(ThreadPool& pool, Math math) {
  MachineLimits limits;
  const long cache = ::sysconf(_SC_LEVEL3_CACHE_SIZE);
  const size_t bytes = std::max<size_t>(size_t{128} << 20, 4 * static_cast<size_t>(std::max(cache, 0L)));
  Result<Block> buffer = Block::map(bytes);
  if (buffer.ok()) {
    const int64_t pieces = 8 * pool.threads();
    const size_t piece = bytes / static_cast<size_t>(pieces) / 64 * 64;
    std::fill_n(buffer->data(), bytes, uint8_t{1});
    for (int round = 0; round < 3; ++round) {
      const Clock::time_point begin = Clock::now();
      pool.run(pieces, [&](int64_t i, int) { read_bytes(buffer->data() + static_cast<size_t>(i) * piece, piece); });
      limits.read_bytes = std::max(limits.read_bytes, static_cast<double>(piece) * static_cast<double>(pieces) / seconds_since(begin));
    }
  }
  constexpr int64_t kRounds = int64_t{1} << 20;
  std::atomic<int64_t> done{0};
  for (int round = 0; round < 2; ++round) {
    done = 0;
    const Clock::time_point begin = Clock::now();
    pool.run(pool.threads(), [&](int64_t, int) { done += multiply_add_loop(kRounds, math != Math::f32); });
    limits.multiply_adds = std::max(limits.multiply_adds, static_cast<double>(done.load()) / seconds_since(begin));
  }
  return limits;
}

Status bench(const OpenModel& model, const StreamOptions& options, const BenchOptions& bench,
             const std::function<void(const BenchRow&, const MachineLimits&)>& on_row, const std::atomic<bool>& cancel) {
  if (bench.repetitions < 1) return bad_input("-r", "at least 1", std::to_string(bench.repetitions));
  for (const std::vector<int64_t>* list : {&bench.prefill, &bench.decode, &bench.depths}) {
    for (int64_t value : *list) {
      if (value < 0 || value > (int64_t{1} << 30)) return bad_input("-p, -n and -d", "0 to 2^30 tokens", std::to_string(value));
    }
  }
  for (int64_t batch : bench.batches) {
    if (batch < 1 || batch > 4096) return bad_input("-b", "1 to 4096 sequences", std::to_string(batch));
  }
  const int64_t vocabulary = model.engine->program().vocabulary();

  const auto row = [&](bool prefill, int64_t count, int64_t depth, int64_t sequences) -> Status {
    const std::vector<int32_t> tokens = random_tokens(depth + count, vocabulary);
    KVASS_ASSIGN_OR_RETURN(Batch batch, open_batch(model, options, depth + count, sequences));
    const MachineLimits before = measure_limits(batch.session->pool(), model.engine->math());
    std::vector<double> tps;
    for (int i = -1; i < bench.repetitions; ++i) {  // the first one warms up
      KVASS_ASSIGN_OR_RETURN(const double seconds, prefill ? time_prefill(batch, tokens, depth, cancel) : time_decode(batch, tokens, depth, cancel));
      if (i >= 0) tps.push_back(static_cast<double>(count * sequences) / seconds);
    }
    const MachineLimits after = measure_limits(batch.session->pool(), model.engine->math());
    const MachineLimits limits{std::max(before.read_bytes, after.read_bytes), std::max(before.multiply_adds, after.multiply_adds)};
    const Measured measured = summarise(tps);
    BenchRow result;
    result.test = (prefill ? "pp" : "tg") + std::to_string(count);
    result.depth = depth;
    result.batch = sequences;
    result.tps = measured.median;
    result.deviation = measured.deviation;
    if (prefill) {
      result.limit_share = prefill_multiply_adds(model.engine->program(), count, depth) / static_cast<double>(count) *
                           measured.median / limits.multiply_adds;
    } else {
      const double steps = measured.median / static_cast<double>(sequences);
      result.limit_share = decode_bytes(model, *batch.sequences[0], depth + count / 2, sequences) * steps / limits.read_bytes;
    }
    on_row(result, limits);
    return {};
  };

  for (int64_t depth : bench.depths) {
    for (int64_t count : bench.prefill) {
      if (count > 0) KVASS_RETURN_IF_ERROR(row(true, count, depth, 1));
    }
    for (int64_t count : bench.decode) {
      if (count == 0) continue;
      for (int64_t sequences : bench.batches) KVASS_RETURN_IF_ERROR(row(false, count, depth, sequences));
    }
  }
  return {};
}

}  // namespace kvass
