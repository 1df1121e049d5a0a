#include "cli/output.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>

#include "app/text.h"
#include "base/os_error.h"
#include "cli/command.h"
#include "cli/signals.h"

namespace kvass {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 16;
constexpr int kPollMilliseconds = 100;  // how late a signal that comes just before a wait may be seen
constexpr int kPollsAtTheEnd = 5;

std::string g_stdout;    // not yet written; after a failure: what did not come out
int g_stdout_error = 0;  // errno of the first write that failed; ECANCELED: a signal ended the wait for a reader

// Writes as much of `text` as the system takes, and removes that from its front. Returns 0 or an errno.
int write_out(int file, std::string_view& text) {
  while (!text.empty()) {
    if (!wait_until(file, POLLOUT)) return ECANCELED;
    // What is ready takes this much without waiting, so that signals are always seen.
    const ssize_t count = ::write(file, text.data(), std::min<size_t>(text.size(), PIPE_BUF));
    if (count >= 0) {
      text.remove_prefix(static_cast<size_t>(count));
    } else if (errno == EAGAIN) {
      ::poll(nullptr, 0, 1);
    } else if (errno != EINTR) {
      return errno;
    }
  }
  return 0;
}

}  // namespace

bool wait_until(int file, short events) {
  for (int polls = 0;;) {
    pollfd waited{file, events, 0};
    const int ready = ::poll(&waited, 1, kPollMilliseconds);
    if (ready > 0 || (ready < 0 && errno != EINTR)) return true;  // the call that follows says what it is
    if (ending_signal() == 0) {
      polls = 0;
    } else if (ready == 0 && ++polls == kPollsAtTheEnd) {
      return false;
    }
  }
}

bool write_stdout(std::string_view text) {
  if (g_stdout_error != 0) return false;
  g_stdout += text;
  return g_stdout.size() < kBufferBytes || show_stdout("");
}

bool show_stdout(std::string_view text) {
  if (g_stdout_error != 0) return false;
  g_stdout += text;
  std::string_view left = g_stdout;
  g_stdout_error = write_out(STDOUT_FILENO, left);
  g_stdout.erase(0, g_stdout.size() - left.size());
  return g_stdout_error == 0;
}

std::string_view undelivered_stdout() { return g_stdout; }

Status flush_stdout() {
  if (show_stdout("")) return {};
  if (g_stdout_error == ECANCELED) {
    return Status::error(StatusCode::cancelled, "stdout: expected a reader, got a signal while it took nothing");
  }
  return os_error("stdout", "a place to write to", g_stdout_error);
}

void write_stderr(std::string_view text) {
  // One write a call, so that lines of processes that share a terminal do not mix; a closed stderr has no one to tell.
  const std::string valid = is_utf8(text) ? std::string() : valid_utf8(text);  // no memory where none is needed
  std::string_view left = valid.empty() ? text : valid;
  while (!left.empty()) {
    const ssize_t count = ::write(STDERR_FILENO, left.data(), left.size());
    if (count >= 0) {
      left.remove_prefix(static_cast<size_t>(count));
    } else if (errno == EAGAIN) {
      if (!wait_until(STDERR_FILENO, POLLOUT)) return;
    } else if (errno != EINTR || ending_signal() != 0) {
      return;
    }
  }
}

}  // namespace kvass
