// A model becomes one .kvp file with everything that running it takes, planned for one kind of stream. docs/export.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kvass/export.h"
#include "kvass/options.h"
#include "kvass/status.h"

namespace kvass {

struct ExportOptions {
  std::string model;  // a GGUF, a speech model of any format, or a .kvp to be planned anew
  std::string out;
  StreamOptions stream;  // context = max_context_len, chunk = input_len; of a speech model both are its own
  // Layers by the export rule (LayerPattern) instead of the model's own: a window alone makes every layer slide, with a
  // pattern every P-th is full.
  std::optional<int64_t> sliding_window;          // tokens
  std::optional<int64_t> sliding_window_pattern;  // only beside a window
  std::string weights;         // what every matrix becomes whose rows allow it; empty: the file's types
  bool multifunction = false;  // methods `prefill` and `decode` instead of `forward`
};

struct ExportSummary {
  std::vector<std::string> warnings;  // of windows that are not the model's own
  size_t file_bytes = 0;
  size_t weight_bytes = 0;
  size_t cache_bytes = 0;  // of a sequence, as mapped
  size_t cross_bytes = 0;  // of encoder output; 0: there is none
  size_t arena_bytes = 0;  // values and workspaces of the longest method
  size_t layers = 0;
  std::vector<std::string> methods;
};

// The file appears whole or not at all.
KVASS_API Result<ExportSummary> export_program(const ExportOptions& options);

}  // namespace kvass
