#include "file/gguf_writer.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/os_error.h"

namespace kvass {
namespace {

void pad(std::vector<uint8_t>& out, uint64_t alignment) {
  out.resize((out.size() + alignment - 1) / alignment * alignment);
}

}  // namespace

void GgufWriter::put_text(std::vector<uint8_t>& out, std::string_view text) {
  put(out, static_cast<uint64_t>(text.size()));
  out.insert(out.end(), text.begin(), text.end());
}

void GgufWriter::key(std::string_view key, GgufValueType type) {
  put_text(metadata_, key);
  put(metadata_, type);
  ++entries_;
}

void GgufWriter::str(std::string_view name, std::string_view value) {
  key(name, GgufValueType::string);
  put_text(metadata_, value);
}

void GgufWriter::strs(std::string_view name, std::span<const std::string> values) {
  key(name, GgufValueType::array);
  put(metadata_, GgufValueType::string);
  put(metadata_, static_cast<uint64_t>(values.size()));
  for (const std::string& value : values) put_text(metadata_, value);
}

void GgufWriter::copy(const GgufEntry& entry) {
  key(entry.key, entry.type);
  if (entry.type == GgufValueType::array) {
    put(metadata_, entry.element);
    put(metadata_, entry.count);
  }
  metadata_.insert(metadata_.end(), entry.data, entry.data + entry.bytes);
}

size_t GgufWriter::announce(std::string_view name, GgmlType type, std::span<const int64_t> shape, size_t bytes) {
  const uint64_t offset = data_bytes_;
  put_text(tensor_infos_, name);
  put(tensor_infos_, static_cast<uint32_t>(shape.size()));
  for (int64_t size : shape) put(tensor_infos_, size);
  put(tensor_infos_, type);
  put(tensor_infos_, offset);
  data_bytes_ = (offset + bytes + alignment_ - 1) / alignment_ * alignment_;
  ++tensors_;
  return static_cast<size_t>(offset);
}

void GgufWriter::tensor(std::string_view name, GgmlType type, std::span<const int64_t> shape,
                        std::span<const uint8_t> bytes) {
  announce(name, type, shape, bytes.size());
  data_.insert(data_.end(), bytes.begin(), bytes.end());
  pad(data_, alignment_);
}

std::vector<uint8_t> GgufWriter::finish() const {
  std::vector<uint8_t> out = {'G', 'G', 'U', 'F'};
  put(out, version_);
  put(out, tensors_);
  put(out, entries_);
  out.insert(out.end(), metadata_.begin(), metadata_.end());
  out.insert(out.end(), tensor_infos_.begin(), tensor_infos_.end());
  pad(out, alignment_);
  out.insert(out.end(), data_.begin(), data_.end());
  return out;
}

Status GgufWriter::write(const std::string& path) const {
  const std::vector<uint8_t> bytes = finish();
  std::FILE* file = std::fopen(path.c_str(), "wb");
  if (!file) return os_error(path, "a file that can be written", errno);
  const bool written = std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size();
  if (std::fclose(file) != 0 || !written) return os_error(path, "a file that can be written", errno);
  return {};
}

}  // namespace kvass
