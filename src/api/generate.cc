// include/kvass/generate.h and sampling.h.
#include "kvass/generate.h"

#include <utility>

#include "api/generate_impl.h"
#include "app/batch.h"
#include "kvass/sampling.h"

namespace kvass {
namespace {

const std::atomic<bool> g_never{false};

Status check(const GenerateOptions& options) {
  if (options.max_tokens < 0) {
    return bad_input("GenerateOptions.max_tokens", "0 or more", std::to_string(options.max_tokens));
  }
  if (options.save_every < 0) {
    return bad_input("GenerateOptions.save_every", "0 or more", std::to_string(options.save_every));
  }
  if (options.save_every > 0 && options.save_path.empty()) {
    return bad_input("GenerateOptions.save_path", "a file beside save_every", "none");
  }
  if (options.save_every == 0 && (!options.save_path.empty() || options.on_save)) {
    return bad_input("GenerateOptions.save_every", "1 or more tokens beside save_path and on_save", "0");
  }
  KVASS_RETURN_IF_ERROR(check_stops("GenerateOptions.stops", options.stops));
  return validate(options.sampling);
}

}  // namespace

StreamGeneration::StreamGeneration(OnText on_text, const std::atomic<bool>* cancel)
    : on_text_(std::move(on_text)), cancel_(cancel) {}

// What a caller's function throws comes out where the loop is not in the middle of something.
bool StreamGeneration::show(std::string_view text) {
  if (!on_text_) {
    shown_.append(text);
    return true;
  }
  if (enough_) return false;
  try {
    enough_ = !on_text_(text);
  } catch (...) {
    thrown_ = std::current_exception();
    enough_ = true;
  }
  return !enough_;
}

bool StreamGeneration::show_progress(int64_t tokens) {
  if (!options_.on_progress) return true;
  try {
    options_.on_progress(tokens);
  } catch (...) {
    thrown_ = std::current_exception();
  }
  return !thrown_;
}

Status StreamGeneration::begin(Stream::Impl& stream, std::span<const int32_t> prompt, const GenerateOptions& options) {
  KVASS_RETURN_IF_ERROR(check(options));
  const int64_t vocabulary = stream.group->model.info().vocabulary;
  for (const int32_t token : prompt) {
    if (token < 0 || token >= vocabulary) {
      return bad_input("token", "0 to " + std::to_string(vocabulary - 1), std::to_string(token));
    }
  }
  options_ = options;
  DecodeOptions decode;
  static_cast<GenerateOptions&>(decode) = options;
  decode.prompt.assign(prompt.begin(), prompt.end());
  decode.keep_state = true;
  if (options.save_every > 0) {
    decode.on_state = [this, &stream](const StreamState& state) {
      const Status saved = save_snapshot(stream.sequence(), state, options_.save_path);
      if (options_.on_save) options_.on_save(saved);
    };
  }
  const bool again = prompt.empty() && stream.text.pending.empty();  // the last token has the logits to begin with
  const bool kept = again && stream.checkpointed();
  if (again) KVASS_RETURN_IF_ERROR(stream.take_back_last());
  if (!stream.text.pending.empty()) decode.resume = &stream.text;
  const int64_t length = stream.sequence().length();
  ++stream.group->steps;
  Result<std::unique_ptr<TextGeneration>> loop = TextGeneration::begin(
      stream.group->text(), stream.stream, /*sampler=*/nullptr, std::move(decode),
      [this](std::string_view text) { return show(text); }, cancel_,
      [this](int64_t tokens) { return show_progress(tokens); });
  if (!loop.ok()) {
    if (stream.sequence().length() != length) {
      stream.forget_text();
      ++stream.changes;
    } else if (again) {
      KVASS_RETURN_IF_ERROR(stream.put_back_last(kept));
    }
    return loop.status();
  }
  loop_ = std::move(loop).value();
  stream.forget_text();
  changes_ = ++stream.changes;
  return thrown_ ? end(stream).status() : Status();  // of on_progress
}

Result<bool> StreamGeneration::next(Stream::Impl& stream) {
  if (!loop_) return false;
  if (stream.changes != changes_) {
    loop_.reset();
    return bad_input("generation", "a text that nobody else changed", "one that went on");
  }
  ++stream.group->steps;
  Result<bool> more = loop_->next();
  if (more.ok() && more.value() && loop_->token() < 0) more = loop_->next();  // the rest of the text was shown
  if (!more.ok()) {
    (void)end(stream);  // the tokens that were chosen are still the stream's
    return more.status();
  }
  if (more.value()) token_ = loop_->token();
  return more;
}

Result<GenerateResult> StreamGeneration::end(Stream::Impl& stream) {
  if (!loop_) return bad_input("generation", "one that has not ended", "one that has");
  const std::unique_ptr<TextGeneration> loop = std::move(loop_);
  if (stream.changes != changes_) return bad_input("generation", "a text that nobody else changed", "one that went on");
  ++stream.group->steps;
  KVASS_ASSIGN_OR_RETURN(DecodeResult result, loop->end());
  if (!options_.hold_text) {
    const std::string rest = std::exchange(result.state.held, {}) + std::exchange(result.state.undecoded, {});
    if (!rest.empty()) {
      if (options_.collect) result.text += rest;
      show(rest);
    }
  }
  stream.text = std::move(result.state);
  result.status = with_public_fields(result.status, {"StreamOptions"});
  ++stream.changes;
  if (thrown_) std::rethrow_exception(std::exchange(thrown_, nullptr));
  return GenerateResult(std::move(result));
}

Result<std::vector<int32_t>> prompt_ids(Stream::Impl& stream, std::string_view text) {
  const Tokenizer& tokenizer = *stream.group->model.impl()->tokenizer;
  const bool begins = stream.now() == 0;
  const TextPart part{text, /*parse_special=*/true};
  return tokenizer.encode_parts(std::span(&part, 1), begins && tokenizer.add_bos(), /*continued=*/!begins);
}

namespace {

Result<GenerateResult> run(Stream::Impl& stream, std::span<const int32_t> prompt, const GenerateOptions& options,
                           const OnText& on_text, const std::atomic<bool>* cancel) {
  StreamGeneration generation(
      on_text ? on_text : [](std::string_view) { return true; }, cancel);
  KVASS_RETURN_IF_ERROR(generation.begin(stream, prompt, options));
  for (;;) {
    KVASS_ASSIGN_OR_RETURN(const bool more, generation.next(stream));
    if (!more) return generation.end(stream);
  }
}

}  // namespace

Result<GenerateResult> generate(Stream& stream, std::span<const int32_t> prompt, const GenerateOptions& options,
                                const OnText& on_text, const std::atomic<bool>* cancel) {
  return alone(stream.impl(), [&](Stream::Impl& impl) { return run(impl, prompt, options, on_text, cancel); });
}

Result<GenerateResult> generate(Stream& stream, std::string_view prompt, const GenerateOptions& options,
                                const OnText& on_text, const std::atomic<bool>* cancel) {
  return alone(stream.impl(), [&](Stream::Impl& impl) -> Result<GenerateResult> {
    KVASS_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, prompt_ids(impl, prompt));
    return run(impl, ids, options, on_text, cancel);
  });
}

