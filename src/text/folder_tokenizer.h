// The tokenizer of a Hugging Face folder in the terms of a GGUF file: tokenizer.json with what tokenizer_config.json,
// generation_config.json and chat_template.jinja say beside it become tokenizer.ggml.* and tokenizer.chat_template.
// What changes ids is honoured or refused by name. Keys of kvass's own say what the format has no key for;
// docs/files.md lists them. Not a Tokenizer: read_vocabulary (vocabulary.h) reads the result.
#pragma once

#include <cstdint>
#include <string>

#include "file/gguf_writer.h"
#include "file/json_fields.h"
#include "kvass/status.h"

namespace kvass {

// `rows`: of the embedding; ids beyond the tokens get pieces without a meaning. A folder without tokenizer.json gives
// no keys.
Status translate_tokenizer(const std::string& folder, const JsonFields& config, int64_t rows, GgufWriter& out);

// The same without the templates, of files that are read; those that the folder does not have have no fields.
struct TokenizerFiles {
  JsonFields tokenizer;   // tokenizer.json
  JsonFields settings;    // tokenizer_config.json
  JsonFields generation;  // generation_config.json
  JsonFields config;      // config.json, for what the others do not say
};
Status translate_tokenizer(const TokenizerFiles& files, int64_t rows, GgufWriter& out);

}  // namespace kvass
