// What every flag's value is checked for before its command sees it: that there is one, and that a number is one, in
// the range of its type. The parser itself takes an empty value for zero and lets numbers wrap.
#pragma once

#include <CLI/CLI.hpp>

namespace kvass {

// Of all flags of a command, on the command line and in configuration files. The word that help shows for a value says
// what kind of value it is.
void check_values(CLI::App& command);

}  // namespace kvass
