// The bytes of a sequence's caches: a block of this machine's memory, or of the device's on which its engine runs.
// Mapped once, zeroed, never grown. Sequences move bytes through it and do not look at where they are. Every call
// returns when it is done.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/block.h"
#include "device/runtime.h"
#include "kvass/status.h"

namespace kvass {

class CacheMemory {
 public:
  CacheMemory() = default;
  static Result<CacheMemory> map(const DeviceRuntime* device, size_t bytes);  // null: this machine's memory

  uint8_t* data() { return device_ ? on_device_.data() : here_.data(); }  // where the ops run
  const uint8_t* data() const { return device_ ? on_device_.data() : here_.data(); }

  // Bytes [offset, offset + bytes) as this machine reads them; valid until the next call.
  Result<std::span<const uint8_t>> read(size_t offset, size_t bytes) const;
  Status write(size_t offset, const uint8_t* from, size_t bytes);
  // From a memory of the same kind, this one included.
  Status copy(size_t offset, const CacheMemory& from, size_t from_offset, size_t bytes);

 private:
  const DeviceRuntime* device_ = nullptr;
  Block here_;
  DeviceBlock on_device_;
  mutable std::vector<uint8_t> read_;  // of a device: what was read last
};

}  // namespace kvass
