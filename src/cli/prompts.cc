#include "cli/prompts.h"

#include <limits>
#include <nlohmann/json.hpp>

#include "app/batch.h"
#include "app/plan.h"
#include "cli/command.h"
#include "cli/signals.h"
#include "cli/stream_flags.h"

namespace kvass {
namespace {

constexpr size_t kDefaultSequences = 8;

}  // namespace

void warn_of_bos(const Tokenizer& tokenizer, std::string_view text) {
  if (!tokenizer.add_bos() || !tokenizer.begins_with_bos(text)) return;
  say("kvass: warning: the prompt begins with {}, which stands there without it; it is sent once\n",
      tokenizer.piece(tokenizer.bos(), /*show_control=*/true));
}

Status run_prompts(PromptsRun run) {
  KVASS_ASSIGN_OR_RETURN(const std::string text, read_text(run.prompts));
  KVASS_ASSIGN_OR_RETURN(const std::vector<std::string> lines, split_prompts(text, run.prompts, run.empty_lines));
  StreamOptions& stream = run.stream;
  if (!run.sequences_given) stream.sequences = static_cast<int64_t>(std::min(kDefaultSequences, lines.size()));
  const bool endless = stream.endless || stream.attention_sink.has_value();
  if (endless && run.generation.ignore_eos && run.generation.max_tokens == std::numeric_limits<int64_t>::max()) {
    return bad_input("-n", "a number of tokens, since nothing else ends these streams", "none");
  }
  KVASS_RETURN_IF_ERROR(check_memory_limit(run.file, stream, /*head_rows=*/1, run.weights));
  KVASS_ASSIGN_OR_RETURN(const OpenModel model,
                         open_model(std::move(run.file), stream.arithmetic(), stream.threads, run.weights));
  std::vector<std::vector<int32_t>> prompts;
  for (const std::string& line : lines) {
    if (run.warns) warn_of_bos(*model.tokenizer, line);
    const TextPart part{line, /*parse_special=*/true};
    prompts.push_back(
        model.tokenizer->encode_parts(std::span(&part, 1), model.tokenizer->add_bos(), /*continued=*/false));
  }
  KVASS_ASSIGN_OR_RETURN(StreamBatch batch, open_batch(model, stream, run.generation.sampling));
  if (run.warns) warn_of_context(batch.sequences.front()->options(), model.trained_context);
  const MemoryPlan plan = plan_of(model, batch);
  const std::atomic<bool>& cancel = cancelled();
  if (run.talks) write_stderr(plan_line(plan));

  bool writable = true;
  const auto on_result = [&](size_t index, const DecodeResult& result) {
    return writable = show_stdout(json_text({{"index", index},
                                             {"prompt_ids", prompts[index]},
                                             {"ids", result.ids},
                                             {"text", result.text},
                                             {"reason", stop_reason_name(result.reason)}}) +
                                  "\n");
  };
  KVASS_ASSIGN_OR_RETURN(const BatchSummary summary,
                         generate_batch(model, batch, prompts, run.generation, on_result, cancel));
  if (run.talks) {
    const char* end = !writable ? ", output closed" : summary.cancelled ? ", interrupted" : "";
    say("kvass: {} of {} prompts, {} tokens ({} prompt + {} generated), {:.1f} generated tokens/s with {} sequences, "
        "caches {}, peak memory {}, seed {}{}\n",
        summary.complete, prompts.size(), summary.prompt_tokens + summary.tokens, summary.prompt_tokens, summary.tokens,
        summary.tps(), plan.sequences, human_bytes(plan.cache_bytes()), human_bytes(peak_rss_bytes()),
        run.generation.sampling.seed, end);
  }
  KVASS_RETURN_IF_ERROR(flush_stdout());
  if (summary.cancelled && cancel.load(std::memory_order_relaxed)) {
    return Status::error(StatusCode::cancelled,
                         fmt::format("prompts: interrupted after {} of {}", summary.complete, prompts.size()));
  }
  return summary.full.empty() ? Status() : Status::error(StatusCode::cache_full, summary.full);
}

}  // namespace kvass
