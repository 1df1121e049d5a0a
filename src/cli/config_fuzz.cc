// Any command line and any YAML file: parsing ends with flags that are set or with an error of one line. Input: a byte
// that chooses the command, arguments (one a line) up to a zero byte, then the file's text.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "app/stream_options.h"
#include "cli/command.h"
#include "cli/config.h"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

template <class T>
void require_one_line(const kvass::Result<T>& result) {
  require(result.ok() || result.status().message().find("expected") != std::string::npos);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  constexpr std::array kCommands = {&kvass::add_run, &kvass::add_score, &kvass::add_plan, &kvass::add_chat};
  const std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  const size_t split = std::min(input.find('\0'), input.size());
  const std::string_view lines = input.substr(0, split);

  require_one_line(kvass::parse_attention_sink(lines));
  require_one_line(kvass::parse_memory_limit(lines));
  require_one_line(kvass::parse_sink_positions(lines));

  CLI::App app("fuzz", "kvass");
  CLI::App* command = app.add_subcommand("command");
  const kvass::CommandAction action = kCommands[data[0] % kCommands.size()](*command);  // owns the flags
  kvass::ConfigFile config(*command);
  std::vector<std::string> arguments = {"command"};
  for (size_t at = 0; at < lines.size();) {
    const size_t end = std::min(lines.find('\n', at), lines.size());
    arguments.emplace_back(lines.substr(at, end - at));
    at = end + 1;
  }
  std::reverse(arguments.begin(), arguments.end());  // the parser takes them from the back
  try {
    app.parse(arguments);
  } catch (const CLI::ParseError&) {
    return 0;
  }
  if (split == input.size()) return 0;
  const kvass::Status status = config.apply_text("fuzz", std::string(input.substr(split + 1)));
  require(status.ok() || status.message().starts_with("fuzz"));
  return 0;
}
