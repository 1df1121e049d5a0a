#include "base/once.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

namespace kvass {
namespace {

TEST(Once, ManyThreadsMakeOne) {
  Once once;
  int made = 0;  // written by one of them, read by all
  std::atomic<int> right{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      once.call([&] { ++made; });
      if (made == 1) ++right;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(right, 8);
}

TEST(Once, WhatThrowsIsTriedAgain) {
  Once once;
  int tries = 0;
  const auto fails_twice = [&] {
    if (++tries < 3) throw std::runtime_error("not yet");
  };
  EXPECT_THROW(once.call(fails_twice), std::runtime_error);
  EXPECT_THROW(once.call(fails_twice), std::runtime_error);
  once.call(fails_twice);
  once.call(fails_twice);
  EXPECT_EQ(tries, 3);
}

}  // namespace
}  // namespace kvass
