#include "text/folder_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

#include "base/file_map.h"
#include "base/platform.h"
#include "file/one_line.h"
#include "text/folder_steps.h"
#include "text/pre_tokenizer.h"
#include "text/vocabulary.h"

namespace kvass {
namespace {

using Json = JsonFields::Json;

// "<0x41>"
bool is_byte_piece(std::string_view piece) {
  const auto hex = [](char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F'); };
  return piece.size() == 6 && piece.starts_with("<0x") && piece[5] == '>' && hex(piece[3]) && hex(piece[4]);
}

// The tokens by id, while they are collected. Type 0: an id without a token so far.
struct Tokens {
  std::vector<std::string> pieces;
  std::vector<int32_t> types;
  std::map<std::string, int32_t> ids;

  int32_t find(const std::string& piece) const {
    const auto found = ids.find(piece);
    return found == ids.end() ? -1 : found->second;
  }
  Status put(const std::string& field, int64_t id, int64_t most, const std::string& piece, TokenType type) {
    if (id < 0 || id >= most) {
      return bad_input(field, fmt::format("an id from 0 to {}", most - 1),
                       fmt::format("{} of {}", id, quoted_name(piece)));
    }
    const auto at = static_cast<size_t>(id);
    if (at >= types.size()) {
      pieces.resize(at + 1);
      types.resize(at + 1);
    }
    if (types[at] != 0 && pieces[at] != piece) {
      return bad_input(field, "each id once",
                       fmt::format("{} for {} and {}", id, quoted_name(pieces[at]), quoted_name(piece)));
    }
    if (const auto [known, fresh] = ids.emplace(piece, static_cast<int32_t>(id)); known->second != id) {
      return bad_input(field, "each token once", fmt::format("{} as {} and {}", quoted_name(piece), known->second, id));
    }
    pieces[at] = piece;
    types[at] = static_cast<int32_t>(type);
    return {};
  }
  bool is(size_t id, TokenType type) const { return types[id] == static_cast<int32_t>(type); }
  // Ids without a token, up to the rows of the embedding.
  void fill(int64_t rows) {
    pieces.resize(std::max(pieces.size(), static_cast<size_t>(rows)));
    types.resize(pieces.size());
    for (size_t id = 0; id < pieces.size(); ++id) {
      if (types[id] != 0) continue;
      pieces[id] = fmt::format("[PAD{}]", id);
      types[id] = static_cast<int32_t>(TokenType::unused);
    }
  }
};

class Translator {
 public:
  Translator(const JsonFields& file, const JsonFields& model, const FolderSteps& steps, int64_t rows, GgufWriter& out)
      : file_(file), model_(model), steps_(steps), rows_(rows), out_(out) {}

  Status write_model() {
    KVASS_RETURN_IF_ERROR(check_model());
    if (unigram_) {
      KVASS_RETURN_IF_ERROR(write_unigram());
    } else {
      KVASS_RETURN_IF_ERROR(read_vocab());
      KVASS_ASSIGN_OR_RETURN(const std::vector<std::string> merges, read_merges());
      KVASS_RETURN_IF_ERROR(steps_.byte_level ? write_byte_level(merges) : write_marked(merges));
    }
    KVASS_RETURN_IF_ERROR(read_added());
    tokens_.fill(rows_);
    out_.strs("tokenizer.ggml.tokens", tokens_.pieces);
    out_.i32s("tokenizer.ggml.token_type", tokens_.types);
    if (!steps_.byte_level) {
      scores_.resize(tokens_.pieces.size());
      out_.f32s("tokenizer.ggml.scores", scores_);
    }
    return {};
  }

  Status write_special(const JsonFields& settings, const JsonFields& config) {
    KVASS_ASSIGN_OR_RETURN(int32_t bos, named_token(settings, "bos_token"));
    KVASS_ASSIGN_OR_RETURN(int32_t eos, named_token(settings, "eos_token"));
    // Where nothing names them, they are what the post-processor puts around a text.
    if (bos < 0 && !settings.has("bos_token")) bos = tokens_.find(steps_.before);
    if (eos < 0 && !settings.has("eos_token")) eos = tokens_.find(steps_.after);
    for (auto& [key, id] : {std::pair("bos_token_id", &bos), std::pair("eos_token_id", &eos)}) {
      KVASS_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, token_ids(config, key));
      if (*id < 0 && !settings.json().is_object() && !ids.empty()) *id = ids.front();
    }
    KVASS_ASSIGN_OR_RETURN(const int32_t unknown,
                           named_token(model_.has("unk_token") ? model_ : settings, "unk_token"));
    // Of a byte-level model that names none itself nothing is unknown.
    const bool has_unknown = unknown >= 0 && !unigram_ && (!steps_.byte_level || model_.has("unk_token"));
    for (const auto& [key, id] :
         {std::pair("bos", bos), std::pair("eos", eos), std::pair("unknown", has_unknown ? unknown : -1)}) {
      if (id >= 0) out_.u32(fmt::format("tokenizer.ggml.{}_token_id", key), static_cast<uint32_t>(id));
    }
    return write_around(settings, bos, eos);
  }

  // generation_config.json, or else config.json.
  Status write_ends(const JsonFields& generation, const JsonFields& config) {
    const JsonFields& fields = generation.json().is_object() ? generation : config;
    KVASS_ASSIGN_OR_RETURN(const std::vector<int32_t> ends, token_ids(fields, "eos_token_id"));
    if (!ends.empty()) out_.i32s(kEndsKey, ends);
    return {};
  }

 private:
  Status check_model() {
    KVASS_ASSIGN_OR_RETURN(const std::string type, model_.text_or("type", "BPE"));
    unigram_ = type == "Unigram";
    if (type != "BPE" && !unigram_) return model_.cannot("type", "BPE or Unigram");
    if (unigram_ && steps_.byte_level) return model_.cannot("type", "BPE beside ByteLevel");
    if (!unigram_ && (!steps_.charsmap.empty() || steps_.remove_extra_whitespaces)) {
      return file_.cannot("normalizer", "no table and no removal of spaces beside merges");
    }
    if (!unigram_ && steps_.splits_words)
      return file_.cannot("pre_tokenizer", "a Metaspace with split false beside merges");
    KVASS_ASSIGN_OR_RETURN(const double dropout, model_.real_or("dropout", 0.0));
    if (dropout != 0.0) return model_.cannot("dropout", "none");
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      KVASS_ASSIGN_OR_RETURN(const std::string text, model_.text_or(key, ""));
      if (!text.empty()) return model_.cannot(key, "none");
    }
    return {};
  }

