// kvass bench: tokens a second, with llama-bench's letters.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "app/chart.h"
#include "app/profile.h"
#include "app/speed.h"
#include "base/new_file.h"
#include "cli/command.h"
#include "cli/fields.h"
#include "cli/model_flags.h"
#include "cli/signals.h"
#include "cli/stream_flags.h"

namespace kvass {
namespace {

constexpr char kTraceBegin[] = "{\"displayTimeUnit\"";  // as chrome_trace writes it

struct BenchFlags {
  std::string model;
  BenchOptions bench;
  bool json = false;
  std::string text;   // file; empty: random tokens
  std::string trace;  // file; empty: none
  std::string plot;   // file; empty: none
  StreamFlags stream;
  ModelFlags weights;
};

nlohmann::json row_json(const BenchRow& row, const MachineLimits& limits) {
  return {{"test", row.test},
          {"depth", row.depth},
          {"batch", row.batch},
          {"tps", row.tps},
          {"deviation", row.deviation},
          {"limit_share", row.limit_share},
          {"read_bytes_per_s", limits.read_bytes},
          {"multiply_adds_per_s", limits.multiply_adds}};
}

void print_row(const BenchRow& row, const MachineLimits& limits) {
  const std::string limit = row.prefill ? fmt::format("{:.1f} G multiply-adds/s", limits.multiply_adds / 1e9)
                                        : fmt::format("{:.1f} GB/s read", limits.read_bytes / 1e9);
  print("{:>8} {:>8} {:>6} {:>22} {:>6.0f}%  {}\n", row.test, row.depth, row.batch,
        fmt::format("{:.2f} ± {:.2f}", row.tps, row.deviation), 100.0 * row.limit_share, limit);
}

nlohmann::json profile_json(const Engine& engine, const BenchRow& row) {
  nlohmann::json ops = nlohmann::json::array();
  for (const ProfileRow& op : summarise_profile(engine, row.profile)) {
    ops.push_back({{"op", op.op},
                   {"name", op.name},
                   {"calls", op.calls},
                   {"seconds", op.seconds},
                   {"share", op.seconds / row.seconds},
                   {"weight_bytes", op.weight_bytes}});
  }
  return {{"seconds", row.seconds}, {"ops", std::move(ops)}};
}

void print_profile(const Engine& engine, const BenchRow& row) {
  double inside = 0.0;
  for (const ProfileRow& op : summarise_profile(engine, row.profile)) {
    inside += op.seconds;
    const std::string rate =
        op.weight_bytes == 0.0 ? "" : fmt::format("{:.1f} GB/s", op.weight_bytes / op.seconds * 1e-9);
    print("  {:>5.1f}% {:>10.3f} ms {:>7} x {:<16} {:<20} {}\n", 100.0 * op.seconds / row.seconds, op.seconds * 1e3,
          op.calls, op.op, op.name, rate);
  }
  print("  {:>5.1f}% {:>10.3f} ms           between ops\n", 100.0 * (row.seconds - inside) / row.seconds,
        (row.seconds - inside) * 1e3);
}

// The most tokens that a stream of these tests has.
int64_t tokens_of(const BenchOptions& bench) {
  const auto most = [](const std::vector<int64_t>& values) {
    return values.empty() ? int64_t{0} : *std::max_element(values.begin(), values.end());
  };
  return most(bench.depths) + std::max({most(bench.prefill), most(bench.decode), most(bench.greedy)});
}

// Speed over depth, a line for each test and batch; over the batch where there is one depth alone.
std::string bench_picture(const std::string& model, const std::vector<BenchRow>& rows) {
  const bool by_batch =
      std::all_of(rows.begin(), rows.end(), [&](const auto& row) { return row.depth == rows[0].depth; });
  std::vector<ChartLine> lines;
  for (const BenchRow& row : rows) {
    const std::string label =
        by_batch || row.batch == 1 ? row.test : fmt::format("{}, {} sequences", row.test, row.batch);
    auto line = std::find_if(lines.begin(), lines.end(), [&](const ChartLine& other) { return other.label == label; });
    if (line == lines.end()) line = lines.insert(lines.end(), {label, {}});
    line->points.emplace_back(static_cast<double>(by_batch ? row.batch : row.depth), row.tps);
  }
  for (ChartLine& line : lines) std::sort(line.points.begin(), line.points.end());
  return line_chart("Speed of " + model, by_batch ? "sequences" : "tokens in the cache", "tokens/s", lines);
}

Status run(const BenchFlags& flags) {
  if (!flags.plot.empty()) KVASS_RETURN_IF_ERROR(check_picture(flags.plot));
  if (!flags.plot.empty() && flags.plot == flags.trace)
    return bad_input("--plot", "another file than --trace", flags.plot);
  if (!flags.trace.empty()) KVASS_RETURN_IF_ERROR(check_replaceable(flags.trace, kTraceBegin, "traces"));
  KVASS_ASSIGN_OR_RETURN(const WeightOptions weights, flags.weights.resolve());
  KVASS_ASSIGN_OR_RETURN(ModelFile file, ModelFlags::open(flags.model));
  KVASS_ASSIGN_OR_RETURN(const StreamOptions options, flags.stream.resolve(file.stream_options()));
  KVASS_RETURN_IF_ERROR(validate(flags.bench));
  if (const int64_t needed = tokens_of(flags.bench);
      flags.stream.context_given() && !options.attention_sink && !options.endless && *options.context < needed) {
    return bad_input("StreamOptions.context",
                     fmt::format("room for {} tokens, the depth and the test after it", needed),
                     std::to_string(*options.context));
  }
  KVASS_ASSIGN_OR_RETURN(const OpenModel model,
                         open_model(std::move(file), options.arithmetic(), options.threads, weights));
  nlohmann::json rows = nlohmann::json::array();
  BenchOptions wanted = flags.bench;
  wanted.profile = wanted.profile || !flags.trace.empty();
  if (!flags.text.empty()) {
    KVASS_ASSIGN_OR_RETURN(wanted.text, read_text(flags.text));
    if (wanted.text.empty()) return bad_input("--text", "a file with some text", flags.text + ", which is empty");
  }
  const std::atomic<bool>& cancel = cancelled();
  if (!flags.json) {
    print("{}, {}, {} threads, math {}, cache {}\n", model.family, runs_on(*model.engine), options.threads,
          math_name(options.arithmetic()), dtype_name(options.storage()));
    print("{:>8} {:>8} {:>6} {:>22} {:>7}  {}\n", "test", "depth", "batch", "tokens/s", "limit", "of");
    show_stdout("");
  }
  std::vector<BenchRow> measured;
  const auto on_row = [&](const BenchRow& row, const MachineLimits& limits) {
    if (flags.json) {
      rows.push_back(row_json(row, limits));
      if (flags.bench.profile) rows.back()["profile"] = profile_json(*model.engine, row);
    } else {
      print_row(row, limits);
      if (flags.bench.profile) print_profile(*model.engine, row);
      show_stdout("");
    }
    if (!flags.trace.empty() || !flags.plot.empty()) measured.push_back(row);
  };
  size_t done = 0;
  const auto counted = [&](const BenchRow& row, const MachineLimits& limits) {
    on_row(row, limits);
    ++done;
  };
  const Status status = bench(model, options, wanted, counted, cancel);
  if (status.code() == StatusCode::cancelled) {
    return status.with_message(fmt::format("bench: interrupted after {} rows", done));
  }
  KVASS_RETURN_IF_ERROR(status);
  if (!flags.trace.empty()) {
    std::vector<TraceRow> trace;
    for (const BenchRow& row : measured) {
      trace.push_back({fmt::format("{} at {}, {} sequences", row.test, row.depth, row.batch), row.profile});
    }
    KVASS_RETURN_IF_ERROR(write_new_file(flags.trace, chrome_trace(model.engine->program(), trace)));
  }
  if (!flags.plot.empty()) KVASS_RETURN_IF_ERROR(write_picture(flags.plot, bench_picture(flags.model, measured)));
  return flags.json ? print_json(rows) : flush_stdout();
}

}  // namespace

CommandAction add_bench(CLI::App& command) {
  auto flags = std::make_shared<BenchFlags>();
  flags->bench.prefill = {512};
  flags->bench.decode = {64};
  command.description("Measure prefill and decode speed beside the machine's limits");
  command.footer(
      "pp is prefill of a prompt, tg generation of tokens one by one (a batch: one of each sequence) with all logits\n"
      "of each, gg greedy generation, as `run` generates without --temp: only the argmax of the logits is asked for, "
      "which\n"
      "can be told from fewer bytes. The limit of pp is a loop of multiply-adds, that of tg and gg a plain read of "
      "all\n"
      "weights and the keys and values that are in sight (gg can pass it); both are measured in the same process.\n"
      "Lists are separated by commas. Example:\n"
      "  kvass bench model.gguf -p 512,2048 -n 64 -d 0,4096 -b 1,8 -t 2");
  ModelFlags::add_model(command, flags->model)->required();
  const auto list = [&](const std::string& name, std::vector<int64_t>& values, const char* type, const char* what) {
    command.add_option(name, values, what)
        ->type_name(type)
        ->delimiter(',')
        ->allow_extra_args(false)
        ->group("Measurements")
        ->capture_default_str();
  };
  list(flags_of("BenchOptions.prefill"), flags->bench.prefill, "TOKENS,...", "Prompt lengths; 0: no prefill");
  list(flags_of("BenchOptions.decode"), flags->bench.decode, "TOKENS,...", "Tokens to generate; 0: no generation");
  list(flags_of("BenchOptions.greedy"), flags->bench.greedy, "TOKENS,...", "Tokens to generate greedily; 0: none");
  list(flags_of("BenchOptions.depths"), flags->bench.depths, "TOKENS,...",
       "Tokens in the cache before the clock starts");
  list(flags_of("BenchOptions.batches"), flags->bench.batches, "N,...", "Sequences that generate together");
  command
      .add_option(flags_of("BenchOptions.repetitions"), flags->bench.repetitions,
                  "Repetitions; the median is shown, ± standard deviation")
      ->type_name("N")
      ->group("Measurements")
      ->capture_default_str();
  command
      .add_option("--text", flags->text,
                  "Tokens of this text, as often as it takes, instead of random ones; gg depends on them")
      ->type_name("FILE")
      ->group("Measurements");
  command
      .add_flag(flags_of("BenchOptions.profile"), flags->bench.profile, "The time of each op in the last repetition")
      ->group("Measurements");
  command.add_option("--trace", flags->trace, "When each op ran, for chrome://tracing or Perfetto")
      ->type_name("FILE")
      ->group("Measurements");
  command.add_option("--plot", flags->plot, "A picture of the speed over the depth, or over the batch (SVG)")
      ->type_name("FILE")
      ->group("Measurements");
  command.add_flag("--json", flags->json, "A JSON list instead of the table")->group("Measurements");
  flags->stream.add(command);
  flags->weights.add(command);
  flags->weights.add_device(command);
  return [flags] { return run(*flags); };
}

}  // namespace kvass
