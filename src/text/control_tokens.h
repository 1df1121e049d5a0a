// Which tokens of a vocabulary are control tokens, and which of those end what a model says. By their meaning, since
// the types in files disagree: converters mark <|im_end|> as control, user defined or normal. This is the one place
// that decides it. What follows from it: ends of generation, marks that are one token in a template's text, what output
// hides, and what typed text never becomes. Pure functions.
//
//   ends      eos, eot, eom of the metadata; known names; the mark that a chat template writes after an answer
//   control   what the file says; those ends and bos, where they look like marks; known names of marks; tokens that
//             look like marks of turns (<|…|>, [INST]) and stand in the chat template
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "text/piece_table.h"
#include "text/vocabulary.h"

namespace kvass {

struct ControlTokens {
  std::vector<TokenType> types;  // [tokens] as the file has them, but `control` for every control token
  std::vector<int32_t> ends;     // of generation; none twice
  int32_t eot = -1;              // ends a turn; -1: none is known
};

// The numbers of `vocabulary` (ids and types) that tokenizer.ggml has; -1 where there is none.
struct ControlIds {
  int32_t bos = -1, eos = -1, eot = -1, eom = -1;
  std::span<const int32_t> ends = {};  // more of them
};

ControlTokens find_control_tokens(const PieceTable& pieces, std::span<const TokenType> types, const ControlIds& ids,
                                  std::string_view chat_template);

}  // namespace kvass
