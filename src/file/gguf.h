// A GGUF file (versions 2 and 3, little-endian), read only, or the parts of a split one as if they were one file. Every
// length and offset in it is checked before it is used: a truncated, hostile or unsupported file gives one line that
// names the file and the field. Values are views into the bytes and are decoded when they are asked for. What nobody
// asks for may be what nobody understands: arrays of arrays, bools that are neither 0 nor 1, tensors without elements.
// Not a model: it knows no architecture and unpacks no block. Owns the mappings when opened by path. Format: the GGUF
// specification of ggml.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file_map.h"
#include "kvass/status.h"

namespace kvass {

// Tensor types that kvass reads, with the format's numbers.
enum class GgmlType : uint32_t {
#define KVASS_WEIGHT_TYPE(name, number, elements, bytes, format) name = number,
#include "base/weight_types.inc"
};
struct GgmlTypeInfo {
  GgmlType type;
  std::string_view name;
  int64_t block_elements;
  size_t block_bytes;
};
std::optional<GgmlTypeInfo> ggml_type_info(uint32_t number);
std::string_view ggml_type_name(GgmlType type);
std::string ggml_type_names();  // "F32, F16, … or NVFP4"
// "type number 9 (Q8_1)": a type that kvass does not read, by the name that ggml gives it, if it does.
std::string unread_type(uint32_t number);

struct GgufTensor {
  std::string name;
  GgmlType type{};
  std::vector<int64_t> shape;  // up to 4 dimensions, the contiguous one first; none: one element
  size_t part = 0;             // of a split model: the file that has it, counted from 0
  size_t offset = 0;           // in that file, bytes; 0 for a tensor of GgufParts
  size_t bytes = 0;
  const uint8_t* data = nullptr;  // at any address: the file's alignment may be 1
  // How the rows lie at `data`. 0: in order. Otherwise groups of so many rows (a head of q or k), each with the even
  // rows of the tensor first: row 2i + j of a group lies at i + j * (head_rows / 2) of it.
  int64_t head_rows = 0;

  int64_t row_elements() const { return shape.empty() ? 1 : shape[0]; }
  int64_t rows() const;  // 0 or more
  size_t row_bytes() const { return bytes == 0 ? 0 : bytes / static_cast<size_t>(rows()); }
  const uint8_t* row(int64_t index) const;
  // Rows [first, first + count) one after the other: at `data`, or copied to `scratch` where they lie otherwise.
  const uint8_t* rows_at(int64_t first, int64_t count, std::vector<uint8_t>& scratch) const;
};

// The format's metadata value types.
enum class GgufValueType : uint32_t {
  u8 = 0,
  i8 = 1,
  u16 = 2,
  i16 = 3,
  u32 = 4,
  i32 = 5,
  f32 = 6,
  boolean = 7,
  string = 8,
  array = 9,
  u64 = 10,
  i64 = 11,
  f64 = 12
};
std::string_view gguf_value_type_name(GgufValueType type);

struct GgufEntry {
  std::string_view key;
  GgufValueType type{};
  GgufValueType element{};        // of an array
  uint64_t count = 1;             // elements of an array, else 1
  const uint8_t* data = nullptr;  // first byte of the value, or of the array's first element
  size_t bytes = 0;               // from there
};

// A model of another format as the file that a converter would make of it, without a copy of its matrices.
struct GgufParts {
  std::vector<uint8_t> metadata;            // the bytes of a file without tensors
  std::vector<GgufTensor> tensors;          // none twice; their data are in `maps` or `numbers`
  std::vector<FileMap> maps;                // of the files that hold the model
  std::vector<std::vector<float>> numbers;  // what had to be converted
};

class Gguf {
 public:
  static Result<Gguf> assemble(GgufParts parts, std::string name);
  // A whole file, or any part of a split one (…-00002-of-00003.gguf): the others are found beside it by their names,
  // and the metadata are the first part's.
  static Result<Gguf> open(const std::string& path);
  static Result<Gguf> open(FileMap file);
  // One file, a part as it is. `bytes` must outlive the result; `name` is the file's name in messages.
  static Result<Gguf> parse(std::span<const uint8_t> bytes, std::string name);

  const std::string& name() const { return names_.front(); }                               // has the metadata
  const std::string& name(const GgufTensor& tensor) const { return names_[tensor.part]; }  // has the tensor
  uint32_t version() const { return version_; }

  std::span<const GgufTensor> tensors() const { return tensors_; }
  const GgufTensor* find_tensor(std::string_view name) const;
  Result<const GgufTensor*> tensor(std::string_view name) const;
  // FileMap::check() of every file: to be asked after values or data were read and before they are used.
  Status check() const;
  // Releases the mapped pages of bytes [begin, begin + count) of a tensor. A later access reads them again.
  void release(const GgufTensor& tensor, size_t begin, size_t count) const;

  std::span<const GgufEntry> entries() const { return entries_; }
  const GgufEntry* find(std::string_view key) const;  // null: there is none
  bool has(std::string_view key) const { return find(key) != nullptr; }
  // Errors: the key is missing or of another type, or its value does not fit.
  Result<int64_t> get_int(std::string_view key) const;   // any integer type, or bool
  Result<double> get_float(std::string_view key) const;  // f32 or f64, or any integer type
  Result<bool> get_bool(std::string_view key) const;     // bytes 0 and 1
  Result<std::string_view> get_string(std::string_view key) const;
  Result<std::vector<int64_t>> get_ints(std::string_view key) const;
  Result<std::vector<float>> get_floats(std::string_view key) const;  // of f32 elements
  Result<std::vector<std::string_view>> get_strings(std::string_view key) const;
  // The same, but a missing key gives `fallback`. A wrong type is still an error.
  Result<int64_t> get_int_or(std::string_view key, int64_t fallback) const;
  Result<double> get_float_or(std::string_view key, double fallback) const;
  Result<bool> get_bool_or(std::string_view key, bool fallback) const;
  Result<std::string_view> get_string_or(std::string_view key, std::string_view fallback) const;

  // A short form of a value for people: long arrays and strings are truncated.
  std::string printable(const GgufEntry& entry) const;

 private:
  friend class GgufParser;
  Gguf() = default;
  static Result<Gguf> parse_part(FileMap map);
  Status check_metadata_of(const Gguf& part) const;  // a later part of a split model: an error if they are others
  Status append(Gguf part);
  Result<const GgufEntry*> entry(std::string_view key, std::string_view expected) const;
  Status wrong_type(const GgufEntry& entry, std::string_view expected) const;

  std::vector<std::string> names_;  // [parts]
  uint32_t version_ = 0;
  std::vector<FileMap> maps_;  // [parts], or those of GgufParts; none: of bytes that are somebody else's
  GgufParts parts_;            // what assemble() was given, without the tensors and maps
  std::vector<GgufEntry> entries_;
  std::vector<GgufTensor> tensors_;
  // Keys are names, views into the bytes. Trees, because a hostile file could choose names that collide in a hash
  // table.
  std::map<std::string_view, size_t> entry_index_;
  std::map<std::string_view, size_t> tensor_index_;
};

// Whether a path has the name of a part of a split model: NAME-00001-of-00003.gguf.
bool is_part_name(std::string_view path);

}  // namespace kvass
