// kvass score: negative log-likelihood and perplexity of a text along a stream.
#include "app/score.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "app/chart.h"
#include "app/plan.h"
#include "cli/command.h"
#include "cli/config.h"
#include "cli/fields.h"
#include "cli/model_flags.h"
#include "cli/progress.h"
#include "cli/signals.h"
#include "cli/stream_flags.h"

namespace kvass {
namespace {

struct ScoreFlags {
  std::string model;
  std::string file;
  bool ids = false;
  bool no_bos = false;
  int64_t max_tokens = 0;
  int64_t bucket = 2048;
  int64_t top = 0;
  int64_t rotary_offset = 0;
  bool json = false;
  std::string plot;  // file; empty: none
  StreamFlags stream;
  ModelFlags weights;
};

struct Bucket {
  size_t begin = 0;
  size_t end = 0;
  double nll = 0.0;
};

Result<std::vector<int32_t>> text_ids(const ScoreFlags& flags, const Tokenizer& tokenizer) {
  KVASS_ASSIGN_OR_RETURN(const std::string input, read_text(flags.file));
  std::vector<int32_t> ids;
  if (flags.ids) {
    KVASS_ASSIGN_OR_RETURN(ids, parse_ids(input, flags.file));
  } else {
    ids = tokenizer.encode(input, {.bos = tokenizer.add_bos() && !flags.no_bos, .parse_special = false});
  }
  if (flags.max_tokens > 0 && static_cast<size_t>(flags.max_tokens) < ids.size())
    ids.resize(static_cast<size_t>(flags.max_tokens));
  return ids;
}

nlohmann::json score_json(const ScoreResult& result, const std::vector<Bucket>& buckets, double nll,
                          const MemoryPlan& plan) {
  nlohmann::json list = nlohmann::json::array();
  for (const Bucket& bucket : buckets) {
    list.push_back({{"start", bucket.begin}, {"end", bucket.end}, {"nll", bucket.nll}, {"ppl", std::exp(bucket.nll)}});
  }
  nlohmann::json top = nlohmann::json::array();
  for (const auto& [id, logit] : result.top) top.push_back({{"id", id}, {"logit", logit}});
  return {{"tokens", result.nll.size() + 1},
          {"nll", nll},
          {"ppl", std::exp(nll)},
          {"buckets", std::move(list)},
          {"top", std::move(top)},
          {"stats",
           {{"tps", static_cast<double>(result.nll.size() + 1) / result.seconds},
            {"allocated_bytes", plan.total_bytes()},
            {"arena_bytes", plan.arena_bytes},
            {"cache_bytes", plan.caches.bytes},
            {"peak_rss_bytes", peak_rss_bytes()}}}};
}

Status run(const ScoreFlags& flags) {
  if (flags.bucket < 1) return bad_input("--bucket", "at least 1 token", std::to_string(flags.bucket));
  if (flags.max_tokens < 0) return bad_input("--max-tokens", "0 or more tokens", std::to_string(flags.max_tokens));
  if (flags.top < 0) return bad_input("ScoreOptions.top", "0 or more tokens", std::to_string(flags.top));
  if (!flags.plot.empty()) KVASS_RETURN_IF_ERROR(check_picture(flags.plot));
  KVASS_ASSIGN_OR_RETURN(const WeightOptions weights, flags.weights.resolve());
  KVASS_ASSIGN_OR_RETURN(ModelFile file, ModelFlags::open(flags.model));
  KVASS_ASSIGN_OR_RETURN(StreamOptions options, flags.stream.resolve(file.stream_options()));
  options.rotary_offset = flags.rotary_offset;
  KVASS_RETURN_IF_ERROR(check_memory_limit(file, options, kScoreHeadRows, weights));
  KVASS_ASSIGN_OR_RETURN(const OpenModel model,
                         open_model(std::move(file), options.arithmetic(), options.threads, weights));
  KVASS_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, text_ids(flags, *model.tokenizer));
  KVASS_ASSIGN_OR_RETURN(OpenStream stream, open_stream(model, options, kScoreHeadRows));
  const MemoryPlan plan = plan_of(model, stream);
  Progress progress("tokens");
  const auto on_tokens = [&](int64_t done) { progress.show(done, static_cast<int64_t>(ids.size())); };
  KVASS_ASSIGN_OR_RETURN(const ScoreResult result, score(stream, ids, flags.top, on_tokens, cancelled()));
  progress.end();

