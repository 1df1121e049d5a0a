// Reads the vocabularies of speech models from their folders.
#include <fmt/format.h>

#include <optional>
#include <span>

#include "base/file_map.h"
#include "base/platform.h"
#include "base/json_tree.h"
#include "text/byte_alphabet.h"
#include "text/speech_tokenizer.h"

namespace kvass {
namespace {

using nlohmann::json;

constexpr size_t kMaxTokens = size_t{1} << 20;

bool is_file(const std::string& path) { return platform::file_info(path).kind == platform::FileKind::file; }

// Text pieces are spelled in the byte alphabet; marks are plain text.
std::string piece_of(const std::string& text) {
  if (text.starts_with("<|") && text.ends_with("|>")) return text;
  return bytes_of_piece(text).value_or(text);
}

Status too_many(const std::string& path, size_t tokens) {
  return bad_input(path + ": tokens", fmt::format("at most {}", kMaxTokens), std::to_string(tokens));
}

// ["!", "\"", …]
Result<std::vector<std::string>> from_list(const json& list, const std::string& path) {
  if (!list.is_array()) return bad_input(path, "a JSON array of tokens", std::string(list.type_name()));
  if (list.size() > kMaxTokens) return too_many(path, list.size());
  std::vector<std::string> pieces;
  for (const json& piece : list) {
    if (!piece.is_string()) return bad_input(path, "a JSON array of texts", std::string(piece.type_name()));
    pieces.push_back(piece_of(piece.get_ref<const std::string&>()));
  }
  return pieces;
}

// {"added_tokens": [{"id", "content"}], "model": {"vocab": {piece: id}}}
Result<std::vector<std::string>> from_tokenizer(const json& file, const std::string& path) {
  const auto model = file.find("model");
  const auto vocabulary = model != file.end() && model->is_object() ? model->find("vocab") : file.end();
  if (model == file.end() || !model->is_object() || vocabulary == model->end() || !vocabulary->is_object()) {
    return bad_input(path + ": model.vocab", "an object of tokens and ids", "none");
  }
  std::vector<std::optional<std::string>> found;
  const auto set = [&](const json& id, const std::string& text) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() >= kMaxTokens) return false;
    const auto at = id.get<size_t>();
    if (at >= found.size()) found.resize(at + 1);
    found[at] = text;
    return true;
  };
  for (const auto& [text, id] : vocabulary->items()) {
    if (!set(id, piece_of(text))) return bad_input(path + ": model.vocab", "ids below 2^20", "another");
  }
  if (const auto added = file.find("added_tokens"); added != file.end() && added->is_array()) {
    for (const json& token : *added) {
      const auto id = token.is_object() ? token.find("id") : token.end();
      const auto text = token.is_object() ? token.find("content") : token.end();
      if (!token.is_object() || id == token.end() || text == token.end() || !text->is_string() ||
          !set(*id, text->get<std::string>())) {
        return bad_input(path + ": added_tokens", "objects of id and content", "another");
      }
    }
  }
  std::vector<std::string> pieces;
  for (const std::optional<std::string>& piece : found) pieces.push_back(piece.value_or(std::string()));
  // If the file ends with the marks, add the timestamps.
  if (!pieces.empty() && pieces.back() == "<|notimestamps|>") {
    for (int i = 0; i <= 1500; ++i) pieces.push_back(fmt::format("<|{:.2f}|>", 0.02 * i));
  }
  return pieces;
}

}  // namespace

Result<SpeechVocabulary> read_speech_vocabulary(const std::string& folder) {
  const auto text_of = [](const FileMap& map) {
    return std::string_view(reinterpret_cast<const char*>(map.bytes().data()), map.bytes().size());
  };
  SpeechVocabulary out;
  for (const char* name : {"vocabulary.json", "tokenizer.json"}) {
    // vocabulary.txt is tried between the two.
    if (const std::string path = folder + "/vocabulary.txt"; name[0] == 't' && is_file(path)) {
      KVASS_ASSIGN_OR_RETURN(const FileMap map, FileMap::open(path));
      out.source = path;
      std::string_view rest = text_of(map);
      while (!rest.empty()) {
        const size_t end = std::min(rest.find('\n'), rest.size());
        out.pieces.push_back(piece_of(std::string(rest.substr(0, end))));
        rest.remove_prefix(std::min(end + 1, rest.size()));
        if (out.pieces.size() > kMaxTokens) return too_many(path, out.pieces.size());
      }
      KVASS_RETURN_IF_ERROR(map.check());
      return out;
    }
    const std::string path = folder + "/" + name;
    if (!is_file(path)) continue;
    KVASS_ASSIGN_OR_RETURN(const FileMap map, FileMap::open(path));
    const std::string_view text = text_of(map);
    const JsonTree tree(text.begin(), text.end());
    const json& parsed = tree.root();
    KVASS_RETURN_IF_ERROR(map.check());
    if (parsed.is_discarded()) return bad_input(path, "JSON", "no valid JSON");
    out.source = path;
    if (name[0] == 't' && !parsed.is_object()) return bad_input(path, "a JSON object", std::string(parsed.type_name()));
    KVASS_ASSIGN_OR_RETURN(out.pieces, name[0] == 'v' ? from_list(parsed, path) : from_tokenizer(parsed, path));
    return out;
  }
  return bad_input(folder, "vocabulary.json, vocabulary.txt or tokenizer.json in it", "none of them");
}

}  // namespace kvass
