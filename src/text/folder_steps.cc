#include "text/folder_steps.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "file/one_line.h"
#include "text/pre_tokenizer.h"

namespace kvass {
namespace {

using Json = JsonFields::Json;

constexpr std::string_view kMark = "\u2581";

// Calls `visit(step, type)` with a step, or with those of a Sequence; each is an object with a type.
template <class Visit>
Status for_each_step(const JsonFields& file, const char* key, const char* list, Visit&& visit) {
  if (!file.has(key)) return {};
  KVASS_ASSIGN_OR_RETURN(const JsonFields step, file.object(key));
  KVASS_ASSIGN_OR_RETURN(const std::string type, step.text("type"));
  if (type != "Sequence") return visit(step, type);
  KVASS_ASSIGN_OR_RETURN(const Json* steps, step.array(list));
  if (!steps) return step.wrong(list, "an array");
  for (size_t i = 0; i < steps->size(); ++i) {
    const std::string field = step.field(fmt::format("{}[{}]", list, i));
    if (!(*steps)[i].is_object()) return bad_input(field, "an object", json_shown((*steps)[i]));
    const JsonFields inner((*steps)[i], field);
    KVASS_ASSIGN_OR_RETURN(const std::string inner_type, inner.text("type"));
    KVASS_RETURN_IF_ERROR(visit(inner, inner_type));
  }
  return {};
}

Status refuse(const JsonFields& step, std::string_view known) { return step.cannot("type", known); }

// {"String": "x"} or {"Regex": "x"}
Result<std::string> pattern_of(const JsonFields& step, bool regex) {
  KVASS_ASSIGN_OR_RETURN(const JsonFields pattern, step.object("pattern"));
  return pattern.text(regex ? "Regex" : "String");
}
bool is_regex(const JsonFields& step) {
  const Json* const pattern = step.find("pattern");
  return pattern && pattern->is_object() && pattern->contains("Regex");
}

// The characters of a text as a pattern that matches it.
std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (std::string_view(R"(\^$.|?*+()[]{}#-)").find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

// Base64, as JSON files have bytes; empty: no such text.
std::string decoded(std::string_view text) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  uint32_t bits = 0;
  int count = 0;
  for (const char c : text.substr(0, text.find('='))) {
    const size_t digit = kDigits.find(c);
    if (digit == std::string_view::npos) return {};
    bits = bits << 6 | static_cast<uint32_t>(digit);
    if ((count += 6) < 8) continue;
    count -= 8;
    out += static_cast<char>(bits >> count & 0xff);
  }
  return out;
}

// What SentencePiece does to text first: its table, no spaces at the end, one in place of several.
Status read_sentencepiece(const JsonFields& step, const std::string& type, FolderSteps& out) {
  if (type == "Precompiled") {
    KVASS_ASSIGN_OR_RETURN(const std::string text, step.text_or("precompiled_charsmap", ""));
    out.charsmap = decoded(text);
    return out.charsmap.empty() && !text.empty() ? step.wrong("precompiled_charsmap", "base64") : Status();
  }
  if (type == "Strip") {
    KVASS_ASSIGN_OR_RETURN(const bool left, step.boolean_or("strip_left", true));
    KVASS_ASSIGN_OR_RETURN(const bool right, step.boolean_or("strip_right", true));
    out.strips = true;
    return right && !left ? Status() : step.cannot("strip_left", "false, and strip_right true");
  }
  KVASS_ASSIGN_OR_RETURN(const std::string from, pattern_of(step, true));
  KVASS_ASSIGN_OR_RETURN(const std::string to, step.text("content"));
  if (from != " {2,}" || (to != " " && to != kMark)) return step.cannot("pattern", "two spaces and more, for one");
  out.remove_extra_whitespaces = true;
  return {};
}

Status read_normalizer(const JsonFields& step, const std::string& type, FolderSteps& out) {
  if (type == "Precompiled" || type == "Strip" || (type == "Replace" && is_regex(step))) {
    return read_sentencepiece(step, type, out);
  }
  if (type == "NFC") {
    out.nfc = true;
    return {};
  }
  if (type == "Prepend") {
    KVASS_ASSIGN_OR_RETURN(const std::string text, step.text("prepend"));
    if (text != kMark || out.space_prefix) return step.cannot("prepend", "U+2581, once");
    out.space_prefix = SpacePrefix::segments;
    return {};
  }
  if (type == "Replace" && !is_regex(step)) {
    KVASS_ASSIGN_OR_RETURN(const std::string from, pattern_of(step, false));
    KVASS_ASSIGN_OR_RETURN(const std::string to, step.text("content"));
    if (from != " ") return step.cannot("pattern", "a space (for U+2581)");
    if (to != kMark) return step.cannot("content", "U+2581");
    out.space_mark = true;
    return {};
  }
  return refuse(step, "NFC, Prepend, Replace, Precompiled or Strip");
}

Status read_metaspace(const JsonFields& step, FolderSteps& out) {
  KVASS_ASSIGN_OR_RETURN(const std::string mark, step.text_or("replacement", kMark));
  if (mark != kMark) return step.cannot("replacement", "U+2581");
  KVASS_ASSIGN_OR_RETURN(const bool old, step.boolean_or("add_prefix_space", true));
  KVASS_ASSIGN_OR_RETURN(const std::string scheme, step.text_or("prepend_scheme", old ? "always" : "never"));
  KVASS_ASSIGN_OR_RETURN(out.splits_words, step.boolean_or("split", true));
  out.space_mark = true;
  if (scheme == "never" || out.space_prefix) return {};
  if (scheme != "first" && scheme != "always") return step.cannot("prepend_scheme", "first, always or never");
  out.space_prefix = scheme == "first" ? SpacePrefix::first : SpacePrefix::always;
  return {};
}

Status read_split(const JsonFields& step, FolderSteps& out) {
  const bool regex = is_regex(step);
  KVASS_ASSIGN_OR_RETURN(const std::string pattern, pattern_of(step, regex));
  KVASS_ASSIGN_OR_RETURN(const std::string behavior, step.text_or("behavior", "Isolated"));
  KVASS_ASSIGN_OR_RETURN(const bool inverted, step.boolean_or("invert", false));
  // Where spaces are marks already there is nothing to split at.
  if (out.space_mark && !regex && pattern == " ") return {};
  // What is removed is what no match covers: nothing, since the known patterns match everything.
  if (inverted ? behavior != "Removed" : behavior != "Isolated") {
    return step.cannot("behavior", inverted ? "Removed" : "Isolated");
  }
  out.patterns.push_back(regex ? pattern : escaped(pattern));
  return {};
}

Status read_pre_tokenizer(const JsonFields& step, const std::string& type, FolderSteps& out) {
  if (out.byte_level) return refuse(step, "nothing after ByteLevel");
  if (type == "Metaspace") return read_metaspace(step, out);
  if (type == "Split") return read_split(step, out);
  if (type == "Digits") {
    KVASS_ASSIGN_OR_RETURN(const bool single, step.boolean_or("individual_digits", false));
    out.patterns.emplace_back(single ? R"(\p{N})" : R"(\p{N}+)");
    return {};
  }
  if (type == "ByteLevel") {
    KVASS_ASSIGN_OR_RETURN(const bool prefix, step.boolean_or("add_prefix_space", true));
    KVASS_ASSIGN_OR_RETURN(const bool regex, step.boolean_or("use_regex", true));
    if (prefix) return step.cannot("add_prefix_space", "false");
    if (regex) out.patterns.emplace_back(byte_level_pattern());
    out.byte_level = true;
    return {};
  }
  return refuse(step, "ByteLevel, Split, Digits or Metaspace");
}

// What the decoder of each kind is made of; that it undoes the pre-tokenizer follows from the kind.
Status check_decoder(const JsonFields& step, const std::string& type, const FolderSteps& steps) {
  if (steps.byte_level) return type == "ByteLevel" ? Status() : refuse(step, "ByteLevel");
  if (type == "Replace") {
    KVASS_ASSIGN_OR_RETURN(const std::string from, pattern_of(step, false));
    KVASS_ASSIGN_OR_RETURN(const std::string to, step.text("content"));
    return from == kMark && to == " " ? Status() : step.cannot("content", "a space for U+2581");
  }
  if (type == "Strip") {
    KVASS_ASSIGN_OR_RETURN(const int64_t start, step.integer_or("start", 0, 0, INT32_MAX));
    KVASS_ASSIGN_OR_RETURN(const int64_t stop, step.integer_or("stop", 0, 0, INT32_MAX));
    KVASS_ASSIGN_OR_RETURN(const std::string content, step.text_or("content", " "));
    return start <= 1 && stop == 0 && content == " " ? Status() : step.cannot("start", "1 space at the start");
  }
  if (type == "ByteFallback" || type == "Fuse" || type == "Metaspace") return {};
  return refuse(step, "Replace, ByteFallback, Fuse, Strip or Metaspace");
}

// {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}]}
Status read_post_processor(const JsonFields& step, const std::string& type, FolderSteps& out) {
  if (type == "ByteLevel") return {};
  if (type != "TemplateProcessing") return refuse(step, "TemplateProcessing or ByteLevel");
  KVASS_ASSIGN_OR_RETURN(const Json* single, step.array("single"));
  if (!single) return step.wrong("single", "an array");
  bool text = false;
  for (size_t i = 0; i < single->size(); ++i) {
    const std::string field = fmt::format("single[{}]", i);
    if (!(*single)[i].is_object()) return bad_input(step.field(field), "an object", json_shown((*single)[i]));
    const JsonFields part((*single)[i], step.field(field));
    if (part.has("Sequence")) {
      text = true;
      continue;
    }
    KVASS_ASSIGN_OR_RETURN(const JsonFields token, part.object("SpecialToken"));
    std::string& place = text ? out.after : out.before;
    if (!place.empty()) return unsupported(step.field(field), "one token before and one after a text", "more");
    KVASS_ASSIGN_OR_RETURN(place, token.text("id"));
  }
  return {};
}

}  // namespace

Result<FolderSteps> read_folder_steps(const JsonFields& file) {
  FolderSteps steps;
  const auto with = [&](auto read) {
    return [&steps, read](const JsonFields& step, const std::string& type) { return read(step, type, steps); };
  };
  KVASS_RETURN_IF_ERROR(for_each_step(file, "normalizer", "normalizers", with(read_normalizer)));
  KVASS_RETURN_IF_ERROR(for_each_step(file, "pre_tokenizer", "pretokenizers", with(read_pre_tokenizer)));
  KVASS_RETURN_IF_ERROR(for_each_step(file, "decoder", "decoders", with(check_decoder)));
  KVASS_RETURN_IF_ERROR(for_each_step(file, "post_processor", "processors", with(read_post_processor)));
  const bool mixed = steps.byte_level && (steps.space_mark || steps.space_prefix);
  if (mixed) return file.cannot("pre_tokenizer", "ByteLevel, or spaces as U+2581, not both");
  if (!steps.byte_level && !steps.space_mark) {
    return file.cannot("pre_tokenizer", "ByteLevel, or a step that makes spaces U+2581");
  }
  if (!steps.byte_level && !steps.patterns.empty()) {
    return file.cannot("pre_tokenizer", "no split of text whose spaces are U+2581");
  }
  if (!steps.byte_level && steps.nfc) return file.cannot("normalizer", "no NFC where spaces are U+2581");
  if (steps.strips != steps.remove_extra_whitespaces) {
    return file.cannot("normalizer", "Strip of the end and Replace of two spaces and more together, or neither");
  }
  return steps;
}

}  // namespace kvass
