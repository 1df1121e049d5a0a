// The steps of a tokenizer.json around its model: normalizer, pre-tokenizer, decoder, post-processor, as what they mean
// for a Vocabulary. Steps that no vocabulary has are refused by name. Private to folder_tokenizer.cc.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "file/json_fields.h"
#include "kvass/status.h"
#include "text/vocabulary.h"

namespace kvass {

struct FolderSteps {
  bool nfc = false;         // the text is normalized to Unicode's form C
  bool byte_level = false;  // tokens are in the byte alphabet
  bool space_mark = false;  // a space is U+2581
  std::optional<SpacePrefix> space_prefix;
  std::vector<std::string> patterns;      // that split the text, as the file has them
  bool remove_extra_whitespaces = false;  // runs of spaces become one, those at the end none
  bool strips = false;                    // the spaces at the end: with the above, or refused
  std::string charsmap;                   // SentencePiece's table of replacements; empty: none
  bool splits_words = false;              // nothing is merged across the beginning of a word
  // The post-processor's tokens around a text; empty: none.
  std::string before, after;
};
Result<FolderSteps> read_folder_steps(const JsonFields& file);

}  // namespace kvass
