// Reading a table that FlatBuffers' verifier has passed: what is missing is empty. And the names in it.
#pragma once

#include <string_view>

#include "kvp/schema_generated.h"

namespace kvass {

// Of Model.needs.
inline constexpr std::string_view kNeedsSpeech = "speech";
inline constexpr std::string_view kNeedsVocabulary = "vocabulary";  // fields of the vocabulary that 0.1 did not have

template <class T>
inline size_t size_of(const flatbuffers::Vector<T>* list) {
  return list == nullptr ? 0 : list->size();
}

inline std::string_view view(const flatbuffers::String* text) {
  return text == nullptr ? std::string_view() : std::string_view(text->c_str(), text->size());
}

}  // namespace kvass
