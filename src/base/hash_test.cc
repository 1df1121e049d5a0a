// XXH3-128: published values, and the same value for any division of the bytes.
#include "base/hash.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace kvass {
namespace {

TEST(Hash, IsXxh3AndItsTextHasTheHighHalfFirst) {
  EXPECT_EQ(hash_text(hash_bytes({})), "99aa06d3014798d86001c324468d497f");
  EXPECT_EQ(hash_text({0x0123456789abcdef, 0xf}), "000000000000000f0123456789abcdef");
}

TEST(Hash, OfPiecesIsThatOfTheWhole) {
  std::vector<uint8_t> bytes(5000);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i * i >> 3);
  const std::span<const uint8_t> all(bytes);
  for (const size_t piece : {1, 63, 1024, 5000}) {
    Hasher hasher;
    for (size_t at = 0; at < all.size(); at += piece) hasher.add(all.subspan(at, std::min(piece, all.size() - at)));
    EXPECT_EQ(hasher.result(), hash_bytes(all)) << piece;
  }
  EXPECT_NE(hash_bytes(all.first(4999)), hash_bytes(all));
}

}  // namespace
}  // namespace kvass
