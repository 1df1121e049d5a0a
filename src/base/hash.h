// Checksums: XXH3-128 over bytes, at once or in pieces. They detect damage and mistakes, not forgery.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace kvass {

struct Hash128 {
  uint64_t low = 0;
  uint64_t high = 0;
  friend bool operator==(const Hash128&, const Hash128&) = default;
};
std::string hash_text(const Hash128& hash);  // 32 hexadecimal digits, the high half first

Hash128 hash_bytes(std::span<const uint8_t> bytes);

// The same checksum in pieces. The result does not depend on how the bytes are divided.
class Hasher {
 public:
  Hasher();
  void add(std::span<const uint8_t> bytes);
  Hash128 result() const;  // of the bytes added so far

 private:
  struct State;
  struct Free {
    void operator()(State* state) const;
  };
  std::unique_ptr<State, Free> state_;
};

}  // namespace kvass
