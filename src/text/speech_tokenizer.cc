#include "text/speech_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <limits>
#include <unordered_map>
#include <utility>

#include "text/byte_alphabet.h"
#include "text/utf8.h"

namespace kvass {
namespace {

struct LanguageName {
  std::string_view code, name;
};
constexpr LanguageName kLanguages[] = {
#define KVASS_LANGUAGE(code, name) {code, name},
#include "text/languages.inc"
#undef KVASS_LANGUAGE
};
// Other names of some languages.
constexpr LanguageName kAliases[] = {{"my", "burmese"},   {"ca", "valencian"},     {"nl", "flemish"},
                                     {"ht", "haitian"},   {"lb", "letzeburgesch"}, {"ps", "pushto"},
                                     {"pa", "panjabi"},   {"ro", "moldavian"},     {"ro", "moldovan"},
                                     {"si", "sinhalese"}, {"es", "castilian"},     {"zh", "mandarin"}};

constexpr int32_t kTimestamps = 1501;  // 0.00 to 30.00 s
constexpr int32_t kOtherMarks = 8;  // end, start, translate, transcribe, startoflm, startofprev, nospeech, notimestamps
constexpr int32_t kEnglishTokens = 51864;  // size of the English-only vocabulary, which has all language tokens too
constexpr int32_t kEnglishText = 50256;

std::string mark(std::string_view name) { return fmt::format("<|{}|>", name); }

// Makes valid UTF-8: each byte that is not part of a character becomes U+FFFD.
std::string lossy(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const Utf8Step step = utf8_step(text);
    if (step.state == Utf8Step::valid) {
      out.append(text.substr(0, step.length));
    } else {
      out.append("\ufffd");
    }
    text.remove_prefix(step.length);
  }
  return out;
}

}  // namespace

std::string find_language(std::string_view name) {
  std::string lower(name);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  for (const LanguageName& language : kLanguages) {
    if (lower == language.code || lower == language.name) return std::string(language.code);
  }
  for (const LanguageName& alias : kAliases) {
    if (lower == alias.name) return std::string(alias.code);
  }
  return {};
}

std::string_view language_name(std::string_view code) {
  for (const LanguageName& language : kLanguages) {
    if (code == language.code) return language.name;
  }
  return {};
}

Result<SpeechVocabulary> complete_speech_vocabulary(std::string source, std::vector<std::string> text, int64_t tokens) {
  if (tokens == kEnglishTokens && static_cast<int64_t>(text.size()) > kEnglishText) text.resize(kEnglishText);
  const int64_t languages = tokens - static_cast<int64_t>(text.size()) - kTimestamps - kOtherMarks;
  if (languages < 0 || languages > static_cast<int64_t>(std::size(kLanguages))) {
    return bad_input(source + ": tokens",
                     fmt::format("{} of text, {} marks, {} timestamps and up to {} languages", text.size(), kOtherMarks,
                                 kTimestamps, std::size(kLanguages)),
                     std::to_string(tokens));
  }
  text.push_back(mark("endoftext"));
  text.push_back(mark("startoftranscript"));
  for (int64_t i = 0; i < languages; ++i) text.push_back(mark(kLanguages[i].code));
  for (const char* name : {"translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps"}) {
    text.push_back(mark(name));
  }
  for (int32_t i = 0; i < kTimestamps; ++i) text.push_back(mark(fmt::format("{:.2f}", 0.02 * i)));
  return SpeechVocabulary{std::move(source), std::move(text)};
}

Result<SpeechTokenizer> SpeechTokenizer::create(SpeechVocabulary vocabulary) {
  SpeechTokenizer tokenizer;
  tokenizer.source_ = std::move(vocabulary.source);
  size_t bytes = 0;
  for (const std::string& piece : vocabulary.pieces) bytes += piece.size();
  if (vocabulary.pieces.size() > static_cast<size_t>(std::numeric_limits<int32_t>::max()) ||
      bytes > PieceTable::kMaxBytes) {
    return bad_input(tokenizer.source_ + ": tokens", "fewer than 2^31, and 4 GiB of them",
                     std::to_string(vocabulary.pieces.size()));
  }
  tokenizer.pieces_.reserve(vocabulary.pieces.size(), bytes);
  for (const std::string& piece : vocabulary.pieces) tokenizer.pieces_.append(piece);
  KVASS_RETURN_IF_ERROR(tokenizer.find_marks());
  tokenizer.find_suppressed();
  return tokenizer;
}

