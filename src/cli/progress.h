// How far a job has come, as one line on stderr that is written again and again: only on a terminal, and only for what
// takes longer than two seconds.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "base/on_progress.h"

namespace kvass {

class Progress {
 public:
  // "[=====     ] 512 of 4096 tokens of the prompt": `unit` is the end of the line.
  explicit Progress(std::string unit);
  ~Progress() { end(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void show(int64_t done, int64_t total);
  void end();  // takes the line away

  // One that counts MiB and ends by itself. `quiet`: nobody.
  static OnProgress of_bytes(const std::string& unit, bool quiet = false);

 private:
  std::string unit_;
  bool terminal_;
  bool open_ = false;
  std::chrono::steady_clock::time_point begin_, shown_;
};

}  // namespace kvass
