#include "cli/signals.h"

#include <poll.h>
#include <unistd.h>

#include <csignal>
#include <cstring>

#include "base/new_file.h"

namespace kvass {
namespace {

enum class Mode : int { none, at_once, flag, answers, server };

std::atomic<Mode> g_mode{Mode::none};
std::atomic<int> g_signal{0};
std::atomic<bool> g_quit{false};       // the program is to end
std::atomic<bool> g_stop{false};       // the answer is to end
std::atomic<bool> g_hung_up{false};    // of a server
std::atomic<bool> g_answering{false};  // a conversation is in the middle of one
static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<int>::is_always_lock_free &&
                  std::atomic<Mode>::is_always_lock_free,
              "a signal handler sets them");

constexpr int kSignals[] = {SIGINT, SIGTERM, SIGHUP};
constexpr char kEnded[] = "kvass: ended by a signal before its work was done\n";

[[noreturn]] void end_at_once(int number) {
  remove_unfinished_files();
  (void)!::write(STDERR_FILENO, kEnded, std::strlen(kEnded));
  ::_exit(128 + number);
}

void on_signal(int number) {
  const Mode mode = g_mode.load(std::memory_order_relaxed);
  if (mode == Mode::at_once) end_at_once(number);
  if (mode == Mode::server && number == SIGHUP) return g_hung_up.store(true, std::memory_order_relaxed);
  const bool answer = mode == Mode::answers && number == SIGINT && g_answering.load(std::memory_order_relaxed) &&
                      !g_stop.load(std::memory_order_relaxed);
  if (!answer) {
    if (g_signal.load(std::memory_order_relaxed) == number) end_at_once(number);
    g_signal.store(number, std::memory_order_relaxed);
    g_quit.store(true, std::memory_order_relaxed);
  }
  g_stop.store(true, std::memory_order_relaxed);
}

sigset_t handled() {
  sigset_t set;
  sigemptyset(&set);
  for (const int number : kSignals) sigaddset(&set, number);
  return set;
}

}  // namespace

void end_on_signals() {
  g_mode.store(Mode::at_once);
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_mask = handled();
  for (const int number : kSignals) {
    struct sigaction before {};
    sigaction(number, nullptr, &before);
    if (number != SIGHUP || before.sa_handler != SIG_IGN) sigaction(number, &action, nullptr);
  }
}

const std::atomic<bool>& cancelled() {
  g_mode.store(Mode::flag);
  return g_quit;
}

const std::atomic<bool>& ended() {
  g_mode.store(Mode::server);
  return g_quit;
}
bool hung_up() { return g_hung_up.exchange(false, std::memory_order_relaxed); }

int ending_signal() { return g_signal.load(std::memory_order_relaxed); }

void Interrupts::watch() { g_mode.store(Mode::answers); }
const std::atomic<bool>& Interrupts::stop() { return g_stop; }
const std::atomic<bool>& Interrupts::quit() { return g_quit; }
void Interrupts::begin_answer() {
  g_stop.store(g_quit.load(std::memory_order_relaxed), std::memory_order_relaxed);
  g_answering.store(true, std::memory_order_relaxed);
}
Interrupts::AtOnce::AtOnce() {
  g_mode.store(Mode::at_once);
  if (const int number = ending_signal()) end_at_once(number);
}
void Interrupts::end_answer() { g_answering.store(false, std::memory_order_relaxed); }

void Interrupts::wait_for_input() {
  // Signals are let in only while this waits, so that one just before it is not lost.
  const sigset_t blocked = handled();
  sigset_t before;
  pthread_sigmask(SIG_BLOCK, &blocked, &before);
  pollfd input{STDIN_FILENO, POLLIN, 0};
  if (!g_quit.load(std::memory_order_relaxed)) (void)::ppoll(&input, 1, nullptr, &before);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

}  // namespace kvass
