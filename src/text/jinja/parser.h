// Tokens to a tree, by the grammar of jinja2 3.1 with its loop controls and the `generation` block of transformers.
// Throws Failure (value.h) for what that grammar refuses, for tags that need a loader (include, import, extends), and
// for filters and tests that do not exist.
#pragma once

#include <string_view>

#include "text/jinja/ast.h"

namespace kvass::jinja {

Body parse(std::string_view source);

}  // namespace kvass::jinja
