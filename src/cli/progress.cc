#include "cli/progress.h"

#include <unistd.h>

#include <algorithm>
#include <memory>

#include "cli/command.h"

namespace kvass {
namespace {

constexpr std::chrono::milliseconds kPatience{2000}, kPeriod{100};

}  // namespace

Progress::Progress(std::string unit)
    : unit_(std::move(unit)),
      terminal_(::isatty(STDERR_FILENO) == 1),
      begin_(std::chrono::steady_clock::now()),
      shown_(begin_) {}

void Progress::show(int64_t done, int64_t total) {
  if (!terminal_ || total <= 0) return;
  const auto now = std::chrono::steady_clock::now();
  if (now - begin_ < kPatience || now - shown_ < kPeriod) return;
  shown_ = now;
  open_ = true;
  constexpr int64_t kWidth = 40;
  const auto filled = static_cast<size_t>(std::clamp<int64_t>(done * kWidth / total, 0, kWidth));
  say("\r[{:<{}}] {} of {} {}\033[K", std::string(filled, '='), kWidth, done, total, unit_);
}

OnProgress Progress::of_bytes(const std::string& unit, bool quiet) {
  if (quiet) return {};
  return [progress = std::make_shared<Progress>("MiB of " + unit)](size_t done, size_t total) {
    progress->show(static_cast<int64_t>(done >> 20), static_cast<int64_t>(total >> 20));
    if (done == total) progress->end();
  };
}

void Progress::end() {
  if (open_) say("\r\033[K");
  open_ = false;
}

}  // namespace kvass
