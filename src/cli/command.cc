#include "cli/command.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/new_file.h"

namespace kvass {
namespace {

std::atomic<bool> g_cancelled{false};
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler sets it");

void on_signal(int) { g_cancelled.store(true, std::memory_order_relaxed); }

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
  return bad_input("stdout", "a place to write to", std::strerror(g_stdout_error));
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

std::string json_text(const nlohmann::json& json) {
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

Status print_json(const nlohmann::json& json) {
  write_stdout(json_text(json) + "\n");
  return flush_stdout();
}

Result<std::string> read_text(const std::string& path) {
  std::FILE* file = path == "-" ? stdin : std::fopen(path.c_str(), "rb");
  if (!file) return bad_input(path, "a readable file", std::strerror(errno));
  std::string text;
  char buffer[1 << 16];
  size_t count = 0;
  while ((count = std::fread(buffer, 1, sizeof buffer, file)) > 0) text.append(buffer, count);
  const bool failed = std::ferror(file) != 0;
  const int error = errno;
  if (file != stdin) std::fclose(file);
  if (failed) return bad_input(path == "-" ? "stdin" : path, "a readable file", std::strerror(error));
  return text;
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
