// What the commands share: how one is added to the parser, how it reads and writes, and how it ends. A command is flags
// in, a job of app/ called, output out; it decides nothing.
#pragma once

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstddef>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "app/text.h"
#include "kvass/status.h"

namespace kvass {

// Exit codes. Bad usage is what the parser refuses; a value that a job refuses is a failure like any other, and so is
// an output that takes no more. Whatever a signal has ended exits as shells say it: 128 + the signal's number.
inline constexpr int kDone = 0;
inline constexpr int kFailed = 1;
inline constexpr int kBadUsage = 2;
inline constexpr int kSignal = 128;
int exit_code(const Status& status);

// Fills in a subcommand; the result runs it once the command line is parsed.
using CommandAction = std::function<Status()>;
#define KVASS_COMMAND(name) CommandAction add_##name(CLI::App& command);
#include "cli/commands.inc"
#undef KVASS_COMMAND

// Output. Nothing here throws (fmt::print would, into a closed pipe): the first failure of stdout is kept, what follows
// it is dropped, and flush_stdout reports it at the end. A reader that is slow is waited for, unless a signal asks the
// process to end.
bool write_stdout(std::string_view text);  // false: stdout takes no more
bool show_stdout(std::string_view text);   // the same, and out of the buffer at once
std::string_view undelivered_stdout();     // after a failure: the end of the text up to there that did not come out
Status flush_stdout();
void write_stderr(std::string_view text);         // bytes that are not UTF-8 become U+FFFD
std::string one_line(std::string text);           // whatever a file or an argument has put into it
void set_arguments(int argc, char** argv);        // as they were given: messages show flags by those names
std::string shown_message(const Status& status);  // on one line, with flags in place of fields

template <class... Args>
void print(fmt::format_string<Args...> format, Args&&... args) {
  write_stdout(fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void say(fmt::format_string<Args...> format, Args&&... args) {
  write_stderr(fmt::format(format, std::forward<Args>(args)...));
}

// JSON as text on one line; bytes that are not UTF-8 become U+FFFD.
std::string json_text(const nlohmann::json& json);
Status print_json(const nlohmann::json& json);

// The whole of a file, or of stdin for "-"; more than `most` bytes are an error.
inline constexpr size_t kMostTextBytes = size_t{1} << 30;
Result<std::string> read_text(const std::string& path, size_t most = kMostTextBytes);

// Whether a path leads to what stdout writes to.
bool is_stdout(const std::string& path);

// Whether stdin, where it is a file or a pipe, has something to read now. Reads nothing.
bool stdin_has_text();

// A JSON array of token ids; messages say `where`.
Result<std::vector<int32_t>> parse_ids(const std::string& text, const std::string& where);

}  // namespace kvass
