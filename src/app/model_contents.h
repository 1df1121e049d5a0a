// What lies at a model's path: opened once, told apart, parsed. The one place that knows the formats that models come
// in.
#pragma once

#include <string>
#include <variant>

#include "app/speech_source.h"
#include "file/gguf.h"
#include "kvass/status.h"
#include "kvp/kvp.h"

namespace kvass {

struct ModelContents {
  std::string format;  // "GGUF", "safetensors" (a folder of Hugging Face), "kvp", "CTranslate2", "ggml"
  // A text model, a program, or a speech model that is no program yet.
  std::variant<Gguf, KvpFile, SpeechSource> file;
};
Result<ModelContents> open_contents(const std::string& path);

}  // namespace kvass