  Status read_vocab() {
    KVASS_ASSIGN_OR_RETURN(const JsonFields vocab, model_.object("vocab"));
    KVASS_ASSIGN_OR_RETURN(const Json* added, file_.array("added_tokens"));
    if (vocab.json().empty()) return model_.wrong("vocab", "an id for each token");
    most_ = rows_ + static_cast<int64_t>(vocab.json().size() + (added ? added->size() : 0));
    for (const auto& [piece, id] : vocab.json().items()) {
      const bool byte = !steps_.byte_level && is_byte_piece(piece);
      KVASS_RETURN_IF_ERROR(tokens_.put(model_.field("vocab"), id.is_number_integer() ? id.get<int64_t>() : -1, most_,
                                        piece, byte ? TokenType::byte : TokenType::normal));
    }
    return {};
  }

  // "left right" each.
  Result<std::vector<std::string>> read_merges() const {
    std::vector<std::string> merges;
    KVASS_ASSIGN_OR_RETURN(const Json* list, model_.array("merges"));
    if (!list) return merges;
    merges.reserve(list->size());
    for (const Json& merge : *list) {
      std::string text;
      if (merge.is_string()) {
        text = merge.get<std::string>();
      } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
        text = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
      }
      if (std::count(text.begin(), text.end(), ' ') != 1 || text.front() == ' ' || text.back() == ' ') {
        return bad_input(fmt::format("{}[{}]", model_.field("merges"), merges.size()), "two tokens without spaces",
                         json_shown(merge));
      }
      merges.push_back(std::move(text));
    }
    return merges;
  }

  Status write_byte_level(const std::vector<std::string>& merges) {
    KVASS_ASSIGN_OR_RETURN(const bool ignore, model_.boolean_or("ignore_merges", false));
    KVASS_ASSIGN_OR_RETURN(const std::string_view pre,
                           match_pre_tokenizer(file_.field("pre_tokenizer"), steps_.patterns, ignore));
    out_.str("tokenizer.ggml.model", "gpt2");
    out_.str("tokenizer.ggml.pre", pre);
    out_.strs("tokenizer.ggml.merges", merges);
    out_.boolean(kNfcKey, steps_.nfc);
    return {};
  }

