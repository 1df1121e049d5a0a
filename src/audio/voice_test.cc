#include "audio/voice.h"

#include <gtest/gtest.h>

namespace kvass {
namespace {

TEST(Voice, FindsSpeechBetweenSilences) {
  std::vector<int16_t> samples(16000 * 20, 0);
  for (size_t i = 16000 * 5; i < 16000 * 8; ++i) samples[i] = static_cast<int16_t>((i * 7919) % 8000);
  for (size_t i = 16000 * 9; i < 16000 * 10; ++i) samples[i] = static_cast<int16_t>((i * 7919) % 8000);
  for (size_t i = 16000 * 16; i < 16000 * 17; ++i) samples[i] = static_cast<int16_t>((i * 7919) % 8000);
  const std::vector<FrameRange> found = find_voice(samples, 2000);
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].begin, 460);
  EXPECT_EQ(found[0].end, 1040);
  EXPECT_EQ(found[1].begin, 1560);
  EXPECT_EQ(found[1].end, 1740);
  EXPECT_TRUE(find_voice(std::vector<int16_t>(16000, 0), 100).empty());
  EXPECT_TRUE(find_voice({}, 0).empty());
  // A recording without pauses is speech from end to end.
  std::vector<int16_t> steady(32000);
  for (size_t i = 0; i < steady.size(); ++i) steady[i] = static_cast<int16_t>((i * 7919) % 8000);
  const std::vector<FrameRange> all = find_voice(steady, 200);
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0].begin, 0);
  EXPECT_EQ(all[0].end, 200);
}

}  // namespace
}  // namespace kvass
