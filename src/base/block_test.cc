#include "base/block.h"

#include <gtest/gtest.h>

#include <bit>
#include <string>

namespace kvass {
namespace {

TEST(Block, IsZeroedAlignedAndEmptyWhereNothingIsAskedFor) {
  for (const size_t bytes : {size_t{1}, size_t{4096}, size_t{3} << 20}) {
    Result<Block> block = Block::map(bytes);
    ASSERT_TRUE(block.ok()) << block.status().message();
    EXPECT_EQ(block->bytes(), bytes);
    EXPECT_EQ(std::bit_cast<uintptr_t>(block->data()) % 4096, 0u);
    size_t sum = 0;
    for (size_t i = 0; i < bytes; ++i) sum += block->data()[i];
    EXPECT_EQ(sum, 0u);
    block->data()[bytes - 1] = 7;
    Block moved = std::move(block).value();
    EXPECT_EQ(moved.data()[bytes - 1], 7);
  }
  Result<Block> none = Block::map(0);
  ASSERT_TRUE(none.ok());
  EXPECT_EQ(none->bytes(), 0u);
  Block assigned = std::move(none).value();
  assigned = Block::map(100).value();
  EXPECT_EQ(assigned.bytes(), 100u);
}

TEST(Block, AnImpossibleSizeIsAnErrorWithTheBytes) {
  const Result<Block> block = Block::map(size_t{1} << 62, "caches");
  ASSERT_FALSE(block.ok());
  EXPECT_EQ(block.status().code(), StatusCode::out_of_memory);
  EXPECT_EQ(block.status().message(),
            "caches: expected 4611686018427387904 bytes of memory, got Cannot allocate memory");
}

}  // namespace
}  // namespace kvass
