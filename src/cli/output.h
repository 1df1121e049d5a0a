// How the command line waits for a descriptor: for the writing of output (command.h) and for input that comes late.
#pragma once

namespace kvass {

// Waits until `file` is ready for `events` (POLLIN, POLLOUT), or has failed. False: a signal asks the process to end,
// and nothing came for half a second.
bool wait_until(int file, short events);

}  // namespace kvass