  const size_t size = static_cast<size_t>(flags.bucket);
  std::vector<Bucket> buckets;
  for (size_t begin = 0; begin < result.nll.size(); begin += size) {
    const size_t end = std::min(begin + size, result.nll.size());
    buckets.push_back({begin, end, result.mean_nll(begin, end)});
  }
  const double nll = result.mean_nll(0, result.nll.size());
  if (!flags.plot.empty()) {
    ChartLine line{"perplexity", {}};
    for (const Bucket& b : buckets) line.points.emplace_back(b.end, std::exp(b.nll));
    const std::string title = fmt::format("Perplexity of {} tokens: {:.4f}", ids.size(), std::exp(nll));
    KVASS_RETURN_IF_ERROR(
        write_picture(flags.plot, line_chart(title, "token", fmt::format("perplexity of {} tokens", size), {line})));
  }
  if (flags.json) return print_json(score_json(result, buckets, nll, plan));
  if (buckets.size() > 1) {
    print("{:>10} {:>10} {:>10} {:>12}\n", "start", "end", "nll", "perplexity");
    for (const Bucket& b : buckets)
      print("{:>10} {:>10} {:>10.4f} {:>12.4f}\n", b.begin, b.end, b.nll, std::exp(b.nll));
  }
  for (const auto& [id, logit] : result.top) print("{:>8} {:>12.5f}\n", id, logit);
  print("tokens {}, nll {:.6f}, perplexity {:.4f}\n", ids.size(), nll, std::exp(nll));
  say("kvass: {} tokens, {:.1f} tokens/s, cache {}, peak memory {}\n", ids.size(),
      static_cast<double>(ids.size()) / result.seconds, human_bytes(plan.caches.bytes), human_bytes(peak_rss_bytes()));
  return flush_stdout();
}

}  // namespace

CommandAction add_score(CLI::App& command) {
  auto flags = std::make_shared<ScoreFlags>();
  command.description("Measure the perplexity of a text along a stream");
  command.footer(
      "nll is the mean of -ln p over every token after the first.\n"
      "Examples:\n"
      "  kvass score model.gguf -f book.txt --attention-sink 4,508 --bucket 2048\n"
      "  echo \"[2, 818, 7217]\" | kvass score model.gguf -f - --ids --top 5");
  ModelFlags::add_model(command, flags->model)->required();
  command.add_option("-f,--file", flags->file, "The text; - is stdin")->type_name("FILE")->required();
  command.add_flag("--ids", flags->ids, "The file is a JSON array of token ids, taken as they are");
  command.add_flag("--no-bos", flags->no_bos, "Do not begin the text with the token that begins one");
  command.add_option("--max-tokens", flags->max_tokens, "Score this many tokens at most; 0: all")
      ->type_name("TOKENS")
      ->capture_default_str();
  command.add_option("--bucket", flags->bucket, "Predictions that one row of the table sums up")
      ->type_name("TOKENS")
      ->capture_default_str();
  command
      .add_option(flags_of("ScoreOptions.top"), flags->top,
                  "Print this many of the largest logits after the last token")
      ->type_name("K")
      ->capture_default_str();
  command
      .add_option(flags_of("StreamOptions.rotary_offset"), flags->rotary_offset,
                  "Full layers see every token after the sinks this many positions further on: what a\n"
                  "stream so much longer would be like")
      ->type_name("TOKENS")
      ->capture_default_str();
  command.add_option("--plot", flags->plot, "A picture of the perplexity along the text (SVG)")->type_name("FILE");
  command.add_flag("--json", flags->json, "One JSON object instead of text");
  flags->stream.add(command);
  flags->weights.add(command);
  flags->weights.add_device(command);
  flags->stream.add_memory_limit(command);
  add_config(command);
  return [flags] { return run(*flags); };
}

}  // namespace kvass
