#include "session/cache_memory.h"

#include <cstring>

namespace kvass {

Result<CacheMemory> CacheMemory::map(const DeviceRuntime* device, size_t bytes) {
  CacheMemory memory;
  memory.device_ = device;
  if (!device) {
    KVASS_ASSIGN_OR_RETURN(memory.here_, Block::map(bytes, "caches"));
    return memory;
  }
  KVASS_ASSIGN_OR_RETURN(memory.on_device_, DeviceBlock::map(*device, bytes, "caches"));
  if (bytes == 0) return memory;
  KVASS_RETURN_IF_ERROR(device->fill(memory.on_device_.data(), 0, bytes, nullptr));
  KVASS_RETURN_IF_ERROR(device->synchronise(nullptr));
  return memory;
}

Result<std::span<const uint8_t>> CacheMemory::read(size_t offset, size_t bytes) const {
  if (!device_) return std::span(here_.data() + offset, bytes);
  if (read_.size() < bytes) read_.resize(bytes);
  KVASS_RETURN_IF_ERROR(device_->copy(read_.data(), on_device_.data() + offset, bytes, CopyKind::to_host, nullptr));
  KVASS_RETURN_IF_ERROR(device_->synchronise(nullptr));
  return std::span<const uint8_t>(read_.data(), bytes);
}

Status CacheMemory::write(size_t offset, const uint8_t* from, size_t bytes) {
  if (!device_) {
    if (bytes > 0) std::memcpy(here_.data() + offset, from, bytes);
    return {};
  }
  KVASS_RETURN_IF_ERROR(device_->copy(on_device_.data() + offset, from, bytes, CopyKind::to_device, nullptr));
  return device_->synchronise(nullptr);
}

Status CacheMemory::copy(size_t offset, const CacheMemory& from, size_t from_offset, size_t bytes) {
  if (!device_) {
    if (bytes > 0) std::memcpy(here_.data() + offset, from.here_.data() + from_offset, bytes);
    return {};
  }
  KVASS_RETURN_IF_ERROR(device_->copy(on_device_.data() + offset, from.on_device_.data() + from_offset, bytes,
                                      CopyKind::on_device, nullptr));
  return device_->synchronise(nullptr);
}

}  // namespace kvass
