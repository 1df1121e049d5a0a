// In place of speech.cc where kvass is built without speech.
#include "serve/params.h"
#include "serve/speech.h"

namespace kvass {
class SessionDecoder {};
}  // namespace kvass

namespace kvass::serve {
namespace {

Status without() {
  return unsupported("ServeOptions.speech", "a kvass that is built with speech", "one built with KVASS_SPEECH=OFF");
}

}  // namespace

Speech::~Speech() = default;
Result<size_t> Speech::plan(const SpeechOptions&) { return without(); }
Result<std::unique_ptr<Speech>> Speech::open(const SpeechOptions&) { return without(); }

void add_audio(Router& router, Service&) {
  for (const char* path : {"/v1/audio/transcriptions", "/v1/audio/translations"}) {
    router.add({"POST", path, [](const Exchange&, const auto&) {
                  throw ApiError{404, without().message(), "", "unsupported"};
                }});
  }
}

}  // namespace kvass::serve
