#include "cli/turns.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/os_error.h"
#include "cli/signals.h"

namespace kvass {

Result<std::optional<std::string>> LineReader::next() {
  for (;;) {
    size_t length = buffer_.find('\n', searched_);
    searched_ = std::min(length, buffer_.size());
    if (length == std::string::npos && ended_ && !buffer_.empty()) length = buffer_.size();
    if (std::min(length, buffer_.size()) > kMostLineBytes) {
      return bad_input("stdin", "lines of at most " + std::to_string(kMostLineBytes) + " bytes", "a longer one");
    }
    if (length != std::string::npos) {
      std::string line = buffer_.substr(0, length);
      buffer_.erase(0, length + 1);
      searched_ = 0;
      if (line.ends_with('\r')) line.pop_back();
      return std::optional(std::move(line));
    }
    if (ended_) return std::optional<std::string>();

    Interrupts::wait_for_input();
    if (Interrupts::quit().load(std::memory_order_relaxed)) return std::optional<std::string>();
    char bytes[1 << 14];
    const ssize_t count = ::read(STDIN_FILENO, bytes, sizeof bytes);
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (count < 0) return os_error("stdin", "readable text", errno);
    if (count == 0) ended_ = true;
    buffer_.append(bytes, static_cast<size_t>(count));
  }
}

}  // namespace kvass
