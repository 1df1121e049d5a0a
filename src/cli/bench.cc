// kvass bench: tokens a second, with llama-bench's letters.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "app/speed.h"
#include "cli/command.h"

namespace kvass {
namespace {

struct BenchFlags {
  std::string model;
  BenchOptions bench{.prefill = {512}, .decode = {64}};
  bool json = false;
  StreamFlags stream;
};

Status run(const BenchFlags& flags) {
  const std::atomic<bool>& cancel = cancelled();
  KVASS_ASSIGN_OR_RETURN(const StreamOptions options, flags.stream.resolve());
  KVASS_ASSIGN_OR_RETURN(const OpenModel model, open_model(flags.model, options.math, options.threads));
  nlohmann::json rows = nlohmann::json::array();
  if (!flags.json) {
    fmt::print("{} threads, {}, math {}\n", options.threads, isa_name(model.engine->isa()), math_name(options.math));
    fmt::print("{:>8} {:>8} {:>6} {:>22} {:>8}  {}\n", "test", "depth", "batch", "tokens/s", "limit", "of");
  }
  const auto on_row = [&](const BenchRow& row, const MachineLimits& limits) {
    if (flags.json) {
      rows.push_back({{"test", row.test}, {"depth", row.depth}, {"batch", row.batch}, {"tps", row.tps}, {"deviation", row.deviation},
                      {"limit_share", row.limit_share}, {"read_bytes_per_s", limits.read_bytes}, {"multiply_adds_per_s", limits.multiply_adds}});
      return;
    }
    const std::string limit = row.test[0] == 'p' ? fmt::format("{:.1f} G multiply-adds/s", limits.multiply_adds / 1e9)
                                                 : fmt::format("{:.1f} GB/s read", limits.read_bytes / 1e9);
    fmt::print("{:>8} {:>8} {:>6} {:>22} {:>7.0f}%  {}\n", row.test, row.depth, row.batch,
               fmt::format("{:.2f} ± {:.2f}", row.tps, row.deviation), 100.0 * row.limit_share, limit);
    std::fflush(stdout);
  };
  KVASS_RETURN_IF_ERROR(bench(model, options, flags.bench, on_row, cancel));
  return flags.json ? print_json(rows) : flush_stdout();
}

}  // namespace

CommandAction add_bench(CLI::App& command) {
  auto flags = std::make_shared<BenchFlags>();
  command.description("Measure prefill and decode speed beside the machine's limits");
  command.footer("Lists are separated by commas. Example:\n  kvass bench model.gguf -p 512,2048 -n 64 -d 0,4096 -b 1,8 -t 2");
  command.add_option("MODEL", flags->model, "A GGUF file")->required();
  command.add_option("-p,--n-prompt", flags->bench.prefill, "Prompt lengths in tokens")->delimiter(',')->capture_default_str();
  command.add_option("-n,--n-gen", flags->bench.decode, "Tokens to generate")->delimiter(',')->capture_default_str();
  command.add_option("-d,--n-depth", flags->bench.depths, "Tokens in the cache before the clock starts")->delimiter(',')->capture_default_str();
  command.add_option("-b,--batch", flags->bench.batches, "Sequences that decode together")->delimiter(',')->capture_default_str();
  command.add_option("-r,--repetitions", flags->bench.repetitions, "Repetitions; the median is shown")->capture_default_str();
  command.add_flag("--json", flags->json, "A JSON list instead of the table");
  flags->stream.add(command);
  return [flags] { return run(*flags); };
}

}  // namespace kvass
