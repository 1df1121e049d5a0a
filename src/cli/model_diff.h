// `kvass inspect --diff A B`.
#pragma once

#include <string>

#include "kvass/status.h"

namespace kvass {

// Prints what two models do not have in common. An error where there is anything.
Status print_model_difference(const std::string& a, const std::string& b, bool json);

}  // namespace kvass
