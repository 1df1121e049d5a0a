// Snapshots: a stream in a file. What a sequence's caches hold, where it stands, and what its owner needs to go on with
// sampling and text. A stream that is restored goes on bit for bit: in another process, with other threads, on another
// instruction set. docs/snapshots.md has the format.
//
// A snapshot belongs to one model, arithmetic, plan and numerics version; every other one refuses it. Files are taken
// for hostile: everything is verified before a sequence changes. A snapshot is not a model, and checkpoints are not in
// it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/file_map.h"
#include "base/hash.h"
#include "base/new_file.h"
#include "kvass/cache_plan.h"
#include "kvass/status.h"
#include "ops/linear/linear.h"
#include "ops/sample/sample.h"
#include "session/sequence.h"

namespace kvass {

inline constexpr char kSnapshotMagic[] = "KVASSNAP";  // 8 bytes without the terminator
inline constexpr uint32_t kSnapshotVersion = 4;       // of the file format

// A conversation: all that its next turn is made of. Its owner (app/chat_history.h) explains the tokens; here it is
// data.
struct ChatState {
  std::string chat_template;          // jinja; empty: no conversation
  std::string system;                 // what the model was told before it
  std::string tools, variables, now;  // for the template: JSON, JSON, the time that its clock shows
  std::vector<std::string> messages;  // a user's and an answer, by turns; the last answer may be missing:
  std::vector<int32_t> answer;        // then these are its tokens so far, and StreamState has pending ones
  std::vector<int64_t> turn_ends;     // [messages / 2] positions of the stream
  int64_t turns = 0;                  // so far, those included that are forgotten
  // What the stream holds, as long as that is what the template renders; otherwise empty.
  std::string text;
  std::vector<int32_t> ids;   // of the stream
  std::vector<int64_t> ends;  // [ids] bytes of `text` up to the end of a token; -1: the text may not be divided there
};

// What goes on beside the caches. The owner of the stream fills it in and takes it up again; here it is data.
struct StreamState {
  SampleOptions sampling;
  bool ignore_eos = false;
  std::vector<std::string> stops;
  std::vector<int32_t> recent;   // Sampler::recent()
  std::vector<int32_t> pending;  // the next tokens: the sampler has seen them, the caches have not
  std::string undecoded;         // StreamDecoder::pending(), at most 3 bytes
  std::string held;              // StopMatcher::held()
  ChatState chat;                // of a conversation
  bool is_chat() const { return !chat.chat_template.empty(); }
};

// The header.
struct SnapshotInfo {
  uint32_t version = 0;
  uint32_t numerics = 0;
  Hash128 fingerprint;  // Engine::fingerprint()
  Math math = Math::a16;
  CacheOptions caches;              // without checkpoints
  int64_t length = 0;               // tokens in the caches
  std::vector<int64_t> first_held;  // [layers]
  CrossFill cross;                  // encoder output
  size_t header_bytes = 0;
  size_t body_bytes = 0;  // keys and values, and encoder output
  StreamState state;
};

// Writes the new file beside `path`, syncs it and renames it (base/new_file.h). On an error what was there is still
// there. Nothing is copied: keys and values go from the caches to the file. The sequence does not step meanwhile.
// A file that is there already must be a snapshot, or empty. `held`: the caller's lock of `path`; null: it is taken.
Status save_snapshot(const Sequence& sequence, const StreamState& state, const std::string& path,
                     const FileLock* held = nullptr);

// Whether such a file can be written at `path`, as far as that can be said before it is.
Status check_snapshot_path(const std::string& path);

// Whether the file at `path` begins as snapshots do.
bool is_snapshot(const std::string& path);

class Snapshot {
 public:
  // Verifies form, versions and checksums. The file is mapped; the snapshot owns the mapping.
  static Result<Snapshot> open(const std::string& path);
  // The same of bytes that outlive the snapshot; messages name it `name`.
  static Result<Snapshot> parse(std::span<const uint8_t> bytes, const std::string& name);

  const SnapshotInfo& info() const { return info_; }
  // The sequence of `info().caches` becomes the stream that was saved; on an error it is as it was, or empty where a
  // device's memory failed midway or the file changed meanwhile. The tokens of the state are then known to be of the
  // vocabulary.
  Status restore(Sequence& sequence) const;

 private:
  Snapshot() = default;
  std::string name_;
  std::optional<FileMap> map_;
  SnapshotInfo info_;
  std::span<const uint8_t> body_;
};

}  // namespace kvass
