#include "cli/turns.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "base/os_error.h"

namespace kvass {
namespace {

std::atomic<bool> g_answering{false};
std::atomic<bool> g_stop{false};
std::atomic<bool> g_quit{false};
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler sets them");

void on_signal(int number) {
  const bool answering = g_answering.load(std::memory_order_relaxed);
  if (!answering || number != SIGINT || g_stop.load(std::memory_order_relaxed)) {
    g_quit.store(true, std::memory_order_relaxed);
    std::signal(number, SIG_DFL);
  }
  g_stop.store(true, std::memory_order_relaxed);
}

sigset_t interrupts() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  return set;
}

}  // namespace

void Interrupts::watch() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_mask = interrupts();
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}
const std::atomic<bool>& Interrupts::stop() { return g_stop; }
bool Interrupts::quit() { return g_quit.load(std::memory_order_relaxed); }
void Interrupts::begin_answer() {
  g_stop.store(quit(), std::memory_order_relaxed);
  g_answering.store(true, std::memory_order_relaxed);
}
void Interrupts::end_answer() { g_answering.store(false, std::memory_order_relaxed); }

Result<std::optional<std::string>> LineReader::next() {
  for (;;) {
    size_t length = buffer_.find('\n');
    if (length == std::string::npos && ended_ && !buffer_.empty()) length = buffer_.size();
    if (length != std::string::npos) {
      std::string line = buffer_.substr(0, length);
      buffer_.erase(0, length + 1);
      if (line.ends_with('\r')) line.pop_back();
      return std::optional(std::move(line));
    }
    if (ended_) return std::optional<std::string>();

    // Signals are let in only while this waits, so that one just before it is not lost.
    const sigset_t blocked = interrupts();
    sigset_t before;
    pthread_sigmask(SIG_BLOCK, &blocked, &before);
    pollfd input{STDIN_FILENO, POLLIN, 0};
    const int ready = Interrupts::quit() ? 0 : ::ppoll(&input, 1, nullptr, &before);
    const int error = errno;
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (Interrupts::quit()) return std::optional<std::string>();
    if (ready < 0 && error == EINTR) continue;
    char bytes[1 << 14];
    const ssize_t count = ::read(STDIN_FILENO, bytes, sizeof bytes);
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (count < 0) return os_error("stdin", "readable text", errno);
    if (count == 0) ended_ = true;
    buffer_.append(bytes, static_cast<size_t>(count));
  }
}

}  // namespace kvass
