#include "app/speech_plan.h"

#include <algorithm>

namespace kvass {

SessionOptions speech_session(const SpeechShape& shape, int64_t sequences, int threads) {
  SessionOptions options;
  options.rows = std::max(shape.context, sequences);
  options.head_rows = std::max<int64_t>(sequences, 2);  // a prompt asks for its start and its end
  options.sequences = sequences;
  options.threads = threads;
  return options;
}

CacheOptions speech_caches(const SpeechShape& shape, DType dtype) {
  CacheOptions caches;
  caches.context = caches.chunk = shape.context;
  caches.dtype = dtype;
  return caches;
}

}  // namespace kvass
