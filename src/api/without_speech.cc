// In place of transcribe.cc, c_transcribe.cc and the formats of transcripts where kvass is built without speech: no
// transcriber can be opened, and so the rest is never reached with one.
#include "api/c_common.h"
#include "kvass/transcribe.h"

namespace kvass {
namespace {

Status no_speech() {
  return unsupported("transcribe", "a kvass that is built with speech", "one built with KVASS_SPEECH=OFF");
}

}  // namespace

struct Transcriber::Impl {};

Transcriber::Transcriber(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Transcriber::Transcriber(Transcriber&&) noexcept = default;
Transcriber& Transcriber::operator=(Transcriber&&) noexcept = default;
Transcriber::~Transcriber() = default;

Result<Transcriber> Transcriber::open(const Model&, const TranscriberOptions&) { return no_speech(); }
Result<Transcript> Transcriber::transcribe_file(const std::string&, const TranscribeOptions&, const TranscribeEvents&,
                                                const std::atomic<bool>*) {
  return no_speech();
}
Result<Transcript> Transcriber::transcribe(std::span<const int16_t>, const TranscribeOptions&, const TranscribeEvents&,
                                           const std::atomic<bool>*) {
  return no_speech();
}
size_t Transcriber::bytes() const { return 0; }
double Transcriber::encode_seconds() const { return 0.0; }
int64_t Transcriber::encoded_windows() const { return 0; }

std::string_view transcript_format_name(TranscriptFormat) { return {}; }
Result<TranscriptFormat> parse_transcript_format(std::string_view) { return no_speech(); }
std::string transcript_text(TranscriptFormat, const Transcript&, const std::string&) { return {}; }
std::string transcript_header(TranscriptFormat) { return {}; }
std::string transcript_segment(TranscriptFormat, const Segment&, int64_t) { return {}; }
std::string language_code(std::string_view) { return {}; }

}  // namespace kvass

struct kvass_transcriber {};

namespace {

kvass_code no_transcriber() { return kvass::c_api::call(kvass::no_speech); }

}  // namespace

extern "C" {

kvass_code kvass_transcriber_open(const kvass_model*, const kvass_transcriber_options*, kvass_transcriber**) {
  return no_transcriber();
}
void kvass_transcriber_free(kvass_transcriber*) {}
kvass_code kvass_transcribe_file(kvass_transcriber*, const char*, const kvass_transcribe_options*, kvass_on_segment,
                                 void*) {
  return no_transcriber();
}
kvass_code kvass_transcribe(kvass_transcriber*, const int16_t*, size_t, const kvass_transcribe_options*,
                            kvass_on_segment, void*) {
  return no_transcriber();
}
kvass_code kvass_transcript(kvass_transcriber*, const char*, const char**, size_t*) { return no_transcriber(); }
void kvass_transcriber_cancel(kvass_transcriber*) {}

}  // extern "C"
