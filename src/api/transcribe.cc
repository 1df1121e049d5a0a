// include/kvass/transcribe.h.
#include "kvass/transcribe.h"

#include <utility>

#include "api/guard.h"
#include "api/model_impl.h"
#include "app/session_decoder.h"
#include "app/transcribe_file.h"
#include "base/busy.h"

namespace kvass {

struct Transcriber::Impl {
  Model model;
  std::unique_ptr<SessionDecoder> decoder;
  int64_t sequences = 0;
  std::atomic<bool> busy{false};

  // body(decoder, tokenizer) alone, with options that fit.
  template <class Body>
  Result<Transcript> run(const TranscribeOptions& options, Body&& body) {
    const Busy claim(busy);
    if (!claim.mine()) {
      return Status::error(StatusCode::busy, "transcriber: expected one caller at a time, got a second one");
    }
    const SpeechTokenizer& tokenizer = *model.impl()->opened->speech->tokenizer;
    KVASS_RETURN_IF_ERROR(check_options(options, tokenizer));
    if (sequences_of(options) > sequences) {
      return bad_input("TranscribeOptions.search",
                       "at most " + std::to_string(sequences) + " beams and draws (TranscriberOptions.sequences)",
                       std::to_string(sequences_of(options)));
    }
    return body(*decoder, tokenizer);
  }
};

Transcriber::Transcriber(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Transcriber::Transcriber(Transcriber&&) noexcept = default;
Transcriber& Transcriber::operator=(Transcriber&&) noexcept = default;
Transcriber::~Transcriber() = default;

Result<Transcriber> Transcriber::open(const Model& model, const TranscriberOptions& options) {
  return guarded({"TranscriberOptions"}, [&]() -> Result<Transcriber> {
    KVASS_ASSIGN_OR_RETURN(const std::shared_ptr<const Model::Impl> file, loaded_impl_of(model, ModelKind::speech));
    constexpr int64_t kMostSequences = 4096;
    if (options.sequences < 1 || options.sequences > kMostSequences) {
      return bad_input("TranscriberOptions.sequences", "1 to " + std::to_string(kMostSequences),
                       std::to_string(options.sequences));
    }
    SpeechSessionOptions session;
    session.sequences = options.sequences;
    session.caches = options.kv;
    KVASS_ASSIGN_OR_RETURN(session.threads, resolve_threads(options.threads));
    StreamOptions streams;
    streams.sequences = options.sequences;
    streams.kv = options.kv;
    streams.threads = session.threads;
    streams.memory_limit = options.memory_limit;
    KVASS_RETURN_IF_ERROR(plan_memory(model, streams).status());
    auto impl = std::make_unique<Impl>();
    impl->model = model;
    impl->sequences = options.sequences;
    KVASS_ASSIGN_OR_RETURN(impl->decoder, SessionDecoder::create(*file->opened, session));
    return Transcriber(std::move(impl));
  });
}

namespace {

const std::atomic<bool> g_never{false};

Status no_transcriber() { return bad_input("transcriber", "an open one", "none"); }

}  // namespace

Result<Transcript> Transcriber::transcribe_file(const std::string& path, const TranscribeOptions& options,
                                                const TranscribeEvents& events, const std::atomic<bool>* cancel) {
  return guarded([&]() -> Result<Transcript> {
    if (!impl_) return no_transcriber();
    return impl_->run(options, [&](SessionDecoder& decoder, const SpeechTokenizer& tokenizer) {
      return kvass::transcribe_file(decoder, tokenizer, path, options, decoder.session().pool(), events,
                                    cancel != nullptr ? *cancel : g_never);
    });
  });
}

Result<Transcript> Transcriber::transcribe(std::span<const int16_t> samples, const TranscribeOptions& options,
                                           const TranscribeEvents& events, const std::atomic<bool>* cancel) {
  return guarded([&]() -> Result<Transcript> {
    if (!impl_) return no_transcriber();
    return impl_->run(options, [&](SessionDecoder& decoder, const SpeechTokenizer& tokenizer) {
      return kvass::transcribe(decoder, tokenizer, samples, options, decoder.session().pool(), events,
                               cancel != nullptr ? *cancel : g_never);
    });
  });
}

size_t Transcriber::bytes() const {
  return impl_ ? impl_->decoder->cache_bytes() + impl_->decoder->session().arena_bytes() : 0;
}
double Transcriber::encode_seconds() const { return impl_ ? impl_->decoder->encode_seconds() : 0.0; }
int64_t Transcriber::encoded_windows() const { return impl_ ? impl_->decoder->encoded_windows() : 0; }

std::string language_code(std::string_view name) { return find_language(name); }

}  // namespace kvass
