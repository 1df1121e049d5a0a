// Parses and checks bytes into the tables of a Gguf. Every length is compared with the bytes left before it is used,
// and no claimed count alone causes an allocation.
#include <algorithm>
#include <bit>
#include <cstring>

#include "file/byte_reader.h"
#include "file/gguf.h"
#include "file/one_line.h"

namespace kvass {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF is read as it lies in the file");

constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr uint64_t kMaxKeyBytes = 65535;
constexpr uint64_t kMaxTensorNameBytes = 127;  // the specification says 64; some converters write more
constexpr int kMaxDimensions = 4;
constexpr uint64_t kDefaultAlignment = 32;
constexpr uint64_t kMaxElements = uint64_t{1} << 48;
constexpr int kMaxNesting = 16;                    // of arrays
constexpr size_t kMinEntryBytes = 8 + 4 + 1;       // key length, type, the shortest value
constexpr size_t kMinArrayBytes = 4 + 8;           // element type, count
constexpr size_t kMinTensorBytes = 8 + 4 + 4 + 8;  // name length, dimensions, type, offset

size_t scalar_bytes(GgufValueType type) {
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
    case GgufValueType::f32:
      return 4;
    case GgufValueType::u64:
    case GgufValueType::i64:
    case GgufValueType::f64:
      return 8;
    case GgufValueType::string:
    case GgufValueType::array:
      return 0;
  }
  return 0;
}

}  // namespace

class GgufParser : ByteReader {
 public:
  GgufParser(std::span<const uint8_t> bytes, Gguf& out) : ByteReader(bytes, out.name()), out_(out) {}

  Status run() {
    uint32_t magic = 0;
    KVASS_RETURN_IF_ERROR(number("magic", magic));
    if (magic != kMagic) return fail("magic", "the bytes GGUF", "other bytes (not a GGUF file)");
    KVASS_RETURN_IF_ERROR(number("version", out_.version_));
    if (out_.version_ == 0x02000000 || out_.version_ == 0x03000000)
      return cannot("version", "a little-endian file", "a big-endian one");
    if (out_.version_ != 2 && out_.version_ != 3) return cannot("version", "2 or 3", std::to_string(out_.version_));
    uint64_t tensors = 0;
    uint64_t entries = 0;
    KVASS_RETURN_IF_ERROR(number("tensor count", tensors));
    KVASS_RETURN_IF_ERROR(number("metadata count", entries));
    KVASS_RETURN_IF_ERROR(count("metadata count", entries, kMinEntryBytes));
    for (uint64_t i = 0; i < entries; ++i) KVASS_RETURN_IF_ERROR(entry());
    KVASS_RETURN_IF_ERROR(count("tensor count", tensors, kMinTensorBytes));
    for (uint64_t i = 0; i < tensors; ++i) KVASS_RETURN_IF_ERROR(tensor());
    return place_tensors();
  }

 private:
  // The message is built only on an error: a vocabulary has 262,144 strings.
  Status text(std::string_view field, uint64_t most, std::string_view& value) {
    uint64_t length = 0;
    KVASS_RETURN_IF_ERROR(number(field, length));
    if (length > most || length > left()) {
      const uint64_t limit = std::min<uint64_t>(most, left());
      return fail(std::string(field) + " length", "at most " + std::to_string(limit), std::to_string(length));
    }
    value = {reinterpret_cast<const char*>(bytes_.data() + at_), static_cast<size_t>(length)};
    at_ += static_cast<size_t>(length);
    return {};
  }
  Status type(std::string_view field, GgufValueType& value) {
    uint32_t number_of_type = 0;
    KVASS_RETURN_IF_ERROR(number(field, number_of_type));
    if (number_of_type > 12) return fail(field, "0 to 12", std::to_string(number_of_type));
    value = static_cast<GgufValueType>(number_of_type);
    return {};
  }

