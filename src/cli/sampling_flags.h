// The flags of sampling, which run and chat take under the same names.
#pragma once

#include <CLI/CLI.hpp>

#include "app/generate.h"

namespace kvass {

void add_sampling_flags(CLI::App& command, SampleOptions& options);

// `saved`, but what the command line says where it says something: `given`, which its flags have filled in.
SampleOptions resumed_sampling(const CLI::App& command, const SampleOptions& given, SampleOptions saved);

}  // namespace kvass
