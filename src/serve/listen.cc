#include "serve/listen.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>

#include "base/os_error.h"
#include "serve/systemd.h"

namespace kvass::serve {

std::string address_text(const sockaddr* address, socklen_t length) {
  if (address->sa_family == AF_UNIX) return "unix";
  char host[NI_MAXHOST], port[NI_MAXSERV];
  if (::getnameinfo(address, length, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    return "unknown";
  }
  const bool six = address->sa_family == AF_INET6;
  return (six ? "[" : "") + std::string(host) + (six ? "]:" : ":") + port;
}

namespace {

bool is_local(const sockaddr* address) {
  if (address->sa_family == AF_INET) {
    return (ntohl(reinterpret_cast<const sockaddr_in*>(address)->sin_addr.s_addr) >> 24) == 127;
  }
  if (address->sa_family == AF_INET6) {
    return IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr);
  }
  return address->sa_family == AF_UNIX;
}

// A socket of an address family of the network.
Listening at_address(int file) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  ::getsockname(file, reinterpret_cast<sockaddr*>(&address), &length);
  const auto* const plain = reinterpret_cast<const sockaddr*>(&address);
  return {file, "http://" + address_text(plain, length), "", is_local(plain)};
}

Status failed(const std::string& what) { return os_error("serve", what, errno); }

Result<Listening> listen_at_path(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return bad_input("ServeOptions.host", "unix:PATH of 1 to " + std::to_string(sizeof address.sun_path - 1) + " bytes",
                     std::to_string(path.size()) + " bytes");
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  struct stat there {};
  if (::lstat(path.c_str(), &there) == 0) {
    if (!S_ISSOCK(there.st_mode))
      return bad_input("ServeOptions.host", "a path that is free, or a socket", "'" + path + "', a file");
    const int probe = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const bool used = ::connect(probe, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
    ::close(probe);
    if (used)
      return Status::error(StatusCode::busy, expected_message("ServeOptions.host", "a socket that nobody serves",
                                                              "'" + path + "', which is served"));
    ::unlink(path.c_str());
  }
  const int file = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (file < 0) return failed("a socket");
  const mode_t mask = ::umask(0077);  // for its owner alone
  const bool bound = ::bind(file, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  ::umask(mask);
  if (!bound || ::listen(file, SOMAXCONN) != 0) {
    const Status status = failed("listening at " + path);
    ::close(file);
    return status;
  }
  return Listening{file, "unix:" + path, path};
}

Result<Listening> listen_at_host(const std::string& host, int port) {
  addrinfo wanted{}, *found = nullptr;
  wanted.ai_socktype = SOCK_STREAM;
  wanted.ai_flags = AI_PASSIVE;
  if (const int code = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &wanted, &found); code != 0) {
    return bad_input("ServeOptions.host", "an address of this machine, or unix:PATH",
                     "'" + host + "' (" + ::gai_strerror(code) + ")");
  }
  Status status = bad_input("ServeOptions.host", "an address of this machine", "'" + host + "'");
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    const int file = ::socket(one->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (file < 0) continue;
    const int on = 1;
    (void)::setsockopt(file, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (::bind(file, one->ai_addr, one->ai_addrlen) == 0 && ::listen(file, SOMAXCONN) == 0) {
      ::freeaddrinfo(found);
      return at_address(file);
    }
    status = failed("listening at " + host + ":" + std::to_string(port));
    ::close(file);
  }
  ::freeaddrinfo(found);
  return status;
}

// The socket that systemd has opened for this process, if it has.
std::optional<Listening> given_socket() {
  const int file = systemd_socket();
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  if (file < 0 || ::getsockname(file, reinterpret_cast<sockaddr*>(&address), &length) != 0) return {};
  if (address.ss_family == AF_UNIX) {
    return Listening{file, "unix:" + std::string(reinterpret_cast<sockaddr_un*>(&address)->sun_path)};
  }
  return at_address(file);
}

}  // namespace

Result<Listening> listen(const std::string& host, int port) {
  constexpr std::string_view kUnix = "unix:";
  if (const std::optional<Listening> given = given_socket()) return *given;
  if (host.starts_with(kUnix)) return listen_at_path(host.substr(kUnix.size()));
  return listen_at_host(host, port);
}

bool is_loopback(const std::string& host) {
  if (host.starts_with("unix:") || host == "localhost" || host == "::1") return true;
  in_addr address{};
  return ::inet_pton(AF_INET, host.c_str(), &address) == 1 && (ntohl(address.s_addr) >> 24) == 127;
}

}  // namespace kvass::serve
