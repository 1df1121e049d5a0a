#include "base/hash.h"

#include <xxhash.h>

#include <new>

namespace kvass {
namespace {

Hash128 of(const XXH128_hash_t& hash) { return {hash.low64, hash.high64}; }

XXH3_state_t* native(void* state) { return static_cast<XXH3_state_t*>(state); }

}  // namespace

std::string hash_text(const Hash128& hash) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text(32, '0');
  for (size_t i = 0; i < 16; ++i) {
    text[15 - i] = kDigits[hash.high >> (4 * i) & 15];
    text[31 - i] = kDigits[hash.low >> (4 * i) & 15];
  }
  return text;
}

Hash128 hash_bytes(std::span<const uint8_t> bytes) { return of(XXH3_128bits(bytes.data(), bytes.size())); }

Hasher::Hasher() {
  XXH3_state_t* state = XXH3_createState();
  if (state == nullptr) throw std::bad_alloc();
  XXH3_128bits_reset(state);
  state_.reset(reinterpret_cast<State*>(state));
}

void Hasher::add(std::span<const uint8_t> bytes) {
  if (!bytes.empty()) XXH3_128bits_update(native(state_.get()), bytes.data(), bytes.size());
}

Hash128 Hasher::result() const { return of(XXH3_128bits_digest(native(state_.get()))); }

void Hasher::Free::operator()(State* state) const { XXH3_freeState(native(state)); }

}  // namespace kvass
