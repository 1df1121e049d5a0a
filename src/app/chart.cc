#include "app/chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/new_file.h"

namespace kvass {
namespace {

// Okabe and Ito's colours, which people who do not tell red from green tell apart.
constexpr const char* kColours[] = {"#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999999"};
constexpr int kWidth = 900;

const char* colour(size_t index) { return kColours[index % std::size(kColours)]; }

class Picture {
 public:
  void text(double x, double y, std::string_view text, const char* anchor = "start", int size = 12,
            const char* more = "") {
    body_ += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" font-size=\"{}\" text-anchor=\"{}\"{}>{}</text>\n", x, y,
                         size, anchor, more, xml_text(text));
  }
  void box(double x, double y, double width, double height, const char* fill, std::string_view tip = {}) {
    body_ += fmt::format(
        "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.2f}\" height=\"{:.1f}\" fill=\"{}\"><title>{}</title></rect>\n", x,
        y, width, height, fill, xml_text(tip));
  }
  void line(double x1, double y1, double x2, double y2, const char* stroke) {
    body_ += fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\"/>\n", x1, y1, x2,
                         y2, stroke);
  }
  void path(std::string_view points, const char* stroke) {
    body_ += fmt::format("<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"/>\n", points, stroke);
  }
  void dot(double x, double y, const char* fill, std::string_view tip) {
    body_ += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\" fill=\"{}\"><title>{}</title></circle>\n", x, y,
                         fill, xml_text(tip));
  }
  // Names beside their colours, from (x, y) on; where the next thing may begin.
  double legend(double y, const std::vector<std::string>& names) {
    double x = 20;
    for (size_t i = 0; i < names.size(); ++i) {
      const double width = 34 + 7.0 * static_cast<double>(names[i].size());
      if (x > 20 && x + width > kWidth - 20) {
        x = 20;
        y += 20;
      }
      box(x, y - 10, 12, 12, colour(i));
      text(x + 17, y, names[i]);
      x += width;
    }
    return y + 24;
  }
  std::string finish(double height) const {
    return fmt::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1:.0f}\" viewBox=\"0 0 {0} {1:.0f}\" "
        "font-family=\"sans-serif\" fill=\"#222\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{2}</svg>\n",
        kWidth, height, body_);
  }

 private:
  std::string body_;
};

// A step of an axis: 1, 2 or 5 times a power of ten, of which about five fit.
double step_of(double range) {
  const double raw = range / 5.0;
  const double power = std::pow(10.0, std::floor(std::log10(raw)));
  for (const double times : {1.0, 2.0, 5.0}) {
    if (raw <= times * power * 1.0001) return times * power;
  }
  return 10.0 * power;
}

struct Axis {
  double low = 0.0, high = 1.0, step = 0.2;
  Axis(double least, double most) {
    low = least;
    high = most > least ? most : least + std::max(std::abs(least), 1.0);
    step = step_of(high - low);
    low = std::floor(low / step) * step;
    high = std::ceil(high / step - 1e-9) * step;
  }
  double share(double value) const { return (value - low) / (high - low); }
};

std::string tick(double value) { return fmt::format("{:.6g}", value); }

size_t index_of(std::vector<std::string>& names, const std::string& name) {
  const auto found = std::find(names.begin(), names.end(), name);
  if (found != names.end()) return static_cast<size_t>(found - names.begin());
  names.push_back(name);
  return names.size() - 1;
}

}  // namespace

std::string xml_text(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += static_cast<unsigned char>(c) < 32 ? ' ' : c;
    }
  }
  return out;
}