int32_t SpeechTokenizer::find(std::string_view piece, int32_t begin, int32_t end) const {
  for (int32_t id = begin; id < end; ++id) {
    if (pieces_[id] == piece) return id;
  }
  return -1;
}

Status SpeechTokenizer::find_marks() {
  // Searched from the end: the marks are the last tokens, and a text token may look like one.
  for (int32_t id = size() - 1; id >= 0 && end_of_text_ < 0; --id) {
    if (pieces_[id] == mark("endoftext")) end_of_text_ = id;
  }
  const auto refuse = [&](std::string_view name) {
    return bad_input(source_ + ": tokens", mark(name) + " among them", fmt::format("{} tokens without it", size()));
  };
  if (end_of_text_ < 0) return refuse("endoftext");
  const std::pair<std::string_view, int32_t*> marks[] = {
      {"startoftranscript", &start_},  {"translate", &translate_},  {"transcribe", &transcribe_},
      {"startoflm", &language_model_}, {"startofprev", &previous_}, {"notimestamps", &no_timestamps_}};
  for (const auto& [name, id] : marks) {
    *id = find(mark(name), end_of_text_, size());
    if (*id < 0) return refuse(name);
  }
  for (const std::string_view name : {"nospeech", "nocaptions"}) {
    if (no_speech_ < 0) no_speech_ = find(mark(name), end_of_text_, size());
  }
  if (no_speech_ < 0) return refuse("nospeech");
  for (int32_t id = start_ + 1; id < std::min(translate_, size()); ++id) {
    const std::string_view name = pieces_[id];
    if (name.size() < 5 || !name.starts_with("<|") || !name.ends_with("|>")) continue;
    languages_.push_back({std::string(name.substr(2, name.size() - 4)), id});
  }
  if (timestamp_begin() + 2 > size() || size() - timestamp_begin() > kTimestamps) {
    return bad_input(source_ + ": tokens", fmt::format("2 to {} timestamps at the end", kTimestamps),
                     std::to_string(size() - timestamp_begin()));
  }
  multilingual_ = end_of_text_ != kEnglishText;
  if (multilingual_ && languages_.empty()) return refuse("en");
  return {};
}

void SpeechTokenizer::find_suppressed() {
  std::unordered_map<std::string_view, int32_t> ids;
  for (int32_t id = 0; id < end_of_text_; ++id) ids.emplace(pieces_[id], id);
  const auto id_of = [&](std::string_view text) {
    const auto found = ids.find(text);
    return found == ids.end() ? -1 : found->second;
  };
  const auto add = [&](int32_t id) {
    if (id >= 0) suppressed_.push_back(id);
  };
  constexpr std::string_view kSigns[] = {"\"",  "#",  "(",  ")",   "*",   "+",   "/",   ":",  ";",   "<",  "=",  ">",
                                         "@",   "[",  "\\", "]",   "^",   "_",   "`",   "{",  "|",   "}",  "~",  "「",
                                         "」",  "『", "』", "<<",  ">>",  "<<<", ">>>", "--", "---", "-(", "-[", "('",
                                         "(\"", "((", "))", "(((", ")))", "[[",  "]]",  "{{", "}}",  "♪♪", "♪♪♪"};
  for (const std::string_view sign : kSigns) {
    add(id_of(sign));
    add(id_of(" " + std::string(sign)));
  }
  // A musical sign is one token, or several of which it shares the first with other signs.
  for (const std::string_view sign : {"♩", "♪", "♫", "♬", "♭", "♮", "♯"}) {
    for (const std::string& text : {std::string(sign), " " + std::string(sign)}) {
      size_t length = text.size();
      while (length > 1 && id_of(text.substr(0, length)) < 0) --length;
      if (length > 1) add(id_of(text.substr(0, length)));  // a single byte is also part of other characters
    }
  }
  // Hyphens and apostrophes are allowed within words, not before them.
  add(id_of(" -"));
  add(id_of(" '"));
  for (const int32_t id : {transcribe_, translate_, start_, previous_, language_model_, no_speech_}) add(id);
  std::sort(suppressed_.begin(), suppressed_.end());
  suppressed_.erase(std::unique(suppressed_.begin(), suppressed_.end()), suppressed_.end());
  if (const int32_t space = id_of(" "); space >= 0) suppressed_first_.push_back(space);
  suppressed_first_.push_back(end_of_text_);
}

int32_t SpeechTokenizer::language_id(std::string_view code) const {
  for (const Language& language : languages_) {
    if (language.code == code) return language.id;
  }
  return -1;
}

