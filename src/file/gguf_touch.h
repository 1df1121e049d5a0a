// Calls every accessor of a Gguf and reads every byte: for tests and fuzzers, under sanitizers. Not for programs: it
// reads the whole file. Owns nothing.
#pragma once

#include <cstddef>

#include "file/gguf.h"

namespace kvass {

// Returns a meaningless sum, so that the compiler keeps the reads.
inline size_t touch(const Gguf& file) {
  size_t sum = 0;
  const auto read = [&](std::string_view text) {
    for (char c : text) sum += static_cast<unsigned char>(c);
  };
  for (const GgufEntry& entry : file.entries()) {
    read(entry.key);
    read(file.printable(entry));
    sum += file.has(entry.key) ? entry.count : 0;
    if (Result<int64_t> value = file.get_int(entry.key); value.ok()) sum += static_cast<size_t>(value.value());
    if (Result<double> value = file.get_float(entry.key); value.ok()) sum += value.value() > 0;
    if (Result<bool> value = file.get_bool(entry.key); value.ok()) sum += value.value();
    if (Result<std::string_view> value = file.get_string(entry.key); value.ok()) read(value.value());
    if (Result<std::vector<int64_t>> values = file.get_ints(entry.key); values.ok()) {
      for (int64_t value : values.value()) sum += static_cast<size_t>(value);
    }
    if (Result<std::vector<float>> values = file.get_floats(entry.key); values.ok()) {
      for (float value : values.value()) sum += value > 0;
    }
    if (Result<std::vector<std::string_view>> values = file.get_strings(entry.key); values.ok()) {
      for (std::string_view value : values.value()) read(value);
    }
  }
  for (const GgufTensor& tensor : file.tensors()) {
    sum += file.find_tensor(tensor.name) == &tensor;
    for (size_t i = 0; i < tensor.bytes; ++i) sum += tensor.data[i];
  }
  return sum;
}

}  // namespace kvass
