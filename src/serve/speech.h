// Transcription on the server: one recording after the other, on a session of its own whose memory is mapped in the
// beginning. Recordings come with requests; their samples are memory of the request.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "app/open.h"
#include "serve/router.h"
#include "serve/service.h"
#include "serve/workers.h"

namespace kvass {
class SessionDecoder;
}

namespace kvass::serve {

struct SpeechOptions {
  std::string model;
  int64_t sequences = 5;  // beams and draws that live at a time
  int threads = 0;
};

class Speech {
 public:
  static constexpr int64_t kMostWaiting = 16;  // recordings

  static Result<size_t> plan(const SpeechOptions& options);  // bytes that will be mapped, weights included
  static Result<std::unique_ptr<Speech>> open(const SpeechOptions& options);
  Speech(OpenModel model, std::unique_ptr<SessionDecoder> decoder, std::string id);
  ~Speech();

  const std::string& id() const { return id_; }
  const OpenModel& model() const { return model_; }
  SessionDecoder& decoder() { return *decoder_; }
  // busy where too many wait already. `work` runs alone, one after the other.
  Status add(std::function<void()> work);

 private:
  OpenModel model_;
  std::unique_ptr<SessionDecoder> decoder_;
  std::string id_;
  std::atomic<int64_t> waiting_{0};
  Workers worker_{1};
};

void add_audio(Router& router, Service& service);

}  // namespace kvass::serve
