// The lines of a person, one by one. Owns what is read and not yet given.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "kvass/status.h"

namespace kvass {

// Bytes of a line at most: what has no end is no line.
inline constexpr size_t kMostLineBytes = size_t{16} << 20;

// Lines of stdin, without their ends. Nothing at the end of input, or where a signal asks the program to end. The time
// that a line takes is proportional to its length.
class LineReader {
 public:
  Result<std::optional<std::string>> next();

 private:
  std::string buffer_;
  size_t searched_ = 0;  // bytes of it that have no end of a line
  bool ended_ = false;
};

}  // namespace kvass