std::string bar_chart(std::string_view title, const std::vector<BarGroup>& groups) {
  constexpr double kLeft = 150, kRight = kWidth - 190, kRow = 20;
  Picture picture;
  picture.text(20, 30, title, "start", 18, " font-weight=\"bold\"");
  std::vector<std::string> kinds;
  for (const BarGroup& group : groups) {
    for (const ChartBar& bar : group.bars) {
      for (const ChartBar::Part& part : bar.parts) index_of(kinds, part.kind);
    }
  }
  double y = picture.legend(56, kinds);
  for (const BarGroup& group : groups) {
    picture.text(20, y + 12, group.title, "start", 13, " font-weight=\"bold\"");
    y += 24;
    double most = 0.0;
    for (const ChartBar& bar : group.bars) {
      double sum = 0.0;
      for (const ChartBar::Part& part : bar.parts) sum += part.value;
      most = std::max(most, sum);
    }
    for (const ChartBar& bar : group.bars) {
      picture.text(kLeft - 8, y + 13, bar.label, "end");
      double x = kLeft;
      for (const ChartBar::Part& part : bar.parts) {
        const double width = most > 0.0 ? part.value / most * (kRight - kLeft) : 0.0;
        picture.box(x, y + 2, width, kRow - 4, colour(index_of(kinds, part.kind)), part.kind + ": " + tick(part.value));
        x += width;
      }
      picture.text(x + 6, y + 13, bar.note);
      y += kRow;
    }
    y += 14;
  }
  return picture.finish(y + 6);
}

std::string line_chart(std::string_view title, std::string_view x_name, std::string_view y_name,
                       const std::vector<ChartLine>& lines) {
  constexpr double kLeft = 80, kRight = kWidth - 30, kHeight = 360;
  Picture picture;
  picture.text(20, 30, title, "start", 18, " font-weight=\"bold\"");
  std::vector<std::string> labels;
  bool first = true;
  double x_low = 0, x_high = 1, y_low = 0, y_high = 1;
  for (const ChartLine& line : lines) {
    labels.push_back(line.label);
    for (const auto& [x, y] : line.points) {
      if (!std::isfinite(x) || !std::isfinite(y)) continue;
      x_low = first ? x : std::min(x_low, x);
      x_high = first ? x : std::max(x_high, x);
      y_low = first ? y : std::min(y_low, y);
      y_high = first ? y : std::max(y_high, y);
      first = false;
    }
  }
  if (y_low > 0.0 && y_low < 0.8 * y_high) y_low = 0.0;
  const Axis x_axis(x_low, x_high), y_axis(y_low, y_high);
  const double top = lines.size() > 1 ? picture.legend(56, labels) : 56;
  const double bottom = top + kHeight;
  const auto at_x = [&](double x) { return kLeft + x_axis.share(x) * (kRight - kLeft); };
  const auto at_y = [&](double y) { return bottom - y_axis.share(y) * kHeight; };
  const auto steps = [](const Axis& axis) { return static_cast<int>(std::lround((axis.high - axis.low) / axis.step)); };
  for (int i = 0; i <= steps(y_axis); ++i) {
    const double value = y_axis.low + i * y_axis.step;
    picture.line(kLeft, at_y(value), kRight, at_y(value), "#ddd");
    picture.text(kLeft - 8, at_y(value) + 4, tick(value), "end");
  }
  for (int i = 0; i <= steps(x_axis); ++i) {
    const double value = x_axis.low + i * x_axis.step;
    picture.line(at_x(value), bottom, at_x(value), bottom + 5, "#222");
    picture.text(at_x(value), bottom + 20, tick(value), "middle");
  }
  picture.line(kLeft, bottom, kRight, bottom, "#222");
  picture.text((kLeft + kRight) / 2, bottom + 42, x_name, "middle", 13);
  picture.text(20, top - 8, y_name, "start", 13);
  for (size_t i = 0; i < lines.size(); ++i) {
    std::string points;
    for (const auto& [x, y] : lines[i].points) {
      if (std::isfinite(x) && std::isfinite(y)) points += fmt::format("{:.1f},{:.1f} ", at_x(x), at_y(y));
    }
    picture.path(points, colour(i));
    if (lines[i].points.size() > 200) continue;
    for (const auto& [x, y] : lines[i].points) {
      if (std::isfinite(x) && std::isfinite(y))
        picture.dot(at_x(x), at_y(y), colour(i), fmt::format("{}: {}, {}", lines[i].label, tick(x), tick(y)));
    }
  }
  return picture.finish(bottom + 60);
}

Status check_picture(const std::string& path) { return check_replaceable(path, "<svg", "pictures as SVG"); }

Status write_picture(const std::string& path, std::string_view svg) {
  KVASS_RETURN_IF_ERROR(check_picture(path));
  return write_new_file(path, svg);
}

}  // namespace kvass
