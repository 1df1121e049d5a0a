#include "text/stream_decoder.h"

#include <algorithm>
#include <utility>

#include "text/utf8.h"

namespace kvass {

std::string StreamDecoder::push(int32_t id) {
  pending_ += tokenizer_->piece_in_text(id, at_start_, show_control_);
  size_t complete = 0;
  while (complete < pending_.size()) {
    const Utf8Step step = utf8_step(std::string_view(pending_).substr(complete));
    if (step.state == Utf8Step::incomplete) break;
    complete += step.length;
  }
  std::string text = pending_.substr(0, complete);
  pending_.erase(0, complete);
  return text;
}

std::string StreamDecoder::finish() { return std::exchange(pending_, {}); }

StopMatcher::StopMatcher(std::vector<std::string> stops) {
  for (std::string& text : stops) {
    Stop stop;
    stop.borders.resize(text.size());
    for (size_t i = 1, border = 0; i < text.size(); ++i) {
      while (border > 0 && text[i] != text[border]) border = stop.borders[border - 1];
      if (text[i] == text[border]) ++border;
      stop.borders[i] = static_cast<uint32_t>(border);
    }
    stop.text = std::move(text);
    stops_.push_back(std::move(stop));
  }
}

std::string StopMatcher::push(std::string_view text) {
  if (matched()) return {};
  for (size_t i = 0; i < text.size(); ++i) {
    size_t longest = 0;
    for (size_t s = 0; s < stops_.size(); ++s) {
      Stop& stop = stops_[s];
      if (stop.text.empty()) continue;
      while (stop.state > 0 && text[i] != stop.text[stop.state]) stop.state = stop.borders[stop.state - 1];
      if (text[i] == stop.text[stop.state]) ++stop.state;
      if (stop.state < stop.text.size() || stop.state <= longest) continue;
      longest = stop.state;
      matched_ = static_cast<int>(s);
    }
    if (!matched()) continue;
    held_.append(text.substr(0, i + 1));
    held_.resize(held_.size() - longest);
    return std::exchange(held_, {});
  }
  held_.append(text);
  size_t hold = 0;
  for (const Stop& stop : stops_) hold = std::max(hold, stop.state);
  std::string shown = held_.substr(0, held_.size() - hold);
  held_.erase(0, shown.size());
  return shown;
}

std::string StopMatcher::finish() {
  for (Stop& stop : stops_) stop.state = 0;
  return std::exchange(held_, {});
}

}  // namespace kvass
