#include "kvass/status.h"

#include <gtest/gtest.h>

namespace kvass {
namespace {

Result<int> half(int number) {
  if (number % 2 != 0) return bad_input("number", "an even one", std::to_string(number));
  return number / 2;
}

TEST(Status, TwoResultsMayBeTakenOnOneLine) {
  const auto sum = [](int a, int b) -> Result<int> {
    // clang-format off
    KVASS_ASSIGN_OR_RETURN(const int x, half(a)); KVASS_ASSIGN_OR_RETURN(const int y, half(b));
    // clang-format on
    return x + y;
  };
  EXPECT_EQ(sum(4, 6).value(), 5);
  EXPECT_EQ(sum(4, 3).status().message(), "number: expected an even one, got 3");
  EXPECT_EQ(sum(3, 4).status().message(), "number: expected an even one, got 3");
}

}  // namespace
}  // namespace kvass
