// Writes a GGUF file: metadata and tensors, in the order of the calls. The bytes are built in memory: for tests and
// small files, or with announce() all but the tensors' data. Not a validator: it checks nothing, so that a test can
// write what the reader must refuse. For an alignment other than 32 the caller also writes the key general.alignment.
// Owns the bytes until they are written.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "file/gguf.h"
#include "kvass/status.h"

namespace kvass {

class GgufWriter {
 public:
  explicit GgufWriter(uint32_t version = 3, uint64_t alignment = 32) : version_(version), alignment_(alignment) {}

  void u8(std::string_view key, uint8_t value) { scalar(key, GgufValueType::u8, value); }
  void i8(std::string_view key, int8_t value) { scalar(key, GgufValueType::i8, value); }
  void u16(std::string_view key, uint16_t value) { scalar(key, GgufValueType::u16, value); }
  void i16(std::string_view key, int16_t value) { scalar(key, GgufValueType::i16, value); }
  void u32(std::string_view key, uint32_t value) { scalar(key, GgufValueType::u32, value); }
  void i32(std::string_view key, int32_t value) { scalar(key, GgufValueType::i32, value); }
  void u64(std::string_view key, uint64_t value) { scalar(key, GgufValueType::u64, value); }
  void i64(std::string_view key, int64_t value) { scalar(key, GgufValueType::i64, value); }
  void f32(std::string_view key, float value) { scalar(key, GgufValueType::f32, value); }
  void f64(std::string_view key, double value) { scalar(key, GgufValueType::f64, value); }
  void boolean(std::string_view key, bool value) { scalar(key, GgufValueType::boolean, static_cast<uint8_t>(value)); }
  void str(std::string_view key, std::string_view value);
  void strs(std::string_view key, std::span<const std::string> values);
  void f32s(std::string_view key, std::span<const float> values) { array(key, GgufValueType::f32, values); }
  void i32s(std::string_view key, std::span<const int32_t> values) { array(key, GgufValueType::i32, values); }
  // An array of any other scalar type: T has the size of `element` (a bool is a uint8_t).
  template <class T>
  void array(std::string_view name, GgufValueType element, std::span<const T> values) {
    key(name, GgufValueType::array);
    put(metadata_, element);
    put(metadata_, static_cast<uint64_t>(values.size()));
    for (const T& value : values) put(metadata_, value);
  }

  void copy(const GgufEntry& entry);  // as it is in its file

  // `shape` as in GgufTensor; `bytes`: the blocks as stored in the file.
  void tensor(std::string_view name, GgmlType type, std::span<const int64_t> shape, std::span<const uint8_t> bytes);
  // The same of a tensor whose blocks the caller writes, at that offset from the end of what finish() gives: for files
  // that are not built in memory. All tensors of a file are of one sort.
  size_t announce(std::string_view name, GgmlType type, std::span<const int64_t> shape, size_t bytes);

  std::vector<uint8_t> finish() const;
  Status write(const std::string& path) const;

 private:
  template <class T>
  static void put(std::vector<uint8_t>& out, const T& value) {
    const size_t at = out.size();
    out.resize(at + sizeof(T));
    std::memcpy(&out[at], &value, sizeof(T));
  }
  static void put_text(std::vector<uint8_t>& out, std::string_view text);
  void key(std::string_view key, GgufValueType type);
  template <class T>
  void scalar(std::string_view name, GgufValueType type, T value) {
    key(name, type);
    put(metadata_, value);
  }

  uint32_t version_;
  uint64_t alignment_;
  uint64_t entries_ = 0;
  uint64_t tensors_ = 0;
  uint64_t data_bytes_ = 0;
  std::vector<uint8_t> metadata_;
  std::vector<uint8_t> tensor_infos_;
  std::vector<uint8_t> data_;
};

}  // namespace kvass
