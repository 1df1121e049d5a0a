// Pre-tokenizer: cuts text into the pieces within which byte-level merging takes place, as the patterns that a
// vocabulary was trained with say. Not a normalizer: text is taken as it is, so that every byte comes back.
//
// The patterns of a kind apply one after the other. Each cuts every piece of the one before into its matches and what
// lies between them, and sees nothing beyond that piece. Bytes that are not UTF-8 are pieces of their own.
//
// Immutable once made, and cheap to copy: the compiled patterns are shared.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "kvass/status.h"

struct pcre2_real_code_8;
struct pcre2_real_match_data_8;

namespace kvass {

struct PreTokenizerKind {
  const char* name;                     // as tokenizer.ggml.pre has it
  bool ignore_merges;                   // a whole piece that is a token is that token, however it would be merged
  bool add_bos;                         // where the file does not say
  std::array<const char*, 5> patterns;  // the first that is null ends them
};

// The kind of that name; an empty name is "default". An unknown one is an error that lists the known ones and begins
// with `what`.
Result<const PreTokenizerKind*> find_pre_tokenizer(std::string_view what, std::string_view name);

class PreTokenizer {
 public:
  explicit PreTokenizer(const PreTokenizerKind& kind);

  // Calls `visit` with the pieces in order; put together they are the text.
  void split(std::string_view text, const std::function<void(std::string_view)>& visit) const;

 private:
  using Visit = std::function<void(std::string_view)>;
  void split_valid(std::string_view text, size_t stage, pcre2_real_match_data_8* match, const Visit& visit) const;

  std::vector<std::shared_ptr<pcre2_real_code_8>> patterns_;
};

}  // namespace kvass
