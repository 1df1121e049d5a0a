// include/kvass/stream.h.
#include "kvass/stream.h"

#include <algorithm>
#include <utility>

#include "api/stream_impl.h"
#include "app/decode_loop.h"
#include "app/generate.h"
#include "app/score.h"
#include "ops/sample/top_k.h"

namespace kvass {
namespace {

Result<std::shared_ptr<StreamGroup>> open_group_of(const Model& model, const StreamOptions& options) {
  KVASS_ASSIGN_OR_RETURN(const std::shared_ptr<const Model::Impl> impl, loaded_impl_of(model, ModelKind::text));
  auto group = std::make_shared<StreamGroup>();
  group->model = model;
  KVASS_ASSIGN_OR_RETURN(group->options, resolve_stream(*impl, options));
  StreamOptions& resolved = group->options;
  KVASS_ASSIGN_OR_RETURN(group->caches, resolve_caches(resolved, impl->info.trained_context));
  KVASS_ASSIGN_OR_RETURN(const PlannedModel planned, planned_model(*impl, {}));
  KVASS_RETURN_IF_ERROR(planned.check_limit(resolved, resolved.logit_rows));
  KVASS_ASSIGN_OR_RETURN(group->plan, planned.plan(resolved, resolved.logit_rows));
  KVASS_ASSIGN_OR_RETURN(SessionOptions session, session_options(resolved, group->caches, resolved.logit_rows));
  session.decode_method = impl->opened->methods.size() > 1;
  KVASS_ASSIGN_OR_RETURN(group->session, Session::create(impl->opened->engine, session, impl->opened->methods));
  // Every option has a value now.
  resolved.context = group->caches.context;
  resolved.chunk = group->caches.chunk;
  if (group->caches.sinks) {
    resolved.attention_sink = AttentionSink{group->caches.sink_tokens, group->caches.sink_window};
    resolved.endless_sink_tokens.reset();  // which they are now
  }
  resolved.threads = session.threads;
  return group;
}

Result<std::shared_ptr<Stream::Impl>> stream_of(std::shared_ptr<StreamGroup> group) {
  auto impl = std::make_shared<Stream::Impl>();
  KVASS_ASSIGN_OR_RETURN(impl->stream.sequence, Sequence::create(group->text().engine, group->caches));
  impl->stream.session = group->session;
  impl->group = std::move(group);
  return impl;
}

}  // namespace

Result<StreamOptions> saved_options(const Snapshot& snapshot, const StreamOptions& machine) {
  const SnapshotInfo& info = snapshot.info();
  KVASS_RETURN_IF_ERROR(check_resumed(machine, info.caches, info.math));
  if (machine.sequences != 1) {
    return bad_input("StreamOptions.sequences", "1 as in the snapshot", std::to_string(machine.sequences));
  }
  return options_of(info.caches, info.math, machine);
}

Status Stream::Impl::restore(const Snapshot& snapshot) {
  KVASS_RETURN_IF_ERROR(snapshot.restore(sequence()));
  forget_text();
  text = snapshot.info().state;
  ++changes;
  return {};
}

void Stream::Impl::publish() {
  length.store(now(), std::memory_order_relaxed);
  rewind_floor.store(stream.sequence->rewind_floor(), std::memory_order_relaxed);
}

void Stream::Impl::forget_text() {
  text = {};
  row = last_token = -1;
}

Status Stream::Impl::run(std::span<const int32_t> ids, const std::atomic<bool>* cancel,
                         const std::function<void(int64_t)>& on_progress) {
  const size_t pending = text.pending.size();
  const Sequence& written = sequence();
  const bool asked = !ids.empty();
  KVASS_RETURN_IF_ERROR(check_room(written, asked ? now() : written.length(), asked ? ids.size() : pending,
                                   asked ? "tokens" : "tokens that were chosen before"));
  std::span<const int32_t> tokens = ids;
  if (pending > 0) {
    joined = text.pending;
    joined.insert(joined.end(), ids.begin(), ids.end());
    tokens = joined;
  }
  if (tokens.empty()) return bad_input("tokens", "at least one", "none");
  const int64_t vocabulary = group->model.info().vocabulary;
  for (const int32_t token : tokens) {
    if (token < 0 || token >= vocabulary) {
      return bad_input("token", "0 to " + std::to_string(vocabulary - 1), std::to_string(token));
    }
  }
  const auto chunk = static_cast<size_t>(written.plan().chunk);
  for (size_t at = 0; at < tokens.size(); at += chunk) {
    const std::span<const int32_t> part = tokens.subspan(at, std::min(chunk, tokens.size() - at));
    if (cancel != nullptr && cancel->load(std::memory_order_relaxed)) {
      return Status::error(StatusCode::cancelled, "step: cancelled after " + std::to_string(at) + " of " +
                                                      std::to_string(tokens.size()) + " tokens");
    }
    const Run run{&sequence(), written.length(), part};
    KVASS_RETURN_IF_ERROR(group->session->step({.runs = std::span(&run, 1)}).status());
    ++group->steps;
    ++changes;
    row = static_cast<int32_t>(part.size()) - 1;
    row_step = group->steps;
    last_token = part.back();
    take_from_pending(part.size());
    const size_t done = at + part.size();
    if (on_progress) on_progress(static_cast<int64_t>(done - std::min(done, pending)));
  }
  return {};
}

void Stream::Impl::take_from_pending(size_t tokens) {
  StreamState rest;
  rest.pending = std::move(text.pending);
  const auto taken = static_cast<std::ptrdiff_t>(std::min(tokens, rest.pending.size()));
  rest.pending.erase(rest.pending.begin(), rest.pending.begin() + taken);
  text = std::move(rest);
}

bool Stream::Impl::checkpointed() const {
  const std::vector<int64_t> positions = stream.sequence->checkpoints();
  return std::find(positions.begin(), positions.end(), stream.sequence->length()) != positions.end();
}

Status Stream::Impl::take_back_last() {
  if (row < 0) return bad_input("prompt", "at least one token", "none");
  KVASS_RETURN_IF_ERROR(sequence().rewind(sequence().length() - 1));
  text = {};
  text.pending.assign(1, last_token);
  row = last_token = -1;
  return {};
}

Status Stream::Impl::put_back_last(bool checkpointed) {
  KVASS_RETURN_IF_ERROR(run({}));
  return checkpointed ? sequence().checkpoint() : Status();
}

Status Stream::Impl::need_row(const char* what, const std::atomic<bool>* cancel) {
  KVASS_RETURN_IF_ERROR(run_pending(cancel));
  if (row < 0) return bad_input(what, "a step before it", "none since the stream was opened, rewound or cleared");
  if (row_step == group->steps) return {};
  const bool kept = checkpointed();
  KVASS_RETURN_IF_ERROR(take_back_last());
  return put_back_last(kept);
}

Stream::Stream() = default;
Stream::Stream(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
Stream::Stream(Stream&&) noexcept = default;
Stream& Stream::operator=(Stream&&) noexcept = default;
Stream::~Stream() = default;

Result<Stream> Stream::open(const Model& model, const StreamOptions& options) {
  return guarded([&]() -> Result<Stream> {
    if (options.sequences != 1) {
      return bad_input("StreamOptions.sequences", "1, for one stream is opened (a group has several)",
                       std::to_string(options.sequences));
    }
    KVASS_ASSIGN_OR_RETURN(std::shared_ptr<StreamGroup> group, open_group_of(model, options));
    KVASS_ASSIGN_OR_RETURN(std::shared_ptr<Impl> impl, stream_of(std::move(group)));
    return Stream(std::move(impl));
  });
}

Result<std::vector<Stream>> Stream::open_group(const Model& model, const StreamOptions& options) {
  return guarded([&]() -> Result<std::vector<Stream>> {
    KVASS_ASSIGN_OR_RETURN(const std::shared_ptr<StreamGroup> group, open_group_of(model, options));
    std::vector<Stream> streams;
    for (int64_t i = 0; i < options.sequences; ++i) {
      KVASS_ASSIGN_OR_RETURN(std::shared_ptr<Impl> impl, stream_of(group));
      streams.push_back(Stream(std::move(impl)));
    }
    return streams;
  });
}

Result<Stream> Stream::resume(const Model& model, const std::string& path, const StreamOptions& machine) {
  return guarded([&]() -> Result<Stream> {
    KVASS_ASSIGN_OR_RETURN(const std::shared_ptr<const Model::Impl> impl, loaded_impl_of(model, ModelKind::text));
    KVASS_ASSIGN_OR_RETURN(const Snapshot snapshot, Snapshot::open(path));
    KVASS_RETURN_IF_ERROR(check_text(snapshot.info().state, path));
    KVASS_ASSIGN_OR_RETURN(const StreamOptions options, saved_options(snapshot, machine));
    KVASS_ASSIGN_OR_RETURN(Stream stream, open(model, options));
    KVASS_RETURN_IF_ERROR(stream.impl_->restore(snapshot));
    stream.impl_->publish();
    return stream;
  });
}

Status Stream::step(std::span<const int32_t> tokens, const std::atomic<bool>* cancel,
                    const std::function<void(int64_t)>& on_progress) {
  return alone(impl_.get(), [&](Impl& impl) {
    if (tokens.empty()) return bad_input("tokens", "at least one", "none");
    return impl.run(tokens, cancel, on_progress);
  });
}

Status Stream::step(std::span<const StreamTokens> tokens) {
  return guarded([&]() -> Status {
    if (tokens.empty()) return bad_input("streams of a step", "at least one", "none");
    for (const StreamTokens& part : tokens) {
      if (part.stream == nullptr || !part.stream->impl_) return bad_input("stream", "an open one", "none");
      if (part.stream->impl_->group != tokens[0].stream->impl_->group) {
        return bad_input("streams of a step", "streams of one group", "streams of two");
      }
      if (part.tokens.empty()) return bad_input("tokens", "at least one", "none");
      for (const StreamTokens* other = tokens.data(); other != &part; ++other) {
        if (other->stream->impl_ == part.stream->impl_) {
          return bad_input("streams of a step", "each stream once", "one of them twice");
        }
      }
    }
    if (const int64_t most = tokens[0].stream->options().sequences; static_cast<int64_t>(tokens.size()) > most) {
      return bad_input("streams of a step", "at most " + std::to_string(most) + " (StreamOptions.sequences)",
                       std::to_string(tokens.size()));
    }
    return alone(tokens[0].stream->impl_.get(), [&](Impl& first) -> Status {
      StreamGroup& group = *first.group;
      std::vector<Run>& runs = group.runs;  // whose memory stays for the next step
      runs.clear();
      for (size_t i = 0; i < tokens.size(); ++i) {
        Impl& impl = *tokens[i].stream->impl_;
        std::span<const int32_t> ids = tokens[i].tokens;
        if (!impl.text.pending.empty()) {
          impl.joined = impl.text.pending;
          impl.joined.insert(impl.joined.end(), ids.begin(), ids.end());
          ids = impl.joined;
        }
        runs.push_back({&impl.sequence(), impl.sequence().length(), ids});
      }
      KVASS_RETURN_IF_ERROR(group.session->step({.runs = runs}).status());
      ++group.steps;
      int32_t rows = 0;
      for (size_t i = 0; i < tokens.size(); ++i) {
        Impl& impl = *tokens[i].stream->impl_;
        rows += static_cast<int32_t>(runs[i].tokens.size());
        impl.row = rows - 1;
        impl.row_step = group.steps;
        impl.last_token = runs[i].tokens.back();
        impl.text = {};
        ++impl.changes;
        impl.publish();
      }
      return {};
    });
  });
}

Result<std::span<const float>> Stream::logits(const std::atomic<bool>* cancel) {
  return alone(impl_.get(), [&](Impl& impl) -> Result<std::span<const float>> {
    KVASS_RETURN_IF_ERROR(impl.need_row("logits", cancel));
    KVASS_ASSIGN_OR_RETURN(const StepResult result, impl.group->session->step({.logits = std::span(&impl.row, 1)}));
    return result.logits;
  });
}

Result<int32_t> Stream::argmax(const std::atomic<bool>* cancel) {
  return alone(impl_.get(), [&](Impl& impl) -> Result<int32_t> {
    KVASS_RETURN_IF_ERROR(impl.need_row("argmax", cancel));
    KVASS_ASSIGN_OR_RETURN(const StepResult result, impl.group->session->step({.argmax = std::span(&impl.row, 1)}));
    const int64_t largest = result.argmax[0].index;
    if (largest < 0) return bad_input("logits", "a number among them", "NaN alone");
    return static_cast<int32_t>(largest);
  });
}

Result<double> Stream::logprob(int32_t token, const std::atomic<bool>* cancel) {
  return alone(impl_.get(), [&](Impl& impl) -> Result<double> {
    KVASS_RETURN_IF_ERROR(impl.need_row("logprob", cancel));
    KVASS_ASSIGN_OR_RETURN(const double nll, next_nll(*impl.group->session, impl.row, token));
    return -nll;
  });
}

int64_t Stream::length() const { return impl_ ? impl_->length.load(std::memory_order_relaxed) : 0; }
int64_t Stream::rewind_floor() const { return impl_ ? impl_->rewind_floor.load(std::memory_order_relaxed) : 0; }
bool Stream::endless() const { return impl_ && impl_->stream.sequence->endless(); }

Status Stream::rewind(int64_t length) {
  return alone(impl_.get(), [&](Impl& impl) -> Status {
    const int64_t written = impl.sequence().length();
    if (length == impl.now()) return {};
    if (length > impl.now()) {
      return bad_input("rewind", "a position from 0 to " + std::to_string(impl.now()), std::to_string(length));
    }
    if (length >= written) {
      std::vector<int32_t> pending(impl.text.pending.begin(),
                                   impl.text.pending.begin() + static_cast<std::ptrdiff_t>(length - written));
      impl.forget_text();
      impl.text.pending = std::move(pending);
    } else {
      KVASS_RETURN_IF_ERROR(impl.sequence().rewind(length));
      impl.forget_text();
    }
    ++impl.changes;
    return {};
  });
}

Status Stream::checkpoint(const std::atomic<bool>* cancel) {
  return alone(impl_.get(), [&](Impl& impl) -> Status {
    if (impl.sequence().options().checkpoints == 0) {
      return bad_input("checkpoint", "StreamOptions.checkpoints of 1 or more", "0");
    }
    KVASS_RETURN_IF_ERROR(impl.run_pending(cancel));
    return impl.sequence().checkpoint();
  });
}

std::vector<int64_t> Stream::checkpoints() const {
  std::vector<int64_t> positions;
  const Status status = alone(impl_.get(), [&](Impl& impl) {
    positions = impl.sequence().checkpoints();
    std::sort(positions.begin(), positions.end());
    return Status();
  });
  return status.ok() ? positions : std::vector<int64_t>();
}

Result<Stream> Stream::fork(const ForkOptions& options) const {
  return alone(impl_.get(), [&](Impl& from) -> Result<Stream> {
    std::shared_ptr<StreamGroup> group = from.group;
    if (!options.share_arena) {
      StreamOptions own = group->options;
      own.sequences = 1;
      KVASS_ASSIGN_OR_RETURN(group, open_group_of(group->model, own));
    }
    const bool same_group = group == from.group;
    KVASS_ASSIGN_OR_RETURN(std::shared_ptr<Impl> made, stream_of(std::move(group)));
    KVASS_RETURN_IF_ERROR(made->sequence().copy_from(from.sequence()));
    made->text = from.text;
    made->row = from.row;
    made->last_token = from.last_token;
    made->row_step = same_group ? from.row_step : -1;  // the other session does not have the row: see need_row
    made->publish();
    return Stream(std::move(made));
  });
}

Status Stream::clear() {
  return alone(impl_.get(), [](Impl& impl) -> Status {
    KVASS_RETURN_IF_ERROR(impl.sequence().clear());
    impl.forget_text();
    ++impl.changes;
    return {};
  });
}

Status Stream::save(const std::string& path) {
  return alone(impl_.get(), [&](Impl& impl) -> Status {
    if (!impl.text.pending.empty() || impl.row < 0) return save_snapshot(impl.sequence(), impl.text, path);
    // Logits are not saved: in the file the last token is pending, so that a resumed stream has them.
    const bool kept = impl.checkpointed();
    KVASS_RETURN_IF_ERROR(impl.take_back_last());
    const Status saved = save_snapshot(impl.sequence(), impl.text, path);
    const Status back = impl.put_back_last(kept);
    return saved.ok() ? back : saved;
  });
}

Status Stream::restore(const std::string& path) {
  return alone(impl_.get(), [&](Impl& impl) -> Status {
    KVASS_ASSIGN_OR_RETURN(const Snapshot snapshot, Snapshot::open(path));
    KVASS_RETURN_IF_ERROR(check_text(snapshot.info().state, path));
    return impl.restore(snapshot);
  });
}

std::vector<StreamMethod> Stream::methods() const {
  std::vector<StreamMethod> methods;
  if (!impl_) return methods;
  for (const MethodPlan& method : impl_->group->session->methods()) methods.push_back({method.name, method.rows});
  return methods;
}
const Model& Stream::model() const {
  static const Model none;
  return impl_ ? impl_->group->model : none;
}
const StreamOptions& Stream::options() const {
  static const StreamOptions none;
  return impl_ ? impl_->group->options : none;
}
const MemoryPlan& Stream::plan() const {
  static const MemoryPlan none;
  return impl_ ? impl_->group->plan : none;
}
size_t Stream::bytes() const { return impl_ ? impl_->stream.cache_bytes() + impl_->stream.arena_bytes() : 0; }

Result<std::vector<TokenLogit>> top_tokens(std::span<const float> logits, int64_t count) {
  return guarded([&]() -> Result<std::vector<TokenLogit>> {
    if (count < 0) return bad_input("count", "0 or more", std::to_string(count));
    std::vector<RankedToken> ranked(std::min(static_cast<size_t>(count), logits.size()));
    const auto found = static_cast<size_t>(top_k(logits, ranked));
    std::vector<TokenLogit> tokens;
    for (size_t i = 0; i < found; ++i) tokens.push_back({ranked[i].id, ranked[i].logit});
    return tokens;
  });
}

}  // namespace kvass
