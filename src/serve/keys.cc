#include "serve/keys.h"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "app/text.h"
#include "base/file_map.h"

namespace kvass::serve {

constexpr size_t kLeastKey = 8;      // bytes
constexpr size_t kOwnerDigits = 16;  // hexadecimal

Keys::Digest Keys::digest_of(std::string_view text) {
  Digest digest{};
  unsigned int size = digest.size();
  EVP_Digest(text.data(), text.size(), digest.data(), &size, EVP_sha256(), nullptr);
  return digest;
}

Status Keys::read(const std::string& path) {
  KVASS_ASSIGN_OR_RETURN(const FileMap file, FileMap::open(path));
  std::string_view text(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
  std::vector<Digest> digests;
  while (!text.empty()) {
    std::string_view line = take_line(text);
    while (!line.empty() && (line.back() == ' ' || line.back() == '\t')) line.remove_suffix(1);
    if (line.empty() || line.front() == '#') continue;
    if (line.size() < kLeastKey) {
      return bad_input("ServeOptions.keys", "keys of at least 8 bytes, one on each line",
                       std::to_string(line.size()) + " bytes");
    }
    digests.push_back(digest_of(line));
  }
  if (digests.empty()) return bad_input("ServeOptions.keys", "at least one key", "none");
  const std::lock_guard lock(mutex_);
  digests_ = std::move(digests);
  return {};
}

std::optional<std::string> Keys::owner(std::string_view key) const {
  const Digest asked = digest_of(key);
  bool known = false;
  const std::lock_guard lock(mutex_);
  for (const Digest& digest : digests_) known |= CRYPTO_memcmp(digest.data(), asked.data(), digest.size()) == 0;
  if (!known) return {};
  std::string owner;
  for (size_t i = 0; i < kOwnerDigits / 2; ++i) owner += fmt::format("{:02x}", asked[i]);
  return owner;
}

}  // namespace kvass::serve
