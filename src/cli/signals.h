// SIGINT, SIGTERM and SIGHUP, for every command alike.
//
// A command that has nothing to put in order is ended at once, by the handler: unfinished files are removed, a line
// says so, and the exit code is 128 + the signal's number. A command that watches sees a flag instead, and ends in
// order with the same code; a second signal of the kind ends it at once. A SIGHUP that was ignored when the program
// began (`nohup`) stays so. The handlers are the process's.
#pragma once

#include <atomic>

namespace kvass {

// From here on signals end the process at once.
void end_on_signals();

// From the first call on signals set this flag.
const std::atomic<bool>& cancelled();

// Of a server: from the first call on SIGINT and SIGTERM set this flag. SIGHUP only makes hung_up() true, once.
const std::atomic<bool>& ended();
bool hung_up();

// The number of the signal that asks the process to end; 0: none has.
int ending_signal();

// Of a conversation, from `watch` on: signals set what `stop` and `quit` say, and end the wait for a line. The first
// SIGINT during an answer ends the answer. Any other signal asks the program to end.
class Interrupts {
 public:
  static void watch();
  static const std::atomic<bool>& stop();  // the answer is to end
  static const std::atomic<bool>& quit();  // the program is to end
  static void begin_answer();
  static void end_answer();
  // While one lives, signals end the process at once: for work that sees no flag and changes nothing.
  class AtOnce {
   public:
    AtOnce();
    ~AtOnce() { watch(); }
    AtOnce(const AtOnce&) = delete;
    AtOnce& operator=(const AtOnce&) = delete;
  };

  // Waits until stdin has something to read, or a signal asks the program to end.
  static void wait_for_input();
};

}  // namespace kvass
