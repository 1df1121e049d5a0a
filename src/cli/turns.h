// What a conversation in a terminal takes: the lines of a person one by one, and Ctrl-C that ends an answer first and
// the program second. Owns what is read and not yet given; the signal handlers are the process's.
#pragma once

#include <atomic>
#include <optional>
#include <string>

#include "kvass/status.h"

namespace kvass {

// SIGINT and SIGTERM, from `watch` on: they set what `stop` and `quit` say, and end the wait for a line. The first
// SIGINT during an answer ends the answer. Any other one, and every SIGTERM, asks the program to end; after that a
// further signal ends it at once.
class Interrupts {
 public:
  static void watch();
  static const std::atomic<bool>& stop();  // the answer is to end
  static bool quit();                      // the program is to end
  static void begin_answer();
  static void end_answer();
};

// Lines of stdin, without their ends. Nothing at the end of input, or where a signal asks the program to end.
class LineReader {
 public:
  Result<std::optional<std::string>> next();

 private:
  std::string buffer_;
  bool ended_ = false;
};

}  // namespace kvass
