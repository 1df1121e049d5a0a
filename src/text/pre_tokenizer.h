// Pre-tokenizer: splits text into the pieces within which byte-level merging takes place, by the patterns with which a
// vocabulary was trained. Not a normalizer: the text is not changed, and the pieces together are the text.
//
// The patterns of a kind apply one after the other. Each splits every piece of the one before into its matches and the
// text between them, and sees nothing beyond that piece. Bytes that are not UTF-8 are pieces of their own.
//
// Immutable, and cheap to copy: the compiled patterns are shared.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kvass/status.h"

struct pcre2_real_code_8;
struct pcre2_real_match_data_8;

namespace kvass {

struct PreTokenizerKind {
  const char* name;    // a value of tokenizer.ggml.pre
  bool ignore_merges;  // a whole piece that is a token becomes that token, without merging
  bool add_bos;        // the default if the file does not say
  bool nfc;            // text is brought into Unicode's form C first
  // Null after the last. One that begins with (?#bytes) matches bytes; no other comes after it.
  std::array<const char*, 7> patterns;
};

// The kind of that name; an empty name is "default". The error for an unknown name begins with `what` and lists the
// known names.
Result<const PreTokenizerKind*> find_pre_tokenizer(std::string_view what, std::string_view name);

// The name of a kind with these patterns, as tokenizer.json has them. Patterns that are written otherwise and match the
// same are known. The error begins with `what`.
Result<std::string_view> match_pre_tokenizer(std::string_view what, std::span<const std::string> patterns,
                                             bool ignore_merges);
std::string_view byte_level_pattern();  // that ByteLevel of tokenizer.json has itself

class PreTokenizer {
 public:
  explicit PreTokenizer(const PreTokenizerKind& kind);

  // Calls `visit` with the pieces in order. Concatenated they are the text.
  void split(std::string_view text, const std::function<void(std::string_view)>& visit) const;

 private:
  using Visit = std::function<void(std::string_view)>;
  void split_valid(std::string_view text, size_t stage, pcre2_real_match_data_8* match, const Visit& visit) const;

  std::vector<std::shared_ptr<pcre2_real_code_8>> patterns_;
};

}  // namespace kvass