Result<GenerateOptions> resumed_options(const Stream& stream) {
  return alone(stream.impl(), [](Stream::Impl& impl) -> Result<GenerateOptions> {
    GenerateOptions options;
    options.sampling = impl.text.sampling;
    options.ignore_eos = impl.text.ignore_eos;
    options.stops = impl.text.stops;
    return options;
  });
}

struct Generation::Impl {
  std::shared_ptr<Stream::Impl> stream;
  StreamGeneration generation;
};

Generation::Generation(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Generation::Generation(Generation&&) noexcept = default;
Generation& Generation::operator=(Generation&& other) noexcept {
  Generation ended(std::move(*this));
  impl_ = std::move(other.impl_);
  return *this;
}
Generation::~Generation() {
  if (impl_ && impl_->generation.running()) (void)end();
}

Result<Generation> Generation::begin(Stream& stream, std::span<const int32_t> prompt, const GenerateOptions& options,
                                     const std::atomic<bool>* cancel) {
  return alone(stream.impl(), [&](Stream::Impl& from) -> Result<Generation> {
    std::unique_ptr<Impl> impl(new Impl{stream.shared(), StreamGeneration({}, cancel)});
    KVASS_RETURN_IF_ERROR(impl->generation.begin(from, prompt, options));
    return Generation(std::move(impl));
  });
}

Result<bool> Generation::next() {
  if (!impl_) return bad_input("generation", "one that was begun", "none");
  return alone(impl_->stream.get(), [&](Stream::Impl& stream) {
    impl_->generation.text().clear();
    return impl_->generation.next(stream);
  });
}

int32_t Generation::token() const { return impl_ ? impl_->generation.token() : -1; }

const std::string& Generation::text() const {
  static const std::string none;
  return impl_ ? impl_->generation.text() : none;
}

Result<GenerateResult> Generation::end() {
  if (!impl_) return bad_input("generation", "one that was begun", "none");
  return alone(impl_->stream.get(), [&](Stream::Impl& stream) {
    impl_->generation.text().clear();
    return impl_->generation.end(stream);
  });
}

Result<BatchSummary> generate_batch(const Model& model, std::span<const std::vector<int32_t>> prompts,
                                    const StreamOptions& streams, const GenerateOptions& options,
                                    const std::function<bool(size_t, const GenerateResult&)>& on_result,
                                    const std::atomic<bool>* cancel) {
  return guarded([&]() -> Result<BatchSummary> {
    KVASS_ASSIGN_OR_RETURN(const std::shared_ptr<const Model::Impl> impl, loaded_impl_of(model, ModelKind::text));
    KVASS_RETURN_IF_ERROR(check(options));
    if (options.save_every > 0) return unsupported("GenerateOptions.save_every", "0 in a batch", "another");
    if (options.hold_text) return unsupported("GenerateOptions.hold_text", "false in a batch", "true");
    if (options.on_progress) return unsupported("GenerateOptions.on_progress", "none in a batch", "a function");
    KVASS_ASSIGN_OR_RETURN(const StreamOptions resolved, resolve_stream(*impl, streams));
    KVASS_ASSIGN_OR_RETURN(const PlannedModel planned, planned_model(*impl, {}));
    KVASS_RETURN_IF_ERROR(planned.check_limit(resolved, resolved.logit_rows));
    KVASS_ASSIGN_OR_RETURN(StreamBatch batch, open_batch(*impl->opened, resolved, options.sampling));
    DecodeOptions decode;
    static_cast<GenerateOptions&>(decode) = options;
    const auto give = [&](size_t index, const DecodeResult& result) {
      if (!on_result || result.status.ok()) return !on_result || on_result(index, result);
      GenerateResult shown = result;
      shown.status = with_public_fields(result.status, {"StreamOptions"});
      return on_result(index, shown);
    };
    KVASS_ASSIGN_OR_RETURN(BatchSummary summary, generate_batch(*impl->opened, batch, prompts, decode, give,
                                                                cancel != nullptr ? *cancel : g_never));
    summary.full = with_public_fields(summary.full, {"StreamOptions"});
    return summary;
  });
}

struct TokenSampler::Impl {
  Sampler sampler;
  int64_t vocabulary = 0;
};

TokenSampler::TokenSampler(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
TokenSampler::TokenSampler(TokenSampler&&) noexcept = default;
TokenSampler& TokenSampler::operator=(TokenSampler&&) noexcept = default;
TokenSampler::~TokenSampler() = default;

Result<TokenSampler> TokenSampler::create(const Model& model, const SampleOptions& options) {
  return guarded([&]() -> Result<TokenSampler> {
    KVASS_ASSIGN_OR_RETURN(const std::shared_ptr<const Model::Impl> impl, loaded_impl_of(model, ModelKind::text));
    KVASS_ASSIGN_OR_RETURN(Sampler sampler, create_sampler(*impl->opened, options));
    return TokenSampler(std::unique_ptr<Impl>(new Impl{std::move(sampler), impl->info.vocabulary}));
  });
}

Status TokenSampler::accept(std::span<const int32_t> tokens) {
  return guarded([&]() -> Status {
    if (!impl_) return bad_input("sampler", "one that was made", "none");
    for (const int32_t token : tokens) {
      if (token < 0 || token >= impl_->vocabulary) {
        return bad_input("token", "0 to " + std::to_string(impl_->vocabulary - 1), std::to_string(token));
      }
    }
    impl_->sampler.accept(tokens);
    return {};
  });
}

Result<int32_t> TokenSampler::sample(std::span<const float> logits, int64_t position) {
  return guarded([&]() -> Result<int32_t> {
    if (!impl_) return bad_input("sampler", "one that was made", "none");
    if (static_cast<int64_t>(logits.size()) != impl_->vocabulary) {
      return bad_input("logits", std::to_string(impl_->vocabulary) + " of them", std::to_string(logits.size()));
    }
    if (position < 0) return bad_input("position", "0 or more", std::to_string(position));
    const int32_t token = impl_->sampler.sample(logits.data(), position);
    if (token < 0) return bad_input("logits", "a number among them", "NaN alone");
    return token;
  });
}

}  // namespace kvass
