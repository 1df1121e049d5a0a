// The job of `kvass convert`: a Hugging Face folder, or a GGUF file, as a GGUF file (version 3) that other programs
// read. docs/files.md.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "base/on_progress.h"
#include "kvass/status.h"

namespace kvass {

struct ConvertOptions {
  std::string model;    // a folder or a GGUF file of a text model
  std::string out;      // the file; replaced only where it is a GGUF file
  std::string weights;  // what matrices become whose rows allow it, as ExportOptions.weights; empty: as they are
  int threads = 0;      // 0: as many as the machine has
  OnProgress on_written{};
};

struct ConvertSummary {
  size_t file_bytes = 0;
  size_t tensors = 0, metadata = 0;
  size_t converted = 0;  // matrices of another type than the model's
  std::vector<std::string> warnings;
};

// Rows are converted one wave at a time: the memory is bounded. Nothing is at `out` before everything is.
Result<ConvertSummary> convert_model(const ConvertOptions& options);

}  // namespace kvass
