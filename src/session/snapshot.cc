#include "session/snapshot.h"

#include <utility>

#include "base/busy.h"
#include "kvass/version.h"
#include "session/snapshot_header.h"

namespace kvass {
namespace {

// The first field in which two plans differ, as an error; checkpoints are no part of a snapshot.
Status same_caches(const std::string& name, const CacheOptions& snapshot, const CacheOptions& sequence) {
  const auto differ = [&](std::string_view what, const std::string& expected, const std::string& got) {
    return bad_input(name + ": " + std::string(what), expected, got);
  };
  struct Size {
    const char* name;
    int64_t CacheOptions::*field;
  };
  constexpr Size kSizes[] = {{"context", &CacheOptions::context},
                             {"chunk", &CacheOptions::chunk},
                             {"sink tokens", &CacheOptions::sink_tokens},
                             {"sink window", &CacheOptions::sink_window},
                             {"rotary offset", &CacheOptions::rotary_offset}};
  if (snapshot.dtype != sequence.dtype) {
    return differ("storage of keys and values", std::string(dtype_name(sequence.dtype)),
                  std::string(dtype_name(snapshot.dtype)));
  }
  if (snapshot.sinks != sequence.sinks) {
    return differ("sinks", sequence.sinks ? "some" : "none", snapshot.sinks ? "some" : "none");
  }
  if (snapshot.sink_positions != sequence.sink_positions) {
    return differ("sink positions", std::string(sink_positions_name(sequence.sink_positions)),
                  std::string(sink_positions_name(snapshot.sink_positions)));
  }
  for (const Size& size : kSizes) {
    if (snapshot.*size.field != sequence.*size.field) {
      return differ(size.name, std::to_string(sequence.*size.field), std::to_string(snapshot.*size.field));
    }
  }
  return {};
}

Status check_tokens(const std::string& name, const std::vector<int32_t>& tokens, int64_t vocabulary) {
  for (int32_t token : tokens) {
    if (token < 0 || token >= vocabulary) {
      return bad_input(name + ": token id", "0 to " + std::to_string(vocabulary - 1), std::to_string(token));
    }
  }
  return {};
}

}  // namespace

Status save_snapshot(const Sequence& sequence, const StreamState& state, const std::string& path,
                     const FileLock* held) {
  const Busy busy(sequence.busy());
  if (!busy.mine()) return Sequence::busy_error();
  KVASS_RETURN_IF_ERROR(check_snapshot_path(path));
  SnapshotInfo info;
  info.version = kSnapshotVersion;
  info.numerics = static_cast<uint32_t>(kNumericsVersion);
  info.fingerprint = sequence.engine().fingerprint();
  KVASS_RETURN_IF_ERROR(sequence.engine().weights().check());  // the fingerprint is made of them
  info.math = sequence.engine().math();
  info.caches = sequence.options();
  info.length = sequence.length();
  info.first_held = sequence.first_held();
  info.cross = sequence.cross_fill();
  info.state = state;
  info.body_bytes = sequence.held_bytes();

  KVASS_ASSIGN_OR_RETURN(NewFile file, NewFile::create(path, held));
  const size_t header_bytes = write_snapshot_header(info, {}).size();
  size_t at = header_bytes;
  Hasher hasher;
  KVASS_RETURN_IF_ERROR(sequence.for_each_held([&](std::span<const uint8_t> piece) {
    hasher.add(piece);
    Status written = file.write(at, piece);
    at += piece.size();
    return written;
  }));
  KVASS_RETURN_IF_ERROR(file.write(0, write_snapshot_header(info, hasher.result())));
  return file.commit();
}

Status check_snapshot_path(const std::string& path) { return check_replaceable(path, kSnapshotMagic, "a snapshot"); }

bool is_snapshot(const std::string& path) { return begins_with(path, kSnapshotMagic); }

Result<Snapshot> Snapshot::open(const std::string& path) {
  KVASS_ASSIGN_OR_RETURN(FileMap map, FileMap::open(path));
  KVASS_ASSIGN_OR_RETURN(Snapshot snapshot, map.checked(parse(map.bytes(), path)));
  snapshot.map_.emplace(std::move(map));
  return snapshot;
}

Result<Snapshot> Snapshot::parse(std::span<const uint8_t> bytes, const std::string& name) {
  KVASS_ASSIGN_OR_RETURN(SnapshotHeader header, read_snapshot_header(bytes, name));
  const SnapshotInfo& info = header.info;
  const size_t body_bytes = bytes.size() - info.header_bytes;
  if (body_bytes != info.body_bytes) {
    return bad_input(name, std::to_string(info.body_bytes) + " bytes of keys and values",
                     std::to_string(body_bytes) + (body_bytes < info.body_bytes ? " (cut off)" : " (damaged)"));
  }
  Snapshot snapshot;
  snapshot.body_ = bytes.subspan(info.header_bytes);
  const Hash128 computed = hash_bytes(snapshot.body_);
  if (computed != header.body) {
    return bad_input(name, "keys and values with the checksum " + hash_text(header.body),
                     hash_text(computed) + " (damaged)");
  }
  snapshot.name_ = name;
  snapshot.info_ = std::move(header.info);
  return snapshot;
}

Status Snapshot::restore(Sequence& sequence) const {
  if (map_) KVASS_RETURN_IF_ERROR(map_->check());
  const Engine& engine = sequence.engine();
  if (info_.math != engine.math()) {
    return bad_input(name_ + ": StreamOptions.math", std::string(math_name(engine.math())),
                     std::string(math_name(info_.math)));
  }
  const Hash128& fingerprint = engine.fingerprint();
  KVASS_RETURN_IF_ERROR(engine.weights().check());
  if (info_.fingerprint != fingerprint) {
    return bad_input(name_, "a snapshot of this model, " + hash_text(fingerprint),
                     "one of another, " + hash_text(info_.fingerprint));
  }
  KVASS_RETURN_IF_ERROR(same_caches(name_, info_.caches, sequence.options()));
  const int64_t vocabulary = engine.program().vocabulary();
  KVASS_RETURN_IF_ERROR(check_tokens(name_, info_.state.recent, vocabulary));
  KVASS_RETURN_IF_ERROR(check_tokens(name_, info_.state.pending, vocabulary));
  KVASS_RETURN_IF_ERROR(check_tokens(name_, info_.state.chat.ids, vocabulary));
  KVASS_RETURN_IF_ERROR(check_tokens(name_, info_.state.chat.answer, vocabulary));
  const Status status = sequence.restore(info_.length, info_.first_held, info_.cross, body_);
  if (!status.ok()) return status.with_message(name_ + ": " + status.message());
  const Status same = map_ ? map_->check() : Status();
  if (!same.ok()) KVASS_RETURN_IF_ERROR(sequence.clear());  // its old keys are overwritten
  return same;
}

}  // namespace kvass
