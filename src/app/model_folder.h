// A folder of Hugging Face with a text model: config.json, safetensors, tokenizer.json and what stands beside them,
// read as the GGUF file that `kvass convert` would write. docs/files.md.
#pragma once

#include <string>

#include "file/gguf.h"
#include "kvass/status.h"

namespace kvass {

Result<Gguf> open_model_folder(const std::string& path);

}  // namespace kvass
