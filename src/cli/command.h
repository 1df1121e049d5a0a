// What the commands share: how one is added to the parser, how it ends, and the flags of a stream. A command is flags in, a job of
// app/ called, output out; it decides nothing.
#pragma once

#include <CLI/CLI.hpp>
#include <atomic>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "app/stream_options.h"
#include "app/text.h"
#include "kvass/status.h"

namespace kvass {

// Exit codes. Bad usage (2) is the parser's.
inline constexpr int kDone = 0;
inline constexpr int kBadInput = 1;
inline constexpr int kBadUsage = 2;

// Fills in a subcommand; the result runs it once the command line is parsed.
using CommandAction = std::function<Status()>;
#define KVASS_COMMAND(name) CommandAction add_##name(CLI::App& command);
#include "cli/commands.inc"
#undef KVASS_COMMAND

// The flags of a stream, as text until they are all there.
class StreamFlags {
 public:
  void add(CLI::App& command);
  Result<StreamOptions> resolve() const;
  void set_endless() { endless_ = true; }

 private:
  int64_t context_ = 0;
  const CLI::Option* context_given_ = nullptr;
  std::string attention_sink_;
  const CLI::Option* sink_given_ = nullptr;
  int64_t chunk_ = 256;
  std::string kv_ = "f16";
  std::string math_ = "a16";
  int threads_ = 0;
  bool endless_ = false;
};

// Set by SIGINT and SIGTERM from the first call on; a second signal ends the process at once.
const std::atomic<bool>& cancelled();

// The whole of a file, or of stdin for "-".
Result<std::string> read_text(const std::string& path);

// A JSON array of token ids; `where` stands in messages.
Result<std::vector<int32_t>> parse_ids(const std::string& text, const std::string& where);

// JSON to stdout on one line; bytes that are not UTF-8 become U+FFFD. An error when stdout is closed or full.
Status print_json(const nlohmann::json& json);
Status flush_stdout();

}  // namespace kvass
