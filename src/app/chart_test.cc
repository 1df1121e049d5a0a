// Pictures are XML that a reader of XML takes, with a shape for each figure.
#include "app/chart.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <string_view>

namespace kvass {
namespace {

size_t count(const std::string& text, std::string_view part) {
  size_t found = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

TEST(Chart, ABarForEachAndAColourForEachKind) {
  const std::string svg = bar_chart("a < b & \"c\"", {{"one", {{"x", {{"ring", 1.0}, {"full", 3.0}}, "note"}}},
                                                      {"two", {{"y", {{"ring", 2.0}}, ""}, {"z", {}, ""}}}});
  EXPECT_TRUE(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""));
  EXPECT_EQ(count(svg, "<title>ring: "), 2u);
  EXPECT_EQ(count(svg, "<title>full: 3</title>"), 1u);
  EXPECT_NE(svg.find("a &lt; b &amp; &quot;c&quot;"), std::string::npos);
  // The first group's bar fills its scale: a quarter and three quarters of 560.
  EXPECT_NE(svg.find("width=\"140.00\""), std::string::npos) << svg;
  EXPECT_NE(svg.find("width=\"420.00\""), std::string::npos) << svg;
}

TEST(Chart, ALineForEachAndNoPointThatIsNoNumber) {
  const std::string svg =
      line_chart("t", "x", "y", {{"a", {{0, 10}, {100, 20}}}, {"b", {{0, NAN}, {50, 15}}}, {"none", {}}});
  EXPECT_EQ(count(svg, "<polyline"), 3u);
  EXPECT_EQ(count(svg, "<circle"), 3u);
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  EXPECT_EQ(svg.find("inf"), std::string::npos);
  EXPECT_EQ(line_chart("t", "x", "y", {}).find("nan"), std::string::npos);
  EXPECT_EQ(line_chart("t", "x", "y", {{"a", {{5, 5}}}}).find("nan"), std::string::npos);
}

}  // namespace
}  // namespace kvass
