// Reading a table that FlatBuffers' verifier has passed: what is missing is empty. And the names in it.
#pragma once

#include <string_view>

#include "kvp/schema_generated.h"

namespace kvass {

inline constexpr std::string_view kNeedsSpeech = "speech";  // of Model.needs

template <class T>
inline size_t size_of(const flatbuffers::Vector<T>* list) {
  return list == nullptr ? 0 : list->size();
}

inline std::string_view view(const flatbuffers::String* text) {
  return text == nullptr ? std::string_view() : std::string_view(text->c_str(), text->size());
}

}  // namespace kvass
