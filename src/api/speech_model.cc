// The weights of a speech model.
#include "api/model_impl.h"

namespace kvass {

Result<SpeechModel> load_speech_model(const std::string& path, Math math, const WeightOptions& weights, int threads) {
  return open_speech_model(path, {math, weights, threads});
}

}  // namespace kvass
