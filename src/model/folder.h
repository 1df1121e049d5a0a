// A text model as Hugging Face saves it (config.json and safetensors) in the terms of a GGUF file: metadata under the
// format's keys, tensors under its names, so that the families need not know where a model came from. Matrices stay in
// the mapped files, rows of q and k are put in order when they are read; vectors are converted to float32 here. Not the
// tokenizer: text/folder_tokenizer.h. Which architectures: folder_families.inc.
#pragma once

#include <string>

#include "file/gguf.h"
#include "file/gguf_writer.h"
#include "file/json_fields.h"
#include "file/safetensors_folder.h"
#include "kvass/status.h"

namespace kvass {

// Whether config.json is of a model that transcribes: model/speech.h takes its tensors as they are.
bool is_speech_folder(const JsonFields& config);

// Whatever config.json says that changes what the model computes is honoured or refused by name. `rows`: of the
// embedding.
struct FolderModel {
  GgufWriter metadata;
  GgufParts parts;  // without the metadata
  int64_t rows = 0;
};
Result<FolderModel> translate_model(const JsonFields& config, SafeTensorsFolder files, const std::string& name);

}  // namespace kvass
