// The formats that speech models come in: a CTranslate2 folder (model.bin), a Hugging Face folder (model.safetensors),
// a ggml file. Each becomes tensors under the names of Hugging Face, a vocabulary, and what the file says beside them.
// ModelFile (model_file.h) makes a model of it; a .kvp is not one of these.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/file_map.h"
#include "file/tensor_source.h"
#include "kvass/status.h"
#include "text/speech_tokenizer.h"

namespace kvass {

struct SpeechSource {
  std::string format;  // "CTranslate2"
  std::unique_ptr<TensorSource> tensors;
  SpeechVocabulary vocabulary;
  int64_t heads = 0;  // of attention; 0: the file does not say
  // (decoder layer, head): those that follow the audio; empty: the file does not say.
  std::vector<std::pair<int64_t, int64_t>> alignment_heads;
};

bool is_speech_model_folder(const std::string& path);
Result<SpeechSource> open_speech_folder(const std::string& path);
Result<SpeechSource> open_ggml_speech(FileMap file);

}  // namespace kvass
