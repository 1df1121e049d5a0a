// The job of `kvass export`: a model becomes one .kvp file with everything that running it takes, planned for one kind
// of stream. docs/export.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "app/model_file.h"
#include "app/stream_options.h"
#include "kvass/program_file.h"
#include "kvass/status.h"

namespace kvass {

// kvass/program_file.h, of options.model that is open already.
// `on_loaded`, `on_written`: of the weights in memory, then of the file.
Result<ExportSummary> export_program(ModelFile file, const ExportOptions& options, const OnProgress& on_loaded = {},
                                     const OnProgress& on_written = {});

// What windows that are not the model's own change, one line each for layers that change alike; `context`: tokens that
// a stream may have.
std::vector<std::string> window_warnings(const std::vector<CacheShape>& trained, const std::vector<CacheShape>& wanted,
                                         int64_t context);

}  // namespace kvass
