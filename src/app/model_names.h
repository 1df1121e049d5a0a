// Models by name: what `kvass pull` or scripts/fetch-model.sh has put into the user's cache folder, where models/NAME
// links to the file or folder of each. A path that exists is itself; any other word without a slash may be such a name.
#pragma once

#include <string>
#include <vector>

#include "kvass/status.h"

namespace kvass {

// $KVASS_CACHE, $XDG_CACHE_HOME/kvass or ~/.cache/kvass; empty: none of them is set.
std::string cache_folder();

struct NamedModel {
  std::string name;
  std::string path;     // empty: it leads to nothing
  std::string problem;  // why it does
};
// By name; none where the folder does not exist. An error: it cannot be read.
Result<std::vector<NamedModel>> named_models();

// Whether a model may have this name.
bool is_model_name(const std::string& name);

// The path of a model that was asked for by path or by name.
std::string model_path(const std::string& path_or_name);

}  // namespace kvass