std::string SpeechTokenizer::bytes(std::span<const int32_t> ids) const {
  std::string out;
  for (const int32_t id : ids) {
    if (id >= 0 && id < end_of_text_) out += pieces_[id];
  }
  return out;
}

std::string SpeechTokenizer::decode(std::span<const int32_t> ids) const { return lossy(bytes(ids)); }

// Ends a word when the bytes so far are whole characters, or can never become one.
std::vector<SpeechWord> SpeechTokenizer::characters(std::span<const int32_t> ids) const {
  std::vector<SpeechWord> out;
  SpeechWord word;
  std::string pending;
  for (const int32_t id : ids) {
    word.ids.push_back(id);
    if (id < end_of_text_) pending += pieces_[id];
    std::string_view rest = pending;
    bool incomplete = false;
    while (!rest.empty() && !incomplete) {
      const Utf8Step step = utf8_step(rest);
      incomplete = step.state == Utf8Step::incomplete;
      rest.remove_prefix(step.length);
    }
    if (incomplete && id < end_of_text_) continue;
    word.text = lossy(pending);
    out.push_back(std::move(word));
    word = {};
    pending.clear();
  }
  if (!word.ids.empty()) {
    word.text = lossy(pending);
    out.push_back(std::move(word));
  }
  return out;
}

std::vector<SpeechWord> SpeechTokenizer::words(std::span<const int32_t> ids, std::string_view language) const {
  std::vector<SpeechWord> parts = characters(ids);
  for (const std::string_view code : {"zh", "ja", "th", "lo", "my", "yue"}) {
    if (language == code) return parts;
  }
  constexpr std::string_view kPunctuation = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";
  std::vector<SpeechWord> out;
  for (SpeechWord& part : parts) {
    std::string_view bare = part.text;
    while (!bare.empty() && std::isspace(static_cast<unsigned char>(bare.front()))) bare.remove_prefix(1);
    while (!bare.empty() && std::isspace(static_cast<unsigned char>(bare.back()))) bare.remove_suffix(1);
    const bool begins = part.ids[0] >= end_of_text_ || part.text.starts_with(' ') ||
                        kPunctuation.find(bare) != std::string_view::npos || out.empty();
    if (begins) {
      out.push_back(std::move(part));
    } else {
      out.back().text += part.text;
      out.back().ids.insert(out.back().ids.end(), part.ids.begin(), part.ids.end());
    }
  }
  return out;
}

// Recovers the merges: with only the tokens before it, a token's bytes merge into two tokens. The token is their merge.
Result<Tokenizer> SpeechTokenizer::text_encoder() const {
  Vocabulary vocabulary;
  vocabulary.source = source_;
  vocabulary.kind = VocabularyKind::bpe;
  vocabulary.pre = "gpt-2";
  vocabulary.add_bos = vocabulary.add_space_prefix = false;
  std::unordered_map<std::string_view, int32_t> ids;
  for (int32_t id = 0; id < end_of_text_; ++id) ids.emplace(pieces_[id], id);
  for (int32_t id = 0; id < end_of_text_; ++id) {
    const std::string_view piece = pieces_[id];
    vocabulary.pieces.push_back(piece_of_bytes(piece));
    vocabulary.types.push_back(piece.empty() || ids[piece] != id ? TokenType::unused : TokenType::normal);
    if (piece.size() < 2 || piece.size() > 256 || ids[piece] != id) continue;
    std::vector<size_t> ends;  // where each part ends
    for (size_t i = 1; i <= piece.size(); ++i) ends.push_back(i);
    while (ends.size() > 2) {
      size_t best = ends.size();
      int32_t best_id = id;
      for (size_t i = 0; i + 1 < ends.size(); ++i) {
        const size_t begin = i == 0 ? 0 : ends[i - 1];
        const auto found = ids.find(piece.substr(begin, ends[i + 1] - begin));
        if (found == ids.end() || found->second >= best_id) continue;
        best = i;
        best_id = found->second;
      }
      if (best == ends.size()) break;
      ends.erase(ends.begin() + static_cast<ptrdiff_t>(best));
    }
    if (ends.size() != 2) continue;
    const std::string_view left = piece.substr(0, ends[0]), right = piece.substr(ends[0]);
    if (!ids.contains(left) || !ids.contains(right)) continue;
    vocabulary.merges.push_back(piece_of_bytes(left) + " " + piece_of_bytes(right));
  }
  return Tokenizer::create(vocabulary);
}

}  // namespace kvass
