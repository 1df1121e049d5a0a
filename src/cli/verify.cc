// kvass verify: does this model give the same bits on this machine, however the work is cut up?
#include "app/verify.h"

#include <nlohmann/json.hpp>

#include "app/machine.h"
#include "app/open.h"
#include "app/receipt.h"
#include "cli/command.h"
#include "cli/config.h"
#include "cli/fields.h"
#include "cli/model_flags.h"
#include "cli/signals.h"
#include "kvass/version.h"

namespace kvass {
namespace {

struct VerifyFlags {
  std::string model;
  std::string file;
  std::string receipt;
  int64_t from = 0, until = -1;
  int64_t tokens = 1500;
  std::string kv = std::string(dtype_name(StreamOptions().storage()));
  std::string math = std::string(math_name(StreamOptions().arithmetic()));
  int threads = 0;
  bool json = false;
  ModelFlags weights;
};

Result<std::vector<int32_t>> text_ids(const VerifyFlags& flags, const Tokenizer& tokenizer) {
  if (flags.tokens < kLeastVerifyTokens || flags.tokens > kMostVerifyTokens) {
    return bad_input("--tokens", fmt::format("{} to {} tokens", kLeastVerifyTokens, kMostVerifyTokens),
                     std::to_string(flags.tokens));
  }
  KVASS_ASSIGN_OR_RETURN(std::vector<int32_t> ids, verify_text(tokenizer, flags.tokens));
  if (flags.file.empty()) return ids;
  KVASS_ASSIGN_OR_RETURN(const std::string text, read_text(flags.file));
  ids = tokenizer.encode(text, {.bos = tokenizer.add_bos(), .parse_special = false});
  if (static_cast<int64_t>(ids.size()) < kLeastVerifyTokens) {
    return bad_input(flags.file, "at least " + std::to_string(kLeastVerifyTokens) + " tokens",
                     std::to_string(ids.size()));
  }
  ids.resize(std::min(ids.size(), static_cast<size_t>(flags.tokens)));
  return ids;
}

std::string checksum_text(const VerifyRow& row) { return fmt::format("{:016x}", row.checksum); }

// A receipt of `kvass serve`, replayed.
Status run_receipt(const VerifyFlags& flags, const WeightOptions& weights, int threads) {
  KVASS_ASSIGN_OR_RETURN(const std::string text, read_text(flags.receipt));
  KVASS_ASSIGN_OR_RETURN(const Receipt receipt, parse_receipt(text, flags.receipt));
  KVASS_ASSIGN_OR_RETURN(ModelFile file, ModelFlags::open(flags.model));
  KVASS_ASSIGN_OR_RETURN(const OpenModel model, open_model(std::move(file), receipt.math, threads, weights));
  const int64_t end = flags.until < 0 ? static_cast<int64_t>(receipt.ids.size()) : flags.until;
  KVASS_ASSIGN_OR_RETURN(const ReceiptCheck check,
                         check_receipt(model, receipt, flags.from, end, threads, cancelled()));
  const bool identical = !check.differs_at;
  if (flags.json) {
    nlohmann::json json = {{"identical", identical}, {"tokens", check.tokens}};
    if (!identical) json["first_difference"] = *check.differs_at;
    KVASS_RETURN_IF_ERROR(print_json(json));
  } else if (identical) {
    print("identical: tokens {} to {} of the receipt, {}, {} threads\n", flags.from, end, runs_on(*model.engine),
          threads);
    KVASS_RETURN_IF_ERROR(flush_stdout());
  }
  return identical ? Status() : Status::error(StatusCode::bad_input, check.difference);
}

Status run(const VerifyFlags& flags) {
  KVASS_ASSIGN_OR_RETURN(const WeightOptions weights, flags.weights.resolve());
  KVASS_ASSIGN_OR_RETURN(const Math math, parse_math(flags.math));
  VerifyInput input;
  KVASS_ASSIGN_OR_RETURN(input.kv, parse_dtype(flags.kv));
  KVASS_ASSIGN_OR_RETURN(input.threads, resolve_threads(flags.threads));
  if (!flags.receipt.empty()) return run_receipt(flags, weights, input.threads);
  KVASS_ASSIGN_OR_RETURN(ModelFile file, ModelFlags::open(flags.model));
  KVASS_ASSIGN_OR_RETURN(const OpenModel model, open_model(std::move(file), math, input.threads, weights));
  KVASS_ASSIGN_OR_RETURN(input.ids, text_ids(flags, *model.tokenizer));
  set_engine(model.engine, input);
  const std::atomic<bool>& cancel = cancelled();
  if (!flags.json) {
    print("{}, {} tokens, {}, {} threads, math {}, cache {}, numerics version {}\n", model.family, input.ids.size(),
          runs_on(*model.engine), input.threads, math_name(math), dtype_name(input.kv), kNumericsVersion);
    show_stdout("");
  }
  const std::vector<VerifyCase> cases = verify_cases(input);
  size_t done = 0;
  const auto on_row = [&](const VerifyRow& row) {
    ++done;
    if (flags.json) return;
    print("{}  {:<10} {}{}{}\n", checksum_text(row), row.identical ? "identical" : "DIFFERENT", row.name,
          row.identical ? "" : ": ", row.first_difference);
    show_stdout("");
  };
  const Result<std::vector<VerifyRow>> result = verify(input, cases, on_row, cancel);
  if (result.status().code() == StatusCode::cancelled) {
    return result.status().with_message(fmt::format("verify: interrupted after {} of {} cases", done, cases.size()));
  }
  if (!result.ok()) return result.status();
  const std::vector<VerifyRow>& rows = result.value();
  nlohmann::json list = nlohmann::json::array();
  size_t identical = 0;
  for (const VerifyRow& row : rows) {
    list.push_back({{"case", row.name}, {"checksum", checksum_text(row)}, {"identical", row.identical}});
    if (!row.identical) list.back()["first_difference"] = row.first_difference;
    identical += row.identical ? 1 : 0;
  }
  const bool all = identical == rows.size();
  KVASS_RETURN_IF_ERROR(flags.json ? print_json({{"identical", all}, {"tokens", input.ids.size()}, {"rows", list}})
                                   : flush_stdout());
  if (all) return {};
  return bad_input("verify", "the same bits in all " + std::to_string(rows.size()) + " cases",
                   "others in " + std::to_string(rows.size() - identical));
}

}  // namespace

CommandAction add_verify(CLI::App& command) {
  auto flags = std::make_shared<VerifyFlags>();
  command.description("Check that a model gives the same bits however the work is cut up");
  command.footer(
      "One text as a single prefill, in chunks, token by token, in a batch, with several numbers of threads, with "
      "each\n"
      "instruction set of this machine, in rings that wrap: a row each, with a checksum over all logits. Exit code 1 "
      "if\n"
      "a row differs; it then names the position, the layer and the operator. Example:\n"
      "  kvass verify model.gguf --tokens 1500 -t 2");
  ModelFlags::add_model(command, flags->model)->required();
  command.add_option("--tokens", flags->tokens, "Tokens of the text")->type_name("TOKENS")->capture_default_str();
  CLI::Option* receipt =
      command
          .add_option("--receipt", flags->receipt,
                      "Replay a receipt that a server gave instead, and name its first token that differs; - is stdin")
          ->type_name("FILE");
  command.add_option("--from", flags->from, "The first of its tokens to look at")
      ->type_name("N")
      ->needs(receipt)
      ->capture_default_str();
  command.add_option("--until", flags->until, "The token before which to end (default, and -1: all of them)")
      ->type_name("N")
      ->needs(receipt);
  command.add_option("-f,--file", flags->file, "The text (default: one that is made up); - is stdin")
      ->type_name("FILE");
  command.add_option(flags_of("StreamOptions.kv"), flags->kv, "Storage of keys and values: f32, f16, bf16 or q8")
      ->type_name("TYPE")
      ->capture_default_str();
  command
      .add_option(flags_of("StreamOptions.math"), flags->math, "Activations in products with weights: a16, a8 or f32")
      ->type_name("MATH")
      ->capture_default_str();
  command
      .add_option(flags_of("StreamOptions.threads"), flags->threads,
                  "Threads where a row does not say (default: as many as CPUs)")
      ->type_name("N");
  for (const char* name : {"--tokens", "--file", "--kv", "--math"}) receipt->excludes(command.get_option(name));
  flags->weights.add(command);
  flags->weights.add_device(command);
  command.add_flag("--json", flags->json, "One JSON object instead of the table");
  add_config(command);
  return [flags] { return run(*flags); };
}

}  // namespace kvass
