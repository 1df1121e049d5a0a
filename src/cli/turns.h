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
  // Whether there is more to read now.
  bool ready();
  void put_back(const std::string& line) { buffer_.insert(0, line + '\n'); }

 private:
  std::string buffer_;
  bool ended_ = false;
};

// What a person says at a time: a line, or several between """ and """. On a terminal also a pasted block: what the
// terminal marks as one, or else the lines that come at once.
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
  Result<Turn> quoted(std::string line);
  Result<Turn> pasted(std::string line);
  Result<Turn> at_once(std::string line);

  LineReader lines_;
  bool terminal_;
};

}  // namespace kvass
