// What the files of the C API share: the objects behind its handles, and how a Status becomes a code. Written on the
// public headers alone.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kvass/chat.h"
#include "kvass/generate.h"
#include "kvass/kvass.h"
#include "kvass/model.h"
#include "kvass/stream.h"

struct kvass_model {
  kvass::Model model;
  kvass::StreamOptions streams;  // what a sequence is whose options say nothing
  int64_t chunk = 0;             // tokens that one run may bring
};

struct kvass_sequence {
  kvass::Stream stream;
  std::atomic<bool> cancel{false};
};

namespace kvass::c_api {

// Keeps the message for this thread; one that is too long is cut. Allocates nothing.
kvass_code fail(kvass_code code, std::string_view message);
const char* message();
void clear_message();
kvass_code code_of(StatusCode code);
// The library's message with the fields of C's structs in it.
std::string with_fields_of_c(const std::string& message);

// Runs `body`, which returns a Status; whatever it throws becomes a code.
template <class Body>
kvass_code call(Body&& body) {
  clear_message();
  try {
    const Status status = body();
    return status.ok() ? KVASS_OK : fail(code_of(status.code()), with_fields_of_c(status.message()));
  } catch (const std::bad_alloc&) {
    return fail(KVASS_OUT_OF_MEMORY, "out of memory");
  } catch (const std::exception& error) {
    return fail(KVASS_INTERNAL, error.what());
  } catch (...) {
    return fail(KVASS_INTERNAL, "an exception of no known kind");
  }
}

inline Status given(const void* pointer, std::string_view what) {
  return pointer != nullptr ? Status() : bad_input(what, "a pointer", "NULL");
}

// The caller's array of `count` elements; `data` may be null if `count` is 0.
template <class T>
Result<std::span<const T>> array_of(const T* data, size_t count, std::string_view what) {
  if (count > 0) KVASS_RETURN_IF_ERROR(given(data, what));
  constexpr size_t kMost = PTRDIFF_MAX / sizeof(T);
  if (count > kMost) {
    return bad_input(what, "at most " + std::to_string(kMost) + " elements", std::to_string(count));
  }
  return std::span(data, count);
}

// The value for a constant of those that `expected` names, which count from `first`.
template <class Enum, size_t N>
Result<Enum> enum_at(std::string_view field, int32_t value, const Enum (&values)[N], std::string_view expected,
                     int32_t first = 1) {
  if (value < first || value >= first + static_cast<int32_t>(N)) {
    return bad_input(field, expected, std::to_string(value));
  }
  return values[value - first];
}
// The same of constants that count from 1; 0: nothing is said.
template <class Enum, size_t N>
Result<std::optional<Enum>> enum_of(std::string_view field, int32_t value, const Enum (&values)[N], const char* names) {
  if (value == 0) return std::optional<Enum>();
  KVASS_ASSIGN_OR_RETURN(const Enum found, enum_at(field, value, values, std::string("0 or ") + names));
  return std::optional(found);
}

// Structs grow by whole fields, so that a size which none has is a mistake of the caller.
template <class Struct>
Status check_size(const Struct& from, const char* name) {
  constexpr size_t kMost = 4096;
  const size_t size = from.struct_size;
  if (size >= sizeof(size_t) && size % alignof(Struct) == 0 && size <= kMost) return {};
  return bad_input(std::string(name) + ".struct_size",
                   std::string("sizeof(") + name + "), " + std::to_string(sizeof(Struct)) + " here",
                   std::to_string(size));
}

// A caller's struct, as much of it as the caller knows; all zero where there is none. `name` is the struct's. What only
// a newer library knows must be zero.
template <class Struct>
Result<Struct> options_of(const Struct* options, const char* name) {
  Struct all{};
  if (options == nullptr) return all;
  KVASS_RETURN_IF_ERROR(check_size(*options, name));
  const auto* bytes = reinterpret_cast<const unsigned char*>(options);
  for (size_t i = sizeof all; i < options->struct_size; ++i) {
    if (bytes[i] != 0) {
      return bad_input(name, "zero in the fields that this library does not have",
                       "another value at byte " + std::to_string(i));
    }
  }
  std::memcpy(static_cast<void*>(&all), options, std::min(options->struct_size, sizeof all));
  return all;
}

// Writes as much of `value` as the caller's struct has room for; its struct_size, which was checked, stays.
template <class Struct>
void give(const Struct& value, Struct* to) {
  const size_t size = std::min(to->struct_size, sizeof value);
  std::memcpy(reinterpret_cast<char*>(to) + sizeof(size_t), reinterpret_cast<const char*>(&value) + sizeof(size_t),
              size - sizeof(size_t));
}

// Fields of C, one by one; errors name them.
Result<std::optional<DType>> kv_of(int32_t value);
Result<LoadOptions> load_options(const kvass_load_options& options);
// Over what kvass_load said.
Result<StreamOptions> stream_options(const kvass_stream_options* options, const StreamOptions& loaded);
Result<SampleOptions> sampling(const kvass_sampling* options);
// What `options` of a load say of every stream, beside what the file says.
StreamOptions loaded_streams(const kvass_load_options& options);

inline OnText text_callback(kvass_on_text on_text, void* user) {
  if (on_text == nullptr) return {};
  return [on_text, user](std::string_view text) { return on_text(user, text.data(), text.size()) != 0; };
}
kvass_generate_result result_of(const GenerateResult& result);

}  // namespace kvass::c_api
