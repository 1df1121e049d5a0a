// Pictures of figures as SVG 1.1 text: what `plan --svg`, `score --plot` and `bench --plot` write (that of `inspect
// --svg` is in app/inspect). A picture is complete in itself, in plain shapes and a system font, so that browsers,
// editors and converters show it alike.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kvass/status.h"

namespace kvass {

// A bar of parts, one beside the other.
struct ChartBar {
  struct Part {
    std::string kind;  // parts of one kind have one colour, and a line in the legend
    double value = 0.0;
  };
  std::string label;
  std::vector<Part> parts;
  std::string note;  // to the right of the bar
};
// Horizontal bars in groups, each group with a title and a scale of its own.
struct BarGroup {
  std::string title;
  std::vector<ChartBar> bars;
};
std::string bar_chart(std::string_view title, const std::vector<BarGroup>& groups);

struct ChartLine {
  std::string label;
  std::vector<std::pair<double, double>> points;  // by x
};
// Both axes are linear; that of y begins at 0 unless all values lie in a small part of it.
std::string line_chart(std::string_view title, std::string_view x, std::string_view y,
                       const std::vector<ChartLine>& lines);

// A text as it stands in XML.
std::string xml_text(std::string_view text);

// A picture as a file, whole or not at all; a file that is something else is not replaced.
Status check_picture(const std::string& path);
Status write_picture(const std::string& path, std::string_view svg);

}  // namespace kvass
