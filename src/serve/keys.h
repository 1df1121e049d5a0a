// The keys that clients may use, one on each line of a file. Of a key only its SHA-256 is kept, whose beginning names
// its owner. Any thread.
#pragma once

#include <array>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kvass/status.h"

namespace kvass::serve {

class Keys {
 public:
  Status read(const std::string& path);  // replaces the keys that are there; on an error they stay
  // The owner of a key; none: it is not one. Takes as long for a wrong key as for a right one.
  std::optional<std::string> owner(std::string_view key) const;

 private:
  using Digest = std::array<unsigned char, 32>;  // SHA-256
  static Digest digest_of(std::string_view text);

  mutable std::mutex mutex_;
  std::vector<Digest> digests_;
};

}  // namespace kvass::serve
