#include "cli/command.h"

#include <fmt/format.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>

namespace kvass {
namespace {

std::atomic<bool> g_cancelled{false};
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler sets it");

void on_signal(int) { g_cancelled.store(true, std::memory_order_relaxed); }

}  // namespace

void StreamFlags::add(CLI::App& command) {
  context_given_ = command
                       .add_option("--context,--max-context-len", context_,
                                   "Tokens that full-attention layers can look back on\n"
                                   "(default: 4096 or what the model was trained for; with sinks S + W)")
                       ->type_name("TOKENS");
  sink_given_ = command
                    .add_option("--attention-sink", attention_sink_,
                                "Stream without end: keep the first S tokens for ever beside a window\n"
                                "of the latest W. S = 0 is a plain ring. Example: 4,508")
                    ->type_name("S,W");
  command.add_option("--chunk,--input-len", chunk_, "Tokens that one step may bring")->type_name("TOKENS")->capture_default_str();
  command.add_option("--kv", kv_, "Storage of keys and values: f32, f16 or bf16")->type_name("TYPE")->capture_default_str();
  command.add_option("--math", math_, "Activations as 16-bit integers, float32 or 8-bit integers: a16, f32 or a8")
      ->type_name("MATH")
      ->capture_default_str();
  command.add_option("--threads,-t", threads_, "Threads (default: the CPUs that the process may use)")->type_name("N");
}

Result<StreamOptions> StreamFlags::resolve() const {
  StreamOptions options;
  if (context_given_->count() > 0) options.context = context_;
  if (sink_given_->count() > 0) {
    KVASS_ASSIGN_OR_RETURN(options.attention_sink, parse_attention_sink(attention_sink_));
  }
  options.endless = endless_;
  options.chunk = chunk_;
  KVASS_ASSIGN_OR_RETURN(options.kv, parse_dtype(kv_));
  KVASS_ASSIGN_OR_RETURN(options.math, parse_math(math_));
  KVASS_ASSIGN_OR_RETURN(options.threads, resolve_threads(threads_));
  return options;
}

const std::atomic<bool>& cancelled() {
  struct sigaction action{};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESETHAND;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  return g_cancelled;
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
  if (failed) return bad_input(path, "a readable file", std::strerror(error));
  return text;
}

Result<std::vector<int32_t>> parse_ids(const std::string& text, const std::string& where) {
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_array()) return bad_input(where, "a JSON array of token ids", "something else");
  std::vector<int32_t> ids;
  for (const nlohmann::json& id : json) {
    if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() > std::numeric_limits<int32_t>::max()) {
      return bad_input(where + ": id " + std::to_string(ids.size()), "an integer from 0 to 2^31 - 1", id.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace));
    }
    ids.push_back(id.get<int32_t>());
  }
  return ids;
}

Status print_json(const nlohmann::json& json) {
  const std::string text = json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  std::fwrite(text.data(), 1, text.size(), stdout);
  return flush_stdout();
}

Status flush_stdout() {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return {};
  return bad_input("stdout", "a place to write to", std::strerror(errno));
}

}  // namespace kvass
