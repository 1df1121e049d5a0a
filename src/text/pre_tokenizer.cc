#include "text/pre_tokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>

#include <algorithm>
#include <cassert>
#include <cstdint>
#include <new>
#include <string>

#include "text/utf8.h"

namespace kvass {
namespace {

// Replaces \s: PCRE2's also matches U+180E, unlike the engines with which vocabularies are trained.
std::string with_white_space(std::string_view pattern) {
  constexpr std::string_view kMembers = R"(\t-\r\x{85}\p{Z})";
  std::string text;
  bool in_class = false;
  for (size_t at = 0; at < pattern.size(); ++at) {
    const char c = pattern[at];
    if (c != '\\') {
      if (c == '[') in_class = true;
      if (c == ']') in_class = false;
      text += c;
      continue;
    }
    const char escaped = pattern[++at];
    if (escaped != 's' && escaped != 'S') {
      text.append({c, escaped});
      continue;
    }
    assert(!in_class || escaped == 's');
    if (!in_class) text += escaped == 's' ? "[" : "[^";
    text += kMembers;
    if (!in_class) text += ']';
  }
  return text;
}

std::shared_ptr<pcre2_real_code_8> compile(const char* pattern) {
  const bool bytes = std::string_view(pattern).starts_with("(?#bytes)");  // what comes before may divide characters
  const std::string text = with_white_space(pattern);
  int error = 0;
  size_t offset = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                                   bytes ? 0 : PCRE2_UTF | PCRE2_UCP | PCRE2_NO_UTF_CHECK, &error, &offset, nullptr);
  if (code == nullptr) throw std::bad_alloc();        // the patterns are constants: only memory can be missing
  (void)pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // if it fails, matching is slower and gives the same pieces
  return {code, pcre2_code_free};
}

// The length in bytes of the valid (or invalid) UTF-8 at the beginning of `text`.
size_t run_length(std::string_view text, bool valid) {
  size_t length = 0;
  while (length < text.size()) {
    const Utf8Step step = utf8_step(text.substr(length));
    if ((step.state == Utf8Step::valid) != valid) break;
    length += step.length;
  }
  return length;
}

}  // namespace

PreTokenizer::PreTokenizer(const PreTokenizerKind& kind) {
  for (const char* pattern : kind.patterns) {
    if (pattern == nullptr) break;
    patterns_.push_back(compile(pattern));
  }
}

void PreTokenizer::split(std::string_view text, const Visit& visit) const {
  const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> match(pcre2_match_data_create(1, nullptr),
                                                                                  pcre2_match_data_free);
  if (!match) throw std::bad_alloc();
  while (!text.empty()) {
    if (const size_t valid = run_length(text, true); valid > 0) {
      split_valid(text.substr(0, valid), 0, match.get(), visit);
      text.remove_prefix(valid);
    }
    if (const size_t invalid = run_length(text, false); invalid > 0) {
      visit(text.substr(0, invalid));
      text.remove_prefix(invalid);
    }
  }
}

void PreTokenizer::split_valid(std::string_view text, size_t stage, pcre2_match_data* match, const Visit& visit) const {
  if (stage == patterns_.size()) return visit(text);
  const size_t* const range = pcre2_get_ovector_pointer(match);
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  for (size_t at = 0, from = 0; at < text.size();) {
    const int found =
        pcre2_match(patterns_[stage].get(), subject, text.size(), from, PCRE2_NO_UTF_CHECK, match, nullptr);
    // No match, or an error such as a limit of the library: the remaining text is one piece.
    const size_t begin = found > 0 ? range[0] : text.size();
    const size_t end = found > 0 ? range[1] : text.size();
    if (begin > at) split_valid(text.substr(at, begin - at), stage + 1, match, visit);
    if (end > begin) split_valid(text.substr(begin, end - begin), stage + 1, match, visit);
    at = from = end;
    // An empty match only splits the text. The search goes on after the next character, or it would match again.
    if (end == begin && end < text.size()) from += utf8_step(text.substr(end)).length;
  }
}

}  // namespace kvass
