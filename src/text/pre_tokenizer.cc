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

// Patterns as they are published; \s is Unicode's White_Space (see with_white_space).
#define KVASS_CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define KVASS_TAIL R"(|\s*[\r\n]+|\s+(?!\S)|\s+)"
#define KVASS_MARKS R"( ?[^\s\p{L}\p{N}]+[\r\n]*)" KVASS_TAIL
#define KVASS_MARKS_SLASH R"( ?[^\s\p{L}\p{N}]+[\r\n/]*)" KVASS_TAIL
#define KVASS_LOWER_WORD R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
#define KVASS_UPPER_WORD R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"

constexpr char kWords[] = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr char kDigits3[] = KVASS_CONTRACTIONS R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)" KVASS_MARKS;
constexpr char kDigits1[] = KVASS_CONTRACTIONS R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|)" KVASS_MARKS;
constexpr char kDigits1Marks[] =
    KVASS_CONTRACTIONS R"(|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*)" KVASS_TAIL;
constexpr char kCapitals[] = KVASS_LOWER_WORD "|" KVASS_UPPER_WORD R"(|\p{N}|)" KVASS_MARKS_SLASH;
constexpr char kCapitalsContractions[] =
    KVASS_LOWER_WORD KVASS_CONTRACTIONS "?|" KVASS_UPPER_WORD KVASS_CONTRACTIONS R"(?|\p{N}{1,3}|)" KVASS_MARKS_SLASH;
constexpr char kPunctuation[] = R"([\p{P}$+<=>^~|]+)";
constexpr char kNumbers[] = R"(\p{N}+)";
constexpr char kThreeDigits[] = "[0-9][0-9][0-9]";
constexpr char kDigit[] = R"(\p{N})";
constexpr char kNumber3[] = R"(\p{N}{1,3})";
constexpr char kLineEnd[] = R"([\r\n])";
constexpr char kSpaceLetters[] = R"(\s?\p{L}+)";
constexpr char kSpacePunctuation[] = R"(\s?\p{P}+)";
constexpr char kHanHangul[] = R"([\x{4e00}-\x{9fa5}\x{800}-\x{4e00}\x{ac00}-\x{d7ff}]+)";
constexpr char kHanKana[] = R"([\x{4e00}-\x{9fa5}\x{3040}-\x{309f}\x{30a0}-\x{30ff}]+)";
constexpr char kDeepseekWords[] =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*)" KVASS_TAIL;

enum Flags { kNone = 0, kIgnoreMerges = 1, kAddBos = 2 };

constexpr PreTokenizerKind kKinds[] = {
#define KVASS_PRE_TOKENIZER(name, flags, ...) \
  {name, ((flags)&kIgnoreMerges) != 0, ((flags)&kAddBos) != 0, {__VA_ARGS__}},
#include "text/pre_tokenizers.inc"
#undef KVASS_PRE_TOKENIZER
};

// PCRE2's \s also takes U+180E, which the engines that vocabularies are trained with do not.
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
  const std::string text = with_white_space(pattern);
  int error = 0;
  size_t offset = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                                   PCRE2_UTF | PCRE2_UCP | PCRE2_NO_UTF_CHECK, &error, &offset, nullptr);
  if (code == nullptr) throw std::bad_alloc();        // the patterns are constants: memory is all that can be missing
  (void)pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // without it the same matches, slower
  return {code, pcre2_code_free};
}

// How many bytes of `text` are valid UTF-8, or are not, from its beginning.
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

Result<const PreTokenizerKind*> find_pre_tokenizer(std::string_view what, std::string_view name) {
  const std::string_view wanted = name.empty() ? "default" : name;
  std::string names;
  for (const PreTokenizerKind& kind : kKinds) {
    if (wanted == kind.name) return &kind;
    names += (names.empty() ? "" : ", ") + std::string(kind.name);
  }
  std::string shown(name.substr(0, 64));
  std::replace_if(
      shown.begin(), shown.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  return bad_input(std::string(what), "one of " + names, fmt::format("\"{}\"", shown));
}

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
  for (size_t at = 0; at < text.size();) {
    const int found = pcre2_match(patterns_[stage].get(), subject, text.size(), at, PCRE2_NO_UTF_CHECK, match, nullptr);
    // Whatever else may be wrong with a match (a limit of the library), what is left is a piece.
    const size_t begin = found > 0 ? range[0] : text.size();
    const size_t end = found > 0 ? range[1] : text.size();
    if (begin > at) split_valid(text.substr(at, begin - at), stage + 1, match, visit);
    if (end > begin) split_valid(text.substr(begin, end - begin), stage + 1, match, visit);
    at = end;
  }
}

}  // namespace kvass
