// In place of speech_model.cc and transcribe.cc where kvass is built without speech.
#include "api/model_impl.h"

namespace kvass {

Result<SpeechModel> load_speech_model(const std::string& path, Math, const WeightOptions&, int) {
  return unsupported(path, "a kvass that is built with speech", "one that is not");
}

}  // namespace kvass
