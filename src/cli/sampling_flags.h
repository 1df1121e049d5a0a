// The flags of sampling, which run and chat take under the same names.
#pragma once

#include <CLI/CLI.hpp>

#include "app/generate.h"

namespace kvass {

void add_sampling_flags(CLI::App& command, SampleOptions& options);

}  // namespace kvass
