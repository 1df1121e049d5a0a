// The emulation of devices, on which other tests rely: its results, and the errors that it must catch.
#include <gtest/gtest.h>

#include <vector>

#include "device/emulate.h"
#include "device/runtime.h"

namespace kvass::emulated {
namespace {

struct Sums {
  const int* from;
  int* to;
  int count;
};

// Each block sums its 256 numbers, through shuffles, shared memory and barriers.
void sum_kernel(const Sums params) {
  int* shared = reinterpret_cast<int*>(shared_memory());
  const int64_t at = block_x() * block_threads() + thread_index();
  int x = at < params.count ? params.from[at] : 0;
  for (int by = 16; by > 0; by /= 2) x += shuffle_down(x, by);
  if (thread_index() % 32 == 0) shared[thread_index() / 32] = x;
  barrier();
  if (thread_index() == 0) {
    for (int warp = 1; warp < block_threads() / 32; ++warp) x += shared[warp];
    params.to[block_x()] = x;
  }
}

TEST(EmulatedDevice, BlocksSumThroughShufflesSharedMemoryAndBarriers) {
  std::vector<int> numbers(1000), sums(4);
  for (int i = 0; i < 1000; ++i) numbers[static_cast<size_t>(i)] = i;
  const Sums params{numbers.data(), sums.data(), 1000};
  ASSERT_TRUE(launch(&sum_kernel, "sum", {4}, 256, 64, nullptr, params).ok());
  EXPECT_EQ(sums, (std::vector<int>{32640, 98176, 163712, 204972}));
}

void shuffle_kernel(int* const to) {
  const int lane = thread_index() % 32;
  int* row = to + 4 * thread_index();
  row[0] = shuffle(lane * lane, 5);
  row[1] = shuffle_xor(lane, 3);
  row[2] = shuffle_down(lane, 8, 16);
  row[3] = static_cast<int>(ballot(lane % 3 == 0));
}

TEST(EmulatedDevice, ShufflesAndBallotsAreThoseOfAWarp) {
  std::vector<int> found(4 * 64);
  ASSERT_TRUE(launch(&shuffle_kernel, "shuffle", {1}, 64, 0, nullptr, found.data()).ok());
  for (int thread = 0; thread < 64; ++thread) {
    const int lane = thread % 32;
    const int* row = found.data() + 4 * thread;
    EXPECT_EQ(row[0], 25);
    EXPECT_EQ(row[1], lane ^ 3);
    EXPECT_EQ(row[2], lane % 16 < 8 ? lane + 8 : lane);
    EXPECT_EQ(row[3], 0x49249249);
  }
}

void early_copy_kernel(const int* const from) {
  int* shared = reinterpret_cast<int*>(shared_memory());
  const int before = shared[0];
  copy_async(shared, from);
  copy_commit();
  const int between = shared[0];
  copy_wait<0>();
  EXPECT_EQ(before, -1) << "shared memory begins as NaN";
  EXPECT_EQ(between, -1) << "a copy came before it was waited for";
  EXPECT_EQ(shared[0], 7);
  barrier();
}

TEST(EmulatedDevice, SharedMemoryBeginsAsNaNAndCopiesArriveWhenTheyAreWaitedFor) {
  alignas(16) const int numbers[4] = {7, 8, 9, 10};
  alignas(16) static int from[4];
  std::copy(numbers, numbers + 4, from);
  struct One {
    static void run(const int* p) {
      if (thread_index() == 0) early_copy_kernel(p);
      if (thread_index() != 0) barrier();
    }
  };
  ASSERT_TRUE(launch<const int*>(&One::run, "copy", {1}, 32, 64, nullptr, from).ok());
}

void uneven_kernel(const int which) {
  if (which == 0 && thread_index() < 32) barrier();
  if (which == 1 && thread_index() != 3) (void)shuffle(1, 0);
}

TEST(EmulatedDeviceDeathTest, ABarrierOrAShuffleThatNotEveryThreadReachesEndsTheProgram) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH((void)launch(&uneven_kernel, "uneven", {1}, 64, 0, nullptr, 0), "ended where others wait at a barrier");
  EXPECT_DEATH((void)launch(&uneven_kernel, "uneven", {1}, 64, 0, nullptr, 1), "not every lane of a warp");
}

TEST(EmulatedDevice, NoLaunchOfAWrongShape) {
  EXPECT_FALSE(launch(&uneven_kernel, "uneven", {1}, 33, 0, nullptr, 2).ok());
  EXPECT_FALSE(launch(&uneven_kernel, "uneven", {1, 70000}, 32, 0, nullptr, 2).ok());
}

}  // namespace
}  // namespace kvass::emulated

namespace kvass {
namespace {

TEST(DeviceBlock, OwnsItsMemory) {
  DeviceBlock block = DeviceBlock::map(emulated::device_runtime, 1000).value();
  EXPECT_EQ(reinterpret_cast<uintptr_t>(block.data()) % 256, 0u);
  DeviceBlock other = std::move(block);
  EXPECT_EQ(block.data(), nullptr);
  EXPECT_EQ(other.bytes(), 1000u);
  EXPECT_EQ(DeviceBlock::map(emulated::device_runtime, 0).value().data(), nullptr);
}

TEST(DeviceRuntime, ADeviceThatIsNotBuiltSaysSo) {
  for (const Device device : {Device::cuda, Device::rocm}) {
    if (!device_runtime(device)) {
      EXPECT_EQ(why_no_device(device), "not built");
    }
  }
  EXPECT_EQ(device_runtime(Device::cpu), nullptr);
  EXPECT_EQ(why_no_device(Device::cpu), "");
}

}  // namespace
}  // namespace kvass
