#include "app/score.h"

#include <algorithm>
#include <chrono>
#include <string>

#include "ops/loss/loss.h"
#include "ops/sample/top_k.h"

namespace kvass {
namespace {

// nll[i]: −ln p of `targets[i]` from row `first` + i of a step of `runs`; none: of the last step.
Status score_rows(Session& session, std::span<const Run> runs, int32_t first, std::span<const int32_t> targets,
                  double* nll, const std::atomic<bool>* cancel) {
  const size_t head_rows = static_cast<size_t>(session.options().head_rows);
  const int64_t vocabulary = session.engine().program().vocabulary();
  std::vector<int32_t> rows;
  for (size_t at = 0; at < targets.size(); at += head_rows) {
    const size_t count = std::min(head_rows, targets.size() - at);
    rows.clear();
    for (size_t i = 0; i < count; ++i) rows.push_back(first + static_cast<int32_t>(at + i));
    // What one step is not asked for is asked for afterwards.
    const std::span<const Run> now = at == 0 ? runs : std::span<const Run>();
    KVASS_ASSIGN_OR_RETURN(const StepResult step, session.step({.runs = now, .logits = rows, .cancel = cancel}));
    const float* logits = step.logits.data();
    double* losses = nll + at;
    session.pool().run(static_cast<int64_t>(count), [&](int64_t i, int) {
      CrossEntropyArgs args;
      args.logits = logits + i * vocabulary;
      args.targets = targets.data() + at + static_cast<size_t>(i);
      args.losses = losses + i;
      args.rows = 1;
      args.vocabulary = vocabulary;
      args.stride = vocabulary;
      cross_entropy(args, session.engine().isa());
    });
  }
  return {};
}

}  // namespace

Result<ScoreResult> score(OpenStream& stream, std::span<const int32_t> ids, int64_t top,
                          const std::function<void(int64_t)>& progress, const std::atomic<bool>& cancel) {
  if (ids.size() < 2) return bad_input("text to score", "at least 2 tokens", std::to_string(ids.size()));
  Session& session = *stream.session;
  Sequence& sequence = *stream.sequence;
  if (!sequence.endless() && static_cast<int64_t>(ids.size()) > sequence.options().context - sequence.length()) {
    return Status::error(StatusCode::cache_full,
                         "text to score: expected at most " +
                             std::to_string(sequence.options().context - sequence.length()) +
                             " tokens (CacheOptions.context), got " + std::to_string(ids.size()) +
                             "; raise CacheOptions.context, or stream without end with CacheOptions.sinks");
  }
  ScoreResult result;
  result.nll.assign(ids.size() - 1, 0.0);  // all of its memory before the first token
  const auto begin = std::chrono::steady_clock::now();
  const size_t chunk = static_cast<size_t>(sequence.plan().chunk);
  const auto told = [](Status status, size_t at) {
    if (status.code() != StatusCode::cancelled) return status;
    return status.with_message("score: interrupted after " + std::to_string(at) + " tokens");
  };
  for (size_t at = 0; at < ids.size(); at += chunk) {
    if (cancel.load(std::memory_order_relaxed)) return told(Status::error(StatusCode::cancelled, "score"), at);
    const size_t count = std::min(chunk, ids.size() - at);
    const Run run{&sequence, sequence.length(), ids.subspan(at, count)};
    const size_t targets = std::min(count, ids.size() - 1 - at);
    const std::span<const Run> runs(&run, 1);
    if (targets == 0) {  // the last token alone: nothing follows it
      KVASS_RETURN_IF_ERROR(told(session.step({.runs = runs, .cancel = &cancel}).status(), at));
    } else {
      const std::span<const int32_t> next = ids.subspan(at + 1, targets);
      KVASS_RETURN_IF_ERROR(told(score_rows(session, runs, 0, next, result.nll.data() + at, &cancel), at));
    }
    if (progress) progress(static_cast<int64_t>(at + count));
  }
  if (top > 0) {
    const int32_t last = static_cast<int32_t>((ids.size() - 1) % chunk);
    KVASS_ASSIGN_OR_RETURN(const StepResult step, session.step({.logits = std::span(&last, 1)}));
    const std::span<const float> logits = step.logits;
    std::vector<RankedToken> ranked(static_cast<size_t>(std::min<int64_t>(top, static_cast<int64_t>(logits.size()))));
    const int64_t found = top_k(logits, ranked);
    for (int64_t i = 0; i < found; ++i)
      result.top.emplace_back(ranked[static_cast<size_t>(i)].id, ranked[static_cast<size_t>(i)].logit);
  }
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return result;
}

Result<double> next_nll(Session& session, int32_t row, int32_t token) {
  const int64_t vocabulary = session.engine().program().vocabulary();
  if (token < 0 || token >= vocabulary) {
    return bad_input("token", "0 to " + std::to_string(vocabulary - 1), std::to_string(token));
  }
  double nll = 0.0;
  KVASS_RETURN_IF_ERROR(score_rows(session, {}, row, std::span(&token, 1), &nll, /*cancel=*/nullptr));
  return nll;
}

}  // namespace kvass
