// The table of pre-tokenizers. pre_tokenizer.cc runs their patterns.
#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "file/one_line.h"
#include "text/pre_tokenizer.h"
#include "text/utf8.h"

namespace kvass {
namespace {

// The patterns as published; \s is Unicode's White_Space (see with_white_space).
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

// Patterns of models as other files write them, and the same as above: possessive quantifiers where nothing could be
// given back, one letter after an apostrophe instead of a list, a newline after all white space instead of some.
struct Rewriting {
  std::string_view from, to;
};
constexpr Rewriting kRewritings[] = {{"?+", "?"},
                                     {"++", "+"},
                                     {"{1,3}+", "{1,3}"},
                                     {"'(?i:[sdmt]|ll|ve|re)", KVASS_CONTRACTIONS},
                                     {R"(|\s*[\r\n]|)", R"(|\s*[\r\n]+|)"},
                                     {R"(|\s++$|)", "|"}};

// A pattern as it stands in the table: rewritten, with code points in place of characters beyond ASCII.
std::string as_in_table(std::string_view pattern) {
  std::string text;
  while (!pattern.empty()) {
    const Utf8Step step = utf8_step(pattern);
    const bool plain = step.state != Utf8Step::valid || step.code < 0x80;
    text += plain ? std::string(pattern.substr(0, step.length)) : fmt::format("\\x{{{:x}}}", step.code);
    pattern.remove_prefix(step.length);
  }
  for (const auto& [from, to] : kRewritings) {
    for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
      text.replace(at, from.size(), to);
    }
  }
  return text;
}

}  // namespace

std::string_view byte_level_pattern() { return kWords; }

Result<std::string_view> match_pre_tokenizer(std::string_view what, std::span<const std::string> patterns,
                                             bool ignore_merges) {
  std::vector<std::string> wanted;
  for (const std::string& pattern : patterns) wanted.push_back(as_in_table(pattern));
  for (const PreTokenizerKind& kind : kKinds) {
    const auto end = std::find(kind.patterns.begin(), kind.patterns.end(), nullptr);
    if (kind.ignore_merges == ignore_merges && std::equal(kind.patterns.begin(), end, wanted.begin(), wanted.end())) {
      return std::string_view(kind.name);
    }
  }
  std::string shown;
  for (const std::string& pattern : patterns) shown += (shown.empty() ? "" : " then ") + one_line(pattern, 120, '?');
  return unsupported(what, "the patterns of a pre-tokenizer that kvass knows",
                     (shown.empty() ? "none" : shown) + (ignore_merges ? " with ignore_merges" : ""));
}

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
  return unsupported(std::string(what), "one of " + names, fmt::format("\"{}\"", shown));
}

}  // namespace kvass
