// kvass tokenize: stdin to token ids, or back.
#include <nlohmann/json.hpp>

#include "app/open.h"
#include "cli/command.h"
#include "cli/model_flags.h"

namespace kvass {
namespace {

struct TokenizeFlags {
  std::string model;
  bool bos = false;
  bool special = false;
  bool json = false;
  bool decode = false;
};

Status decode(const TokenizeFlags& flags, const Tokenizer& tokenizer, const std::string& input) {
  KVASS_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, parse_ids(input, "stdin"));
  for (int32_t id : ids) {
    if (!tokenizer.is_token(id)) {
      return bad_input("token id", "0 to " + std::to_string(tokenizer.size() - 1), std::to_string(id));
    }
  }
  const std::string text = tokenizer.decode(ids);
  if (flags.json) return print_json(text);
  write_stdout(text);
  return flush_stdout();
}

Status run(const TokenizeFlags& flags) {
  KVASS_ASSIGN_OR_RETURN(const ModelFile file, ModelFlags::open(flags.model));
  KVASS_ASSIGN_OR_RETURN(const Tokenizer tokenizer, file.tokenizer());
  KVASS_ASSIGN_OR_RETURN(const std::string input, read_text("-"));
  if (flags.decode) return decode(flags, tokenizer, input);
  const std::vector<int32_t> ids = tokenizer.encode(input, {.bos = flags.bos, .parse_special = flags.special});
  if (flags.json) return print_json(ids);
  for (int32_t id : ids) print("{:>7} {}\n", id, json_text(tokenizer.piece(id, /*show_control=*/true)));
  return flush_stdout();
}

}  // namespace

CommandAction add_tokenize(CLI::App& command) {
  auto flags = std::make_shared<TokenizeFlags>();
  command.description("Turn text on stdin into token ids, or back");
  command.footer(
      "Examples:\n"
      "  echo -n \"Hello\" | kvass tokenize model.gguf\n"
      "  echo \"[9259]\" | kvass tokenize model.gguf --decode");
  ModelFlags::add_model(command, flags->model)->required();
  command.add_flag("--bos", flags->bos, "Put the token that begins a text first");
  command.add_flag("--special", flags->special, "Parse the names of control tokens, such as <eos>");
  CLI::Option* decode = command.add_flag("--decode", flags->decode, "stdin is a JSON array of ids; print its text");
  decode->excludes(command.get_option("--bos"))->excludes(command.get_option("--special"));
  command.add_flag("--json", flags->json, "A JSON array of ids; with --decode, a JSON string");
  return [flags] { return run(*flags); };
}

}  // namespace kvass