  // SentencePiece's unigram kind: [[piece, log-probability], …].
  Status write_unigram() {
    KVASS_ASSIGN_OR_RETURN(const Json* vocab, model_.array("vocab"));
    KVASS_ASSIGN_OR_RETURN(const Json* added, file_.array("added_tokens"));
    if (!vocab || vocab->empty()) return model_.wrong("vocab", "a list of pieces");
    KVASS_ASSIGN_OR_RETURN(const bool fallback, model_.boolean_or("byte_fallback", false));
    KVASS_ASSIGN_OR_RETURN(const int64_t unknown, model_.integer_or("unk_id", -1, 0, INT32_MAX));
    most_ = rows_ + static_cast<int64_t>(vocab->size() + (added ? added->size() : 0));
    for (const Json& entry : *vocab) {
      const auto id = static_cast<int64_t>(scores_.size());
      const std::string field = fmt::format("{}[{}]", model_.field("vocab"), id);
      if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_number()) {
        return bad_input(field, "a piece and its score", json_shown(entry));
      }
      const std::string piece = entry[0].get<std::string>();
      if (steps_.splits_words && piece.find("\u2581", 1) != std::string::npos &&
          piece.find_first_not_of("\u2581") != std::string::npos) {
        return unsupported(field, "no piece of several words, which Metaspace splits", quoted_name(piece));
      }
      const TokenType type = id == unknown                      ? TokenType::unknown
                             : fallback && is_byte_piece(piece) ? TokenType::byte
                                                                : TokenType::normal;
      KVASS_RETURN_IF_ERROR(tokens_.put(field, id, most_, piece, type));
      scores_.push_back(static_cast<float>(entry[1].get<double>()));
    }
    if (unknown >= 0 && tokens_.pieces.size() > static_cast<size_t>(unknown)) {
      out_.u32("tokenizer.ggml.unknown_token_id", static_cast<uint32_t>(unknown));
    }
    out_.str("tokenizer.ggml.model", "t5");
    out_.boolean("tokenizer.ggml.remove_extra_whitespaces", steps_.remove_extra_whitespaces);
    if (!steps_.charsmap.empty()) {
      const std::vector<uint8_t> bytes(steps_.charsmap.begin(), steps_.charsmap.end());
      out_.array<uint8_t>("tokenizer.ggml.precompiled_charsmap", GgufValueType::u8, bytes);
    }
    write_space_prefix();
    return {};
  }

  void write_space_prefix() {
    out_.boolean("tokenizer.ggml.add_space_prefix", steps_.space_prefix.has_value());
    if (steps_.space_prefix) out_.str(kSpacePrefixKey, space_prefix_name(*steps_.space_prefix));
  }

  // Spaces are U+2581, other characters fall back to bytes.
  Status write_marked(const std::vector<std::string>& merges) {
    KVASS_ASSIGN_OR_RETURN(const bool fallback, model_.boolean_or("byte_fallback", false));
    if (!fallback) return model_.cannot("byte_fallback", "true, or a byte-level pre-tokenizer");
    KVASS_ASSIGN_OR_RETURN(const bool ignore, model_.boolean_or("ignore_merges", false));
    if (ignore) return model_.cannot("ignore_merges", "false");
    for (int byte = 0; byte < 256; ++byte) {
      const std::string piece = fmt::format("<0x{:02X}>", byte);
      if (tokens_.find(piece) < 0) return bad_input(model_.field("vocab"), "a token for every byte", "no " + piece);
    }
    out_.str("tokenizer.ggml.model", "llama");
    scores_ = scores(merges);
    out_.strs(kMergesKey, merges);
    write_space_prefix();
    return {};
  }

  // For readers that merge by scores alone: the earlier the first merge that makes a token, the higher.
  std::vector<float> scores(const std::vector<std::string>& merges) const {
    std::vector<float> scores(tokens_.pieces.size());
    float rank = 0.0f;
    for (std::string merged : merges) {
      merged.erase(merged.find(' '), 1);
      const int32_t id = tokens_.find(merged);
      if (id >= 0 && scores[static_cast<size_t>(id)] == 0.0f) scores[static_cast<size_t>(id)] = rank -= 1.0f;
    }
    for (size_t id = 0; id < tokens_.pieces.size(); ++id) {
      if (scores[id] == 0.0f && tokens_.is(id, TokenType::normal)) scores[id] = rank - 1.0f;
    }
    return scores;
  }

  Status read_added() {
    KVASS_ASSIGN_OR_RETURN(const Json* added, file_.array("added_tokens"));
    for (size_t i = 0; added && i < added->size(); ++i) {
      const std::string field = file_.field(fmt::format("added_tokens[{}]", i));
      if (!(*added)[i].is_object()) return bad_input(field, "an object", json_shown((*added)[i]));
      KVASS_RETURN_IF_ERROR(read_added(JsonFields((*added)[i], field)));
    }
    return {};
  }

  Status read_added(const JsonFields& token) {
    KVASS_ASSIGN_OR_RETURN(const int64_t id, token.integer("id", 0, INT32_MAX));
    KVASS_ASSIGN_OR_RETURN(const std::string content, token.text("content"));
    KVASS_ASSIGN_OR_RETURN(const bool special, token.boolean_or("special", false));
    KVASS_ASSIGN_OR_RETURN(const bool normalised, token.boolean_or("normalized", !special));
    for (const char* key : {"single_word", "lstrip", "rstrip"}) {
      KVASS_ASSIGN_OR_RETURN(const bool set, token.boolean_or(key, false));
      if (set) return token.cannot(key, "false");
    }
    if (normalised && !special && steps_.space_prefix == SpacePrefix::segments) {
      return token.cannot("normalized", "false beside a normalizer that prepends");
    }
    // Spaces of the text, which are marks only inside the model, never match it.
    const bool marks =
        !steps_.byte_level && !special && content.find("\u2581") != std::string::npos && tokens_.find(content) == id;
    // A byte's token stays one, wherever else the file lists it: texts need it for what has no token.
    const bool byte = !steps_.byte_level && is_byte_piece(content) && tokens_.find(content) == id;
    const TokenType type = byte      ? TokenType::byte
                           : special ? TokenType::control
                           : marks   ? TokenType::normal
                                     : TokenType::user_defined;
    return tokens_.put(token.field("id"), id, most_, content, type);
  }

  // A field of tokenizer_config.json: the token's text, or an object with it. -1: none.
  Result<int32_t> named_token(const JsonFields& fields, const char* key) const {
    const Json* const value = fields.find(key);
    if (!value) return -1;
    const bool object = value->is_object() && value->contains("content") && (*value)["content"].is_string();
    if (!object && !value->is_string()) return fields.wrong(key, "a text, or an object with its content");
    const int32_t id = tokens_.find(object ? (*value)["content"].get<std::string>() : value->get<std::string>());
    return id >= 0 ? Result<int32_t>(id) : fields.wrong(key, "a token of tokenizer.json");
  }

  // An id, or a list.
  Result<std::vector<int32_t>> token_ids(const JsonFields& fields, const char* key) const {
    std::vector<int32_t> ids;
    const Json* const value = fields.find(key);
    if (!value) return ids;
    const auto read = [&](const Json& id) {
      const bool fits = id.is_number_integer() && id.get<int64_t>() >= 0 && id.get<uint64_t>() < tokens_.types.size();
      if (fits) ids.push_back(id.get<int32_t>());
      return fits;
    };
    const bool good = value->is_array() ? std::all_of(value->begin(), value->end(), read) : read(*value);
    if (!good) return fields.wrong(key, fmt::format("ids from 0 to {}", tokens_.types.size() - 1));
    return ids;
  }

  // The tokens around a text: as tokenizer_config.json says, or else the post-processor.
  Status write_around(const JsonFields& settings, int32_t bos, int32_t eos) {
    bool before = false, after = false;
    if (settings.has("add_bos_token") || settings.has("add_eos_token")) {
      KVASS_ASSIGN_OR_RETURN(before, settings.boolean_or("add_bos_token", false));
      KVASS_ASSIGN_OR_RETURN(after, settings.boolean_or("add_eos_token", false));
    } else {
      for (const auto& [text, id, flag] : {std::tuple(steps_.before, bos, &before), {steps_.after, eos, &after}}) {
        if (text.empty()) continue;
        if (id < 0 || tokens_.find(text) != id) {
          return unsupported(file_.field("post_processor"), "bos_token before a text, eos_token after it",
                             quoted_name(text));
        }
        *flag = true;
      }
    }
    out_.boolean("tokenizer.ggml.add_bos_token", before && bos >= 0);
    out_.boolean("tokenizer.ggml.add_eos_token", after && eos >= 0);
    return {};
  }

  const JsonFields& file_;
  const JsonFields& model_;
  const FolderSteps& steps_;
  int64_t rows_;
  int64_t most_ = 0;  // ids are below it
  GgufWriter& out_;
  Tokens tokens_;
  bool unigram_ = false;
  std::vector<float> scores_;  // [tokens] of a model whose spaces are U+2581
};

