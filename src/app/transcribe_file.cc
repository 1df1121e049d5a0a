#include "app/transcribe_file.h"

#include <algorithm>

#include "audio/decode.h"

namespace kvass {

Result<Transcript> transcribe_file(SpeechDecoder& decoder, const SpeechTokenizer& tokenizer, const std::string& path,
                                   const TranscribeOptions& options, ThreadPool& pool, const TranscribeEvents& events,
                                   const std::atomic<bool>& cancel) {
  const Result<std::vector<int16_t>> samples = decode_audio(path, &cancel);
  if (samples.status().code() == StatusCode::cancelled) {
    Transcript none;
    none.cancelled = true;
    return none;
  }
  if (!samples.ok()) return samples.status();
  return transcribe(decoder, tokenizer, samples.value(), options, pool, events, cancel);
}

int64_t sequences_of(const TranscribeOptions& options) {
  int64_t sequences = 1;
  for (const float temperature : options.temperatures) {
    sequences = std::max(sequences, temperature == 0.0f ? options.search.beam_size : options.search.best_of);
  }
  return sequences;
}

}  // namespace kvass
