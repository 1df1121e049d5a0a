// The lines of a person, one by one. Owns what is read and not yet given.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "kvass/status.h"

namespace kvass {

// Bytes of a line at most: what has no end is no line.
inline constexpr size_t kMostLineBytes = size_t{16} << 20;

// Lines of stdin, without their ends. Nothing at the end of input, or where a signal asks the program to end. The time
// that a line takes is proportional to its length.
class LineReader {
 public:
  Result<std::optional<std::string>> next();
  // Whether there is more to read now.
  bool ready();
  void put_back(const std::string& line) {
    buffer_.insert(0, line + '\n');
    searched_ = 0;
  }

 private:
  std::string buffer_;
  size_t searched_ = 0;  // bytes of it that have no end of a line
  bool ended_ = false;
};

// What a person says at a time: a line, or several between """ and """, with the same limit. On a terminal also a
// pasted block: what the terminal marks as one, or else the lines that come at once.
struct Turn {
  std::string text;
  bool block = false;  // not a line that was typed: never a command
};

class TurnReader {
 public:
  explicit TurnReader(bool terminal) : terminal_(terminal) {}
  Result<std::optional<Turn>> next();

 private:
  Result<std::optional<std::string>> line();  // on a terminal: with the marks of what is pasted into it
  Result<std::string> next_of(const Turn& turn, std::string_view mark);
  Result<Turn> quoted(std::string line);
  Result<Turn> pasted(std::string line);
  Result<Turn> at_once(std::string line);

  LineReader lines_;
  bool terminal_;
};

}  // namespace kvass