bool is_file(const std::string& path) { return platform::file_info(path).kind == platform::FileKind::file; }

// chat_template.jinja, or the field of tokenizer_config.json: a text, or a list of templates by name.
// chat_template.json has it in folders of models with several kinds of input.
Status write_templates(const std::string& folder, const JsonFields& settings, GgufWriter& out) {
  constexpr std::string_view kKey = "tokenizer.chat_template";
  const std::string path = folder + "/chat_template.jinja";
  if (is_file(path)) {
    KVASS_ASSIGN_OR_RETURN(const FileMap map, FileMap::open(path));
    const std::string text(map.bytes().begin(), map.bytes().end());
    KVASS_RETURN_IF_ERROR(map.check());
    out.str(kKey, text);
    return {};
  }
  KVASS_ASSIGN_OR_RETURN(const JsonTree other, read_json_file(folder + "/chat_template.json"));
  const JsonFields separate(other.root(), folder + "/chat_template.json");
  const JsonFields& fields = settings.has("chat_template") ? settings : separate;
  const Json* const value = fields.find("chat_template");
  if (!value) return {};
  if (value->is_string()) {
    out.str(kKey, value->get<std::string>());
    return {};
  }
  const char* const expected = "a text, or a list of templates with names";
  if (!value->is_array()) return fields.wrong("chat_template", expected);
  std::vector<std::string> names;
  for (const Json& entry : *value) {
    if (!entry.is_object() || !entry.contains("name") || !entry.contains("template") || !entry["name"].is_string() ||
        !entry["template"].is_string()) {
      return fields.wrong("chat_template", expected);
    }
    const std::string name = entry["name"].get<std::string>();
    if (std::find(names.begin(), names.end(), name) != names.end())
      return fields.wrong("chat_template", "each name once");
    names.push_back(name);
    const bool main = name == "default";
    out.str(main ? std::string(kKey) : std::string(kKey) + "." + name, entry["template"].get<std::string>());
  }
  if (!names.empty()) out.strs("tokenizer.chat_templates", names);
  return {};
}

}  // namespace

