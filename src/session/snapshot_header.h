// The header of a snapshot as bytes: what docs/snapshots.md says, written and read. Little-endian; nothing here knows
// sequences or files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "session/snapshot.h"

namespace kvass {

inline constexpr size_t kSnapshotFixedBytes = 64;  // magic, versions, sizes, checksum of the body, fingerprint
inline constexpr size_t kSnapshotAlignment = 64;   // of the body and of the header's size

// The header with its checksum, a multiple of 64 bytes. Its size does not depend on `body`, the checksum of keys and
// values. info.header_bytes is not read.
std::vector<uint8_t> write_snapshot_header(const SnapshotInfo& info, const Hash128& body);

// A header that is whole; what it says about a model is not checked.
struct SnapshotHeader {
  SnapshotInfo info;
  Hash128 body;
};
Result<SnapshotHeader> read_snapshot_header(std::span<const uint8_t> file, const std::string& name);

}  // namespace kvass