  Status entry() {
    GgufEntry entry;
    KVASS_RETURN_IF_ERROR(text("metadata key " + std::to_string(out_.entries_.size()), kMaxKeyBytes, entry.key));
    const std::string field = "metadata " + quoted_name(entry.key);
    KVASS_RETURN_IF_ERROR(type(field + " type", entry.type));
    entry.element = entry.type;
    if (entry.type == GgufValueType::array) KVASS_RETURN_IF_ERROR(array(field, entry));
    entry.data = bytes_.data() + at_;
    if (entry.type == GgufValueType::array) {
      KVASS_RETURN_IF_ERROR(elements(field, entry, 1));
    } else if (entry.type == GgufValueType::string) {
      std::string_view ignored;
      KVASS_RETURN_IF_ERROR(text(field, left(), ignored));
    } else {
      const size_t bytes = scalar_bytes(entry.type);
      KVASS_RETURN_IF_ERROR(need(field + " value", bytes));
      at_ += bytes;
    }
    entry.bytes = static_cast<size_t>(bytes_.data() + at_ - entry.data);
    if (!out_.entry_index_.emplace(entry.key, out_.entries_.size()).second)
      return fail(field, "each key once", "it twice");
    out_.entries_.push_back(entry);
    return {};
  }
  // What an array begins with: the type of its elements and their number.
  Status array(const std::string& field, GgufEntry& entry) {
    KVASS_RETURN_IF_ERROR(type(field + " element type", entry.element));
    return number(field + " element count", entry.count);
  }
  // Goes past the elements of an array.
  Status elements(const std::string& field, const GgufEntry& entry, int depth) {
    if (entry.element == GgufValueType::array) {
      if (depth == kMaxNesting) {
        return fail(field, "arrays at most " + std::to_string(kMaxNesting) + " deep", "deeper ones");
      }
      KVASS_RETURN_IF_ERROR(count(field + " element count", entry.count, kMinArrayBytes));
      for (uint64_t i = 0; i < entry.count; ++i) {
        GgufEntry inner;
        KVASS_RETURN_IF_ERROR(array(field, inner));
        KVASS_RETURN_IF_ERROR(elements(field, inner, depth + 1));
      }
    } else if (entry.element == GgufValueType::string) {
      KVASS_RETURN_IF_ERROR(count(field + " element count", entry.count, sizeof(uint64_t)));
      std::string_view ignored;
      for (uint64_t i = 0; i < entry.count; ++i) KVASS_RETURN_IF_ERROR(text(field, left(), ignored));
    } else {
      const size_t each = scalar_bytes(entry.element);
      KVASS_RETURN_IF_ERROR(count(field + " element count", entry.count, each));
      at_ += static_cast<size_t>(entry.count) * each;
    }
    return {};
  }

  Status tensor() {
    GgufTensor tensor;
    std::string_view name;
    KVASS_RETURN_IF_ERROR(text("tensor name " + std::to_string(out_.tensors_.size()), kMaxTensorNameBytes, name));
    tensor.name = name;
    const std::string field = "tensor " + quoted_name(name);
    uint32_t dimensions = 0;
    KVASS_RETURN_IF_ERROR(number(field + " dimensions", dimensions));
    if (dimensions > kMaxDimensions) return fail(field + " dimensions", "0 to 4", std::to_string(dimensions));
    uint64_t elements = 1;
    for (uint32_t i = 0; i < dimensions; ++i) {
      uint64_t size = 0;
      KVASS_RETURN_IF_ERROR(number(field + " shape", size));
      if (size > kMaxElements / std::max<uint64_t>(elements, 1)) {
        return fail(field + " shape", "at most 2^48 elements", std::to_string(size) + " in a dimension");
      }
      elements *= size;
      tensor.shape.push_back(static_cast<int64_t>(size));
    }
    uint32_t number_of_type = 0;
    KVASS_RETURN_IF_ERROR(number(field + " type", number_of_type));
    const std::optional<GgmlTypeInfo> info = ggml_type_info(number_of_type);
    if (!info) {
      return cannot(field + " type", ggml_type_names(), unread_type(number_of_type));
    }
    tensor.type = info->type;
    const int64_t row = tensor.shape.empty() ? 1 : tensor.shape[0];
    if (row % info->block_elements != 0) {
      return fail(field + " row length",
                  "a multiple of " + std::to_string(info->block_elements) + " (" + std::string(info->name) + ")",
                  std::to_string(row));
    }
    tensor.bytes = static_cast<size_t>(elements / static_cast<uint64_t>(info->block_elements)) * info->block_bytes;
    uint64_t offset = 0;
    KVASS_RETURN_IF_ERROR(number(field + " offset", offset));
    tensor.offset = static_cast<size_t>(offset);  // from the start of the data; place_tensors adds that
    if (!out_.tensor_index_.emplace(name, out_.tensors_.size()).second)
      return fail(field, "each tensor once", "it twice");
    out_.tensors_.push_back(std::move(tensor));
    return {};
  }

