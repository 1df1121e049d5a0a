#include "cli/command.h"

#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/new_file.h"
#include "base/os_error.h"
#include "cli/fields.h"

namespace kvass {
namespace {

std::atomic<bool> g_cancelled{false};
static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<int>::is_always_lock_free,
              "a signal handler sets them");

std::atomic<int> g_signal{0};  // the one that cancelled

void on_signal(int number) {
  g_signal.store(number, std::memory_order_relaxed);
  g_cancelled.store(true, std::memory_order_relaxed);
}

std::vector<std::string> g_arguments;  // of the program

int g_stdout_error = 0;  // errno of the first write that failed

}  // namespace

const std::atomic<bool>& cancelled() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESETHAND;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  return g_cancelled;
}

int exit_code(const Status& status) {
  switch (status.code()) {
    case StatusCode::ok:
      return kDone;
    case StatusCode::cancelled: {
      const int number = g_signal.load(std::memory_order_relaxed);
      return kSignal + (number != 0 ? number : SIGINT);
    }
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

bool write_stdout(std::string_view text) {
  if (g_stdout_error == 0 && std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) g_stdout_error = errno;
  return g_stdout_error == 0;
}

bool show_stdout(std::string_view text) {
  if (write_stdout(text) && std::fflush(stdout) != 0) g_stdout_error = errno;
  return g_stdout_error == 0;
}

Status flush_stdout() {
  if (show_stdout("") || g_stdout_error == EPIPE) return {};
  return os_error("stdout", "a place to write to", g_stdout_error);
}

void write_stderr(std::string_view text) {
  // One write a call, so that lines of processes that share a terminal do not mix; a closed stderr has no one to tell.
  (void)std::fwrite(text.data(), 1, text.size(), stderr);
  (void)std::fflush(stderr);
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

Result<std::string> read_text(const std::string& path) {
  std::FILE* file = path == "-" ? stdin : std::fopen(path.c_str(), "rb");
  if (!file) return os_error(path, "a readable file", errno);
  std::string text;
  char buffer[1 << 16];
  size_t count = 0;
  while ((count = std::fread(buffer, 1, sizeof buffer, file)) > 0) text.append(buffer, count);
  const bool failed = std::ferror(file) != 0;
  const int error = errno;
  if (file != stdin) std::fclose(file);
  if (failed) return os_error(path == "-" ? "stdin" : path, "a readable file", error);
  return text;
}

bool stdin_has_text() {
  struct stat info {};
  if (::fstat(STDIN_FILENO, &info) != 0) return false;
  if (S_ISREG(info.st_mode)) return info.st_size > ::lseek(STDIN_FILENO, 0, SEEK_CUR);
  int bytes = 0;
  const bool pipe = S_ISFIFO(info.st_mode) || S_ISSOCK(info.st_mode);
  return pipe && ::ioctl(STDIN_FILENO, FIONREAD, &bytes) == 0 && bytes > 0;
}

Status write_text(const std::string& path, std::string_view text) {
  KVASS_RETURN_IF_ERROR(check_new_file(path));
  KVASS_ASSIGN_OR_RETURN(NewFile file, NewFile::create(path));
  KVASS_RETURN_IF_ERROR(file.write(0, {reinterpret_cast<const uint8_t*>(text.data()), text.size()}));
  return file.commit();
}

Result<std::vector<int32_t>> parse_ids(const std::string& text, const std::string& where) {
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
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
