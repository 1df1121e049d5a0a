#include "file/gguf.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <iterator>
#include <limits>

#include "file/one_line.h"

namespace kvass {
namespace {

constexpr GgmlTypeInfo kTypes[] = {
#define KVASS_WEIGHT_TYPE(name, number, elements, bytes, format) {GgmlType::name, #name, elements, bytes},
#include "base/weight_types.inc"
};

constexpr std::string_view kValueTypes[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                            "bool", "string", "array", "u64", "i64", "f64"};

template <class T>
T load(const uint8_t* data) {
  T value;
  std::memcpy(&value, data, sizeof value);
  return value;
}

// The integer scalar at `data`; empty for a u64 beyond int64, for a bool that is neither 0 nor 1 and for other types.
std::optional<int64_t> integer(GgufValueType type, const uint8_t* data) {
  switch (type) {
    case GgufValueType::u8:
      return *data;
    case GgufValueType::i8:
      return static_cast<int8_t>(*data);
    case GgufValueType::boolean:
      return *data <= 1 ? std::optional<int64_t>(*data) : std::nullopt;
    case GgufValueType::u16:
      return load<uint16_t>(data);
    case GgufValueType::i16:
      return load<int16_t>(data);
    case GgufValueType::u32:
      return load<uint32_t>(data);
    case GgufValueType::i32:
      return load<int32_t>(data);
    case GgufValueType::i64:
      return load<int64_t>(data);
    case GgufValueType::u64: {
      const uint64_t value = load<uint64_t>(data);
      if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
      return static_cast<int64_t>(value);
    }
    default:
      return std::nullopt;
  }
}

bool is_integer(GgufValueType type) {
  return type != GgufValueType::f32 && type != GgufValueType::f64 && type != GgufValueType::string &&
         type != GgufValueType::array;
}

size_t integer_bytes(GgufValueType type) {
  switch (type) {
    case GgufValueType::u8:
    case GgufValueType::i8:
    case GgufValueType::boolean:
      return 1;
    case GgufValueType::u16:
    case GgufValueType::i16:
      return 2;
    case GgufValueType::u32:
    case GgufValueType::i32:
      return 4;
    default:
      return 8;
  }
}

// The string at `data`; moves `data` past it. Its length was checked when the file was parsed.
std::string_view take_string(const uint8_t*& data) {
  const size_t length = static_cast<size_t>(load<uint64_t>(data));
  const std::string_view text(reinterpret_cast<const char*>(data + 8), length);
  data += 8 + length;
  return text;
}

// The shortest decimal that reads back as the same number.
template <class T>
std::string decimal(T value) {
  char text[64];
  return std::string(text, std::to_chars(text, text + sizeof text, value).ptr);
}

}  // namespace

int64_t GgufTensor::rows() const {
  int64_t count = 1;
  for (size_t i = 1; i < shape.size(); ++i) count *= shape[i];
  return count;
}

const uint8_t* GgufTensor::row(int64_t index) const {
  if (head_rows != 0) {
    const int64_t head = index / head_rows, within = index % head_rows;
    index = head * head_rows + within / 2 + within % 2 * (head_rows / 2);
  }
  return data + static_cast<size_t>(index) * row_bytes();
}

const uint8_t* GgufTensor::rows_at(int64_t first, int64_t count, std::vector<uint8_t>& scratch) const {
  if (head_rows == 0) return row(first);
  const size_t size = row_bytes();
  scratch.resize(static_cast<size_t>(count) * size);
  for (int64_t i = 0; i < count; ++i) std::memcpy(&scratch[static_cast<size_t>(i) * size], row(first + i), size);
  return scratch.data();
}

std::optional<GgmlTypeInfo> ggml_type_info(uint32_t number) {
  for (const GgmlTypeInfo& info : kTypes) {
    if (static_cast<uint32_t>(info.type) == number) return info;
  }
  return std::nullopt;
}

std::string_view ggml_type_name(GgmlType type) {
  const std::optional<GgmlTypeInfo> info = ggml_type_info(static_cast<uint32_t>(type));
  return info ? info->name : "?";
}

std::string ggml_type_names() {
  std::string names;
  for (const GgmlTypeInfo& info : kTypes) {
    if (&info != kTypes) names += &info == std::end(kTypes) - 1 ? " or " : ", ";
    names += info.name;
  }
  return names;
}

std::string unread_type(uint32_t number) {
  // Of intermediate results, of integers, of the newest version, and of older ones that were given up.
  struct Unread {
    uint32_t number;
    std::string_view name;
  };
  constexpr Unread kUnread[] = {{4, "Q4_2"},        {5, "Q4_3"},        {9, "Q8_1"},        {15, "Q8_K"},
                                {24, "I8"},         {25, "I16"},        {26, "I32"},        {27, "I64"},
                                {28, "F64"},        {31, "Q4_0_4_4"},   {32, "Q4_0_4_8"},   {33, "Q4_0_8_8"},
                                {36, "IQ4_NL_4_4"}, {37, "IQ4_NL_4_8"}, {38, "IQ4_NL_8_8"}, {41, "Q1_0"}};
  std::string text = "type number " + std::to_string(number);
  for (const Unread& type : kUnread) {
    if (type.number == number) text += " (" + std::string(type.name) + ")";
  }
  return text;
}

std::string_view gguf_value_type_name(GgufValueType type) { return kValueTypes[static_cast<size_t>(type)]; }

const GgufTensor* Gguf::find_tensor(std::string_view name) const {
  const auto found = tensor_index_.find(name);
  return found == tensor_index_.end() ? nullptr : &tensors_[found->second];
}

Result<const GgufTensor*> Gguf::tensor(std::string_view name) const {
  if (const GgufTensor* tensor = find_tensor(name)) return tensor;
  return bad_input(names_.front() + ": tensor " + quoted_name(name), "it in the file", "none of that name");
}

Status Gguf::check() const {
  for (const FileMap& map : maps_) KVASS_RETURN_IF_ERROR(map.check());
  return {};
}

void Gguf::release(const GgufTensor& tensor, size_t begin, size_t count) const {
  for (const FileMap& map : maps_) {
    const std::span<const uint8_t> bytes = map.bytes();
    if (tensor.data < bytes.data() || tensor.data >= bytes.data() + bytes.size()) continue;
    return map.release(static_cast<size_t>(tensor.data - bytes.data()) + begin, count);
  }
}

const GgufEntry* Gguf::find(std::string_view key) const {
  const auto found = entry_index_.find(key);
  return found == entry_index_.end() ? nullptr : &entries_[found->second];
}

Result<const GgufEntry*> Gguf::entry(std::string_view key, std::string_view expected) const {
  if (const GgufEntry* entry = find(key)) return entry;
  return bad_input(name() + ": metadata " + quoted_name(key), expected, "no such key");
}

Status Gguf::wrong_type(const GgufEntry& entry, std::string_view expected) const {
  std::string got(gguf_value_type_name(entry.type));
  if (entry.type == GgufValueType::array) got += " of " + std::string(gguf_value_type_name(entry.element));
  if (entry.type == GgufValueType::boolean && *entry.data > 1) got += " of value " + std::to_string(*entry.data);
  return bad_input(name() + ": metadata " + quoted_name(entry.key), expected, got);
}

Result<int64_t> Gguf::get_int(std::string_view key) const {
  constexpr std::string_view kExpected = "an integer below 2^63";
  KVASS_ASSIGN_OR_RETURN(const GgufEntry* found, entry(key, kExpected));
  if (const std::optional<int64_t> value = integer(found->type, found->data)) return *value;
  return wrong_type(*found, kExpected);
}

Result<double> Gguf::get_float(std::string_view key) const {
  constexpr std::string_view kExpected = "a number";
  KVASS_ASSIGN_OR_RETURN(const GgufEntry* found, entry(key, kExpected));
  if (found->type == GgufValueType::f32) return static_cast<double>(load<float>(found->data));
  if (found->type == GgufValueType::f64) return load<double>(found->data);
  if (const std::optional<int64_t> value = integer(found->type, found->data)) return static_cast<double>(*value);
  return wrong_type(*found, kExpected);
}

Result<bool> Gguf::get_bool(std::string_view key) const {
  constexpr std::string_view kExpected = "a bool";
  KVASS_ASSIGN_OR_RETURN(const GgufEntry* found, entry(key, kExpected));
  if (found->type == GgufValueType::boolean && *found->data <= 1) return *found->data != 0;
  return wrong_type(*found, kExpected);
}

Result<std::string_view> Gguf::get_string(std::string_view key) const {
  constexpr std::string_view kExpected = "a string";
  KVASS_ASSIGN_OR_RETURN(const GgufEntry* found, entry(key, kExpected));
  if (found->type != GgufValueType::string) return wrong_type(*found, kExpected);
  const uint8_t* data = found->data;
  return take_string(data);
}

Result<std::vector<int64_t>> Gguf::get_ints(std::string_view key) const {
  constexpr std::string_view kExpected = "an array of integers below 2^63";
  KVASS_ASSIGN_OR_RETURN(const GgufEntry* found, entry(key, kExpected));
  if (found->type != GgufValueType::array || !is_integer(found->element)) return wrong_type(*found, kExpected);
  std::vector<int64_t> values;
  values.reserve(found->count);
  for (uint64_t i = 0; i < found->count; ++i) {
    const std::optional<int64_t> value = integer(found->element, found->data + i * integer_bytes(found->element));
    if (!value) return wrong_type(*found, kExpected);
    values.push_back(*value);
  }
  return values;
}

Result<std::vector<float>> Gguf::get_floats(std::string_view key) const {
  constexpr std::string_view kExpected = "an array of f32";
  KVASS_ASSIGN_OR_RETURN(const GgufEntry* found, entry(key, kExpected));
  if (found->type != GgufValueType::array || found->element != GgufValueType::f32) return wrong_type(*found, kExpected);
  std::vector<float> values(found->count);
  if (!values.empty()) std::memcpy(values.data(), found->data, values.size() * sizeof(float));
  return values;
}

Result<std::vector<std::string_view>> Gguf::get_strings(std::string_view key) const {
  constexpr std::string_view kExpected = "an array of strings";
  KVASS_ASSIGN_OR_RETURN(const GgufEntry* found, entry(key, kExpected));
  if (found->type != GgufValueType::array || found->element != GgufValueType::string)
    return wrong_type(*found, kExpected);
  std::vector<std::string_view> values;
  values.reserve(found->count);
  const uint8_t* data = found->data;
  for (uint64_t i = 0; i < found->count; ++i) values.push_back(take_string(data));
  return values;
}

Result<int64_t> Gguf::get_int_or(std::string_view key, int64_t fallback) const {
  return has(key) ? get_int(key) : Result<int64_t>(fallback);
}

Result<double> Gguf::get_float_or(std::string_view key, double fallback) const {
  return has(key) ? get_float(key) : Result<double>(fallback);
}

Result<bool> Gguf::get_bool_or(std::string_view key, bool fallback) const {
  return has(key) ? get_bool(key) : Result<bool>(fallback);
}

Result<std::string_view> Gguf::get_string_or(std::string_view key, std::string_view fallback) const {
  return has(key) ? get_string(key) : Result<std::string_view>(fallback);
}

std::string Gguf::printable(const GgufEntry& entry) const {
  constexpr uint64_t kShown = 6;
  const bool array = entry.type == GgufValueType::array;
  if (entry.element == GgufValueType::array) return "[" + std::to_string(entry.count) + " arrays]";
  const uint8_t* data = entry.data;
  std::string out = array ? "[" : "";
  for (uint64_t i = 0; i < std::min(entry.count, kShown); ++i) {
    if (i > 0) out += ", ";
    if (entry.element == GgufValueType::string) {
      out += one_line(take_string(data), 60, ' ');
      continue;
    }
    if (entry.element == GgufValueType::f32) {
      out += decimal(load<float>(data));
    } else if (entry.element == GgufValueType::f64) {
      out += decimal(load<double>(data));
    } else if (const std::optional<int64_t> value = integer(entry.element, data)) {
      out += entry.element == GgufValueType::boolean ? (*value ? "true" : "false") : std::to_string(*value);
    } else {
      out += entry.element == GgufValueType::boolean ? std::to_string(*data) : std::to_string(load<uint64_t>(data));
    }
    data += integer_bytes(entry.element == GgufValueType::f32 ? GgufValueType::u32 : entry.element);
  }
  if (entry.count > kShown) out += ", … " + std::to_string(entry.count) + " in all";
  return out + (array ? "]" : "");
}

}  // namespace kvass
