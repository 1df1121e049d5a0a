// The table of pre-tokenizers. pre_tokenizer.cc runs their patterns.
#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "file/one_line.h"
#include "text/pre_tokenizer.h"
#include "text/utf8.h"

namespace kvass {
namespace {

// The patterns as published, with code points beyond ASCII as escapes; \s is Unicode's White_Space (see with_white_space).
#define KVASS_BYTES "(?#bytes)"
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

constexpr char kDigits3Plus[] = KVASS_CONTRACTIONS R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+|)" KVASS_MARKS;
constexpr char kDigits3Spaces[] =
    KVASS_CONTRACTIONS R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+)"
                       R"(|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S))"
                       R"(|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1})";
constexpr char kDigits1NoContractions[] = R"([^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|)" KVASS_MARKS;
constexpr char kDigits1NoLines[] =
    KVASS_CONTRACTIONS R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+)" KVASS_TAIL;
constexpr char kDigits1OneLine[] =
    R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)";
constexpr char kSpacedWords[] = KVASS_CONTRACTIONS R"(|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N})"
                                                   R"(| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+)";
constexpr char kCapitalsOneDigit[] =
    KVASS_LOWER_WORD KVASS_CONTRACTIONS "?|" KVASS_UPPER_WORD KVASS_CONTRACTIONS R"(?|\p{N}|)" KVASS_MARKS_SLASH;
// Words of Han letters are apart, in the others they do not count.
constexpr char kHanCapitals[] =
    R"([\p{Han}]+|[^\r\n\p{L}\p{N}]?(?:(?!\p{Han})[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])*)"
    R"((?:(?!\p{Han})[\p{Ll}\p{Lm}\p{Lo}\p{M}])+)" KVASS_CONTRACTIONS
    R"(?|[^\r\n\p{L}\p{N}]?(?:(?!\p{Han})[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])+)"
    R"((?:(?!\p{Han})[\p{Ll}\p{Lm}\p{Lo}\p{M}])*)" KVASS_CONTRACTIONS R"(?|\p{N}{1,3}|)" KVASS_MARKS;
constexpr char kNotPunctuation[] = R"( ?[^(\s|.,!?\x{2026}\x{3002}\x{ff0c}\x{3001}\x{964}\x{6d4}\x{60c})]+)";
// Bytes that are digits in the alphabet of bytes: 0 to 9, and those that stand there as superscripts and fractions.
constexpr char kByteDigits[] = KVASS_BYTES R"([0-9\xb2\xb3\xb9\xbc-\xbe]+)";
constexpr char kByteThreeDigits[] = KVASS_BYTES "[0-9][0-9][0-9]";
constexpr char kPunctuationTick[] = R"([\p{P}$+<=>^~|\x60]+)";
constexpr char kDigitsBackwards[] = R"(\d{1,3}(?=(?:\d{3})*\b))";
constexpr char kThreesFromTheEnd[] = R"((?=(?:\d{3})+(?!\d)))";
constexpr char kLines[] = R"([^\n]+|[\n]+)";
constexpr char kSentinels[] = "<sentinel:[0-9]+>";
constexpr char kImages[] = "IMGIMG[A-I]{1,4}Z";
constexpr char kWhiteSpaces[] = R"([\t\n]|    |  )";
constexpr char kMark[] = R"([\p{P}!-/:-@\[-`{-~])";
constexpr char kCasedWords[] =
    R"(\s?[A-Za-z\x{b5}\x{c0}-\x{d6}\x{d8}-\x{f6}\x{f8}-\x{1ba}\x{1bc}-\x{1bf}\x{1c4}-\x{293}\x{295}-)"
    R"(\x{2af}\x{370}-\x{373}\x{376}\x{377}\x{37b}-\x{37d}\x{37f}\x{386}\x{388}-\x{38a}\x{38c}\x{38e}-)"
    R"(\x{3a1}\x{3a3}-\x{3f5}\x{3f7}-\x{481}\x{48a}-\x{52f}\x{531}-\x{556}\x{10a0}-\x{10c5}\x{13a0}-)"
    R"(\x{13f5}\x{13f8}-\x{13fd}\x{1c90}-\x{1cba}\x{1cbd}-\x{1cbf}\x{1d00}-\x{1d2b}\x{1d6b}-\x{1d77})"
    R"(\x{1d79}-\x{1d9a}\x{1e00}-\x{1f15}\x{1f18}-\x{1f1d}\x{1f20}-\x{1f45}\x{1f48}-\x{1f4d}\x{1f50}-)"
    R"(\x{1f57}\x{1f59}\x{1f5b}\x{1f5d}\x{1f5f}-\x{1f7d}\x{1f80}-\x{1fb4}\x{1fb6}-\x{1fbc}\x{1fbe})"
    R"(\x{1fc2}-\x{1fc4}\x{1fc6}-\x{1fcc}\x{1fd0}-\x{1fd3}\x{1fd6}-\x{1fdb}\x{1fe0}-\x{1fec}\x{1ff2}-)"
    R"(\x{1ff4}\x{1ff6}-\x{1ffc}\x{2102}\x{2107}\x{210a}-\x{2113}\x{2115}\x{2119}-\x{211d}\x{2124})"
    R"(\x{2126}\x{2128}\x{212a}-\x{212d}\x{212f}-\x{2134}\x{2139}\x{213c}-\x{213f}\x{2145}-\x{2149})"
    R"(\x{214e}\x{2183}\x{2184}\x{2c00}-\x{2c7b}\x{2c7e}-\x{2ce4}\x{2ceb}-\x{2cee}\x{2cf2}\x{2cf3})"
    R"(\x{a640}-\x{a66d}\x{a680}-\x{a69b}\x{a722}-\x{a76f}\x{a771}-\x{a787}\x{a78b}-\x{a78e}\x{ab70}-)"
    R"(\x{abbf}\x{fb00}-\x{fb06}\x{fb13}-\x{fb17}\x{ff21}-\x{ff3a}\x{ff41}-\x{ff5a}\x{10400}-\x{1044f})"
    R"(\x{104b0}-\x{104d3}\x{104d8}-\x{104fb}\x{10c80}-\x{10cb2}\x{10cc0}-\x{10cf2}\x{118a0}-\x{118df})"
    R"(\x{1e900}-\x{1e943}]+)";
