// What a service manager and a service tell each other: sd_listen_fds(3) and sd_notify(3), without its library.
#pragma once

#include <string_view>

namespace kvass::serve {

int systemd_socket();                         // that it has opened for this process, and that listens; -1: none
void notify_systemd(std::string_view state);  // "READY=1", where NOTIFY_SOCKET is set

}  // namespace kvass::serve
