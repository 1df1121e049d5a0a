// Which tokens the caches hold already. Sequences that no text runs in keep what they have; a new text begins at the
// longest prefix that one of them has and can go back to: a full layer at any position, a ring where it still has the
// keys, or at a checkpoint. A text that runs is copied from as well. A hit changes no bit of an answer.
//
// All sequences are mapped in the beginning. Of the scheduler's thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "session/sequence.h"
#include "text/tokenizer.h"

namespace kvass::serve {

class PrefixStore {
 public:
  // Checkpoints are made at this distance while a prompt is read, so that a later text can go back there.
  static constexpr int64_t kCheckpointDistance = 1024;

  // At most `most_taken` of the sequences have a text that runs.
  PrefixStore(std::vector<std::unique_ptr<Sequence>> sequences, int64_t most_taken,
              std::shared_ptr<const Tokenizer> tokenizer);

  // A text's place: a sequence whose first `reused` tokens are those of the text.
  struct Place {
    size_t index = 0;
    Sequence* sequence = nullptr;
    int64_t reused = 0;
    std::string reason;  // why no more is reused; empty: all is
    std::string detail;  // the same with the texts, for the operator alone
  };

  bool has_room() const;  // for one more text
  // For these tokens, of which the last is always run; what other owners' texts had is never used, so that nobody
  // learns of it. `reuse`: otherwise it begins with nothing. There is room.
  Result<Place> take(std::span<const int32_t> ids, const std::string& owner, bool reuse);
  // Keeps a position of a text that runs.
  void checkpoint(size_t index);
  // The text has ended: `generated` follows what it was taken for. The sequence keeps what it has of them.
  void give_back(size_t index, std::span<const int32_t> generated);

  int64_t size() const { return static_cast<int64_t>(entries_.size()); }
  // Whether a text that runs is about to have a longer prefix of these tokens than there is now: worth waiting for.
  bool worth_waiting(std::span<const int32_t> ids, const std::string& owner) const;

 private:
  struct Entry {
    std::unique_ptr<Sequence> sequence;
    std::vector<int32_t> ids;  // that it holds, or will when it has run
    std::string owner;         // of them
    bool taken = false;
    int64_t used = 0;  // the order in which they were
  };
  std::string text_of(std::span<const int32_t> ids, size_t at) const;

  std::vector<Entry> entries_;
  int64_t most_taken_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  int64_t clock_ = 0;
};

}  // namespace kvass::serve
