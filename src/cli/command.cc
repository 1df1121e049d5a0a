#include "cli/command.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/json_text.h"
#include "base/os_error.h"
#include "cli/fields.h"
#include "cli/output.h"
#include "cli/signals.h"

namespace kvass {
namespace {

std::vector<std::string> g_arguments;  // of the program

}  // namespace

int exit_code(const Status& status) {
  switch (status.code()) {
    case StatusCode::ok:
      return kDone;
    case StatusCode::cancelled:
      return kSignal + (ending_signal() != 0 ? ending_signal() : SIGINT);
    case StatusCode::bad_input:
    case StatusCode::busy:
    case StatusCode::cache_full:
    case StatusCode::out_of_memory:
    case StatusCode::io:
    case StatusCode::device:
    case StatusCode::unsupported:
    case StatusCode::internal:
      break;
  }
  return kFailed;
}

std::string one_line(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, '?');
  return text;
}

void set_arguments(int argc, char** argv) { g_arguments.assign(argv, argv + argc); }

std::string shown_message(const Status& status) { return one_line(with_flags(status.message(), g_arguments)); }

std::string json_text(const nlohmann::json& json) {
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

Status print_json(const nlohmann::json& json) {
  write_stdout(json_text(json) + "\n");
  return flush_stdout();
}

Result<std::string> read_text(const std::string& path, size_t most) {
  const bool standard = path == "-";
  const std::string name = standard ? "stdin" : path;
  const int file = standard ? STDIN_FILENO : ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return os_error(name, "a readable file", errno);
  std::string text;
  std::vector<char> buffer(size_t{1} << 16);
  Status status;
  while (status.ok()) {
    const ssize_t count = ::read(file, buffer.data(), buffer.size());
    if (count == 0) break;
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) {
      wait_until(file, POLLIN);
    } else if (count < 0) {
      status = os_error(name, "a readable file", errno);
    } else if (text.append(buffer.data(), static_cast<size_t>(count)); text.size() > most) {
      status = bad_input(name, "at most " + std::to_string(most) + " bytes of text", "more");
    }
  }
  if (!standard) ::close(file);
  if (!status.ok()) return status;
  return text;
}

bool is_stdout(const std::string& path) {
  struct stat there {
  }, out{};
  return ::stat(path.c_str(), &there) == 0 && ::fstat(STDOUT_FILENO, &out) == 0 && there.st_dev == out.st_dev &&
         there.st_ino == out.st_ino;
}

bool stdin_has_text() {
  struct stat info {};
  if (::fstat(STDIN_FILENO, &info) != 0) return false;
  if (S_ISREG(info.st_mode)) return info.st_size > ::lseek(STDIN_FILENO, 0, SEEK_CUR);
  int bytes = 0;
  const bool pipe = S_ISFIFO(info.st_mode) || S_ISSOCK(info.st_mode);
  return pipe && ::ioctl(STDIN_FILENO, FIONREAD, &bytes) == 0 && bytes > 0;
}

Result<std::vector<int32_t>> parse_ids(const std::string& text, const std::string& where) {
  KVASS_ASSIGN_OR_RETURN(const JsonTree tree, parse_json<nlohmann::json>(where, text));
  const nlohmann::json& json = tree.root();
  if (!json.is_array()) return bad_input(where, "a JSON array of token ids", "something else");
  std::vector<int32_t> ids;
  ids.reserve(json.size());
  for (const nlohmann::json& id : json) {
    if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() > std::numeric_limits<int32_t>::max()) {
      return bad_input(where + ": id " + std::to_string(ids.size()), "an integer from 0 to 2^31 - 1",
                       json_text(id).substr(0, 80));
    }
    ids.push_back(id.get<int32_t>());
  }
  return ids;
}

}  // namespace kvass