  Result<uint64_t> alignment() const {
    if (!out_.has("general.alignment")) return kDefaultAlignment;
    KVASS_ASSIGN_OR_RETURN(const int64_t value, out_.get_int("general.alignment"));
    if (value > 0 && std::has_single_bit(static_cast<uint64_t>(value))) return static_cast<uint64_t>(value);
    return fail("general.alignment", "a power of two", std::to_string(value));
  }

  Status place_tensors() {
    KVASS_ASSIGN_OR_RETURN(const uint64_t alignment, this->alignment());
    const auto aligned = [&](uint64_t offset) { return (offset + alignment - 1) / alignment * alignment; };
    const uint64_t data = aligned(at_);
    const uint64_t room = bytes_.size() - std::min<uint64_t>(data, bytes_.size());
    uint64_t end = at_;
    for (GgufTensor& tensor : out_.tensors_) {
      if (tensor.bytes == 0) continue;
      const std::string field = "tensor " + quoted_name(tensor.name);
      if (data > bytes_.size())
        return fail("tensor data", "a start before the end of the file", "a file that ends before it");
      if (tensor.offset % alignment != 0) {
        return fail(field + " offset", "a multiple of " + std::to_string(alignment), std::to_string(tensor.offset));
      }
      if (tensor.offset > room || tensor.bytes > room - tensor.offset) {
        return fail(field + " data", std::to_string(tensor.bytes) + " bytes at offset " + std::to_string(tensor.offset),
                    "tensor data of " + std::to_string(room) + " bytes (is the file cut off?)");
      }
      tensor.offset += static_cast<size_t>(data);
      tensor.data = bytes_.data() + tensor.offset;
      end = std::max<uint64_t>(end, tensor.offset + tensor.bytes);
    }
    for (const uint64_t offset : {end, aligned(end)}) KVASS_RETURN_IF_ERROR(check_end(offset));
    return {};
  }
  // An error if another GGUF file begins at `offset`: somebody has put two together.
  Status check_end(uint64_t offset) const {
    constexpr size_t kBegin = 2 * sizeof(uint32_t);
    if (offset > bytes_.size() || bytes_.size() - offset < kBegin) return {};
    uint32_t words[2];
    std::memcpy(words, bytes_.data() + offset, kBegin);
    if (words[0] != kMagic || words[1] < 2 || words[1] > 3) return {};
    const bool split = out_.has("split.count");
    return fail("end of the tensor data", "the end of the file",
                "another GGUF file at offset " + std::to_string(offset) +
                    (split ? " (parts of a split model, put together byte by byte: they stay files of their own, named "
                             "NAME-00001-of-00003.gguf and so on)"
                           : " (two files, put together)"));
  }

  Gguf& out_;
};

Result<Gguf> Gguf::parse(std::span<const uint8_t> bytes, std::string name) {
  Gguf file;
  file.names_.push_back(std::move(name));
  KVASS_RETURN_IF_ERROR(GgufParser(bytes, file).run());
  return file;
}

Result<Gguf> Gguf::assemble(GgufParts parts, std::string name) {
  Gguf file;
  file.names_.push_back(std::move(name));
  file.parts_ = std::move(parts);
  KVASS_RETURN_IF_ERROR(GgufParser(file.parts_.metadata, file).run());
  file.tensors_ = std::move(file.parts_.tensors);
  file.maps_ = std::move(file.parts_.maps);
  for (size_t i = 0; i < file.tensors_.size(); ++i) file.tensor_index_.emplace(file.tensors_[i].name, i);
  return file;
}

}  // namespace kvass
