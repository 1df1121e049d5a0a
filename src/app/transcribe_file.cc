#include "app/transcribe_file.h"

#include <algorithm>

#include "audio/decode.h"
#include "base/new_file.h"

namespace kvass {

Result<Transcript> transcribe_file(SpeechDecoder& decoder, const SpeechTokenizer& tokenizer, const std::string& path,
                                   const TranscribeOptions& options, ThreadPool& pool, const TranscribeEvents& events,
                                   const std::atomic<bool>& cancel) {
  KVASS_ASSIGN_OR_RETURN(const std::vector<int16_t> samples, decode_audio(path));
  return transcribe(decoder, tokenizer, samples, options, pool, events, cancel);
}

Status write_transcript(const std::string& path, const std::string& text) {
  KVASS_ASSIGN_OR_RETURN(NewFile file, NewFile::create(path));
  if (!text.empty()) {
    KVASS_RETURN_IF_ERROR(file.write(0, {reinterpret_cast<const uint8_t*>(text.data()), text.size()}));
  }
  return file.commit();
}

int64_t sequences_of(const TranscribeOptions& options) {
  int64_t sequences = 1;
  for (const float temperature : options.temperatures) {
    sequences = std::max(sequences, temperature == 0.0f ? options.search.beam_size : options.search.best_of);
  }
  return sequences;
}

}  // namespace kvass
