// The steps of a tokenizer.json around its model: normalizer, pre-tokenizer, decoder, post-processor, as what they mean
// for a Vocabulary. Steps that no vocabulary has are refused by name. Private to folder_tokenizer.cc.
#pragma once

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
  std::vector<std::string> patterns;  // that split the text, as the file has them
  // The post-processor's tokens around a text; empty: none.
  std::string before, after;
};
Result<FolderSteps> read_folder_steps(const JsonFields& file);

}  // namespace kvass