Status translate_tokenizer(const TokenizerFiles& files, int64_t rows, GgufWriter& out) {
  if (!files.tokenizer.has("model")) return files.tokenizer.wrong("model", "a tokenizer");
  KVASS_ASSIGN_OR_RETURN(const JsonFields model, files.tokenizer.object("model"));
  KVASS_ASSIGN_OR_RETURN(const FolderSteps steps, read_folder_steps(files.tokenizer));
  Translator translator(files.tokenizer, model, steps, rows, out);
  KVASS_RETURN_IF_ERROR(translator.write_model());
  KVASS_RETURN_IF_ERROR(translator.write_special(files.settings, files.config));
  return translator.write_ends(files.generation, files.config);
}

Status translate_tokenizer(const std::string& folder, const JsonFields& config, int64_t rows, GgufWriter& out) {
  const std::string names[] = {folder + "/tokenizer.json", folder + "/tokenizer_config.json",
                               folder + "/generation_config.json"};
  KVASS_ASSIGN_OR_RETURN(const JsonTree tokenizer, read_json_file(names[0]));
  if (!tokenizer.root().is_object()) return {};
  KVASS_ASSIGN_OR_RETURN(const JsonTree settings, read_json_file(names[1]));
  KVASS_ASSIGN_OR_RETURN(const JsonTree generation, read_json_file(names[2]));
  const TokenizerFiles files{JsonFields(tokenizer.root(), names[0]), JsonFields(settings.root(), names[1]),
                             JsonFields(generation.root(), names[2]), config};
  KVASS_RETURN_IF_ERROR(translate_tokenizer(files, rows, out));
  return write_templates(folder, files.settings, out);
}

}  // namespace kvass
