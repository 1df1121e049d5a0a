// `kvass run --prompts`: a file of prompts through sequences that advance together, one JSON line for each.
#pragma once

#include <string>
#include <string_view>

#include "app/batch.h"
#include "app/generate.h"
#include "app/model_file.h"
#include "app/stream_options.h"
#include "kvass/status.h"

namespace kvass {

struct PromptsRun {
  ModelFile file;
  WeightOptions weights;
  std::string prompts;           // the file, one prompt a line; - is stdin
  StreamOptions stream;          // sequences: only where they are asked for
  bool sequences_given = false;  // otherwise 8, or as many as there are prompts
  DecodeOptions generation;      // of every prompt; its own is not read
  EmptyLines empty_lines = EmptyLines::refused;
  bool talks = true;  // the memory plan and a summary on stderr
  bool warns = true;
};

Status run_prompts(PromptsRun run);

// Says so where a prompt's own text begins with the token with which any text of the model begins.
void warn_of_bos(const Tokenizer& tokenizer, std::string_view text);

}  // namespace kvass