constexpr char kWideMarks[] = R"(\s?[!-/:-~\x{ff01}-\x{ff0f}\x{ff1a}-\x{ff5e}\x{2018}-\x{201f}\x{3000}-\x{3002}]+)";
constexpr char kSpacesAtEnd[] = R"(\s+$)";
constexpr char kHangulMarksHan[] =
    R"([\x{ac00}-\x{d7a3}\x{3131}-\x{318e}]+|[\x{ff01}\x{2026}\x{201c}\x{201d}\x{2018}\x{2019}\x{2014})"
    R"(\x{ff1a}\x{ff1b}\x{ff0c}\x{3001}-\x{303f}\x{fe30}-\x{fe4f}]+|[\x{3105}-\x{312f}]+|[\x{4e00}-)"
    R"(\x{9fa5}\x{3040}-\x{309f}\x{30a0}-\x{30ff}]+)";
constexpr char kDeepseekWordsApart[] =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+|[\r\n])"
    R"(|\s+(?!\S)|\s+)";
constexpr char kAsianScripts[] =
    R"([\x{4e00}-\x{9fff}\x{3400}-\x{4dbf}\x{f900}-\x{faff}\x{3040}-\x{309f}\x{30a0}-\x{30ff}\x{ff65}-)"
    R"(\x{ff9f}\x{2f00}-\x{2fdf}\x{e40}-\x{e7f}\x{e80}-\x{eff}\x{1780}-\x{17ff}\x{1000}-\x{109f})"
    R"(\x{aa60}-\x{aa7f}\x{a9e0}-\x{a9ff}\x{ac00}-\x{d7af}\x{1100}-\x{11ff}]+)";

enum Flags { kNone = 0, kIgnoreMerges = 1, kAddBos = 2, kNfc = 4 };

constexpr PreTokenizerKind kKinds[] = {
#define KVASS_PRE_TOKENIZER(name, flags, ...) \
  {name, ((flags)&kIgnoreMerges) != 0, ((flags)&kAddBos) != 0, ((flags)&kNfc) != 0, {__VA_ARGS__}},
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
