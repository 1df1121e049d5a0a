// Sockets that listen: at an address of this machine, at a path, or one that the process was given.
#pragma once

#include <sys/socket.h>

#include <string>

#include "kvass/status.h"

namespace kvass::serve {

struct Listening {
  int file = -1;  // the caller closes it
  std::string url;
  std::string path;   // of a UNIX socket that the caller removes at the end; empty: none
  bool local = true;  // only this machine can reach it
};

// "127.0.0.1", "::1", a host name, or "unix:PATH", whose socket is its owner's alone; `port` 0: a free one. A socket of
// systemd's is used instead of either.
Result<Listening> listen(const std::string& host, int port);

// Whether only this machine can reach such a host: 127.x.x.x, ::1, localhost, unix:PATH.
bool is_loopback(const std::string& host);

std::string address_text(const sockaddr* address, socklen_t length);  // "127.0.0.1:8080", "unix"

}  // namespace kvass::serve
