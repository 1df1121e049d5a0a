// The table of pre-tokenizers. pre_tokenizer.cc runs their patterns.
#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "text/pre_tokenizer.h"

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
  return unsupported(std::string(what), "one of " + names, fmt::format("\"{}\"", shown));
}

}  // namespace kvass
