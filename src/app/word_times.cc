#include "app/word_times.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>

namespace kvass {
namespace {

constexpr int64_t kMedianWidth = 7;
constexpr double kSourceRowsPerSecond = 50.0;
constexpr double kMostMedian = 0.7;  // seconds
constexpr char kSentenceEnds[] = ".。!！?？";

struct Timing {
  std::string word;
  size_t tokens = 0;
  double start = 0.0, end = 0.0;  // seconds in the window
  double probability = 0.0;
};

// To hundredths, as a decimal.
double rounded(double seconds) {
  char text[64];
  std::snprintf(text, sizeof text, "%.2f", seconds);
  return std::strtod(text, nullptr);
}

bool contains(std::string_view marks, std::string_view word) { return marks.find(word) != std::string_view::npos; }

std::string_view stripped(std::string_view word) {
  while (!word.empty() && word.front() == ' ') word.remove_prefix(1);
  while (!word.empty() && word.back() == ' ') word.remove_suffix(1);
  return word;
}

// Each head's weights: over the window's rows, standardised over the tokens, smoothed; then their mean.
// attention [heads][tokens][source_rows] -> [tokens][rows]
std::vector<float> follow_audio(std::vector<float>& attention, int64_t heads, int64_t tokens, int64_t source_rows,
                                int64_t rows) {
  const auto t = static_cast<size_t>(tokens), r = static_cast<size_t>(rows), s = static_cast<size_t>(source_rows);
  std::vector<float> mean(t * r, 0.0f);
  std::vector<float> head(t * r);
  for (size_t h = 0; h < static_cast<size_t>(heads); ++h) {
    for (size_t i = 0; i < t; ++i) {
      const float* const from = attention.data() + (h * t + i) * s;
      double sum = 0.0;
      for (size_t j = 0; j < r; ++j) sum += from[j];
      for (size_t j = 0; j < r; ++j) head[i * r + j] = sum > 0.0 ? static_cast<float>(from[j] / sum) : 0.0f;
    }
    for (size_t j = 0; j < r; ++j) {
      double sum = 0.0, squares = 0.0;
      for (size_t i = 0; i < t; ++i) sum += head[i * r + j];
      const double average = sum / static_cast<double>(t);
      for (size_t i = 0; i < t; ++i) squares += (head[i * r + j] - average) * (head[i * r + j] - average);
      const double deviation = std::sqrt(squares / static_cast<double>(t));
      const double scale = deviation > 0.0 ? 1.0 / deviation : 0.0;
      for (size_t i = 0; i < t; ++i) head[i * r + j] = static_cast<float>((head[i * r + j] - average) * scale);
    }
    median_filter(head, tokens, rows, kMedianWidth);
    for (size_t i = 0; i < mean.size(); ++i) mean[i] += head[i] / static_cast<float>(heads);
  }
  return mean;
}

// The words of these text tokens, without the end.
Result<std::vector<Timing>> align_words(SpeechDecoder& decoder, const WordTimesInput& input,
                                        std::span<const int32_t> text) {
  const SpeechTokenizer& tokenizer = *input.tokenizer;
  const int64_t rows = std::min(input.frames / 2, decoder.source_rows());
  std::vector<int32_t> with_end(text.begin(), text.end());
  with_end.push_back(tokenizer.end_of_text());
  const std::vector<SpeechWord> words = tokenizer.words(with_end, input.language);
  if (words.size() <= 1 || rows == 0) return std::vector<Timing>{};
  std::vector<int32_t> tokens = input.start;
  const size_t start = tokens.size();
  tokens.push_back(tokenizer.no_timestamps());
  tokens.insert(tokens.end(), with_end.begin(), with_end.end());

  std::vector<double> probabilities(text.size());
  const auto text_ids = static_cast<size_t>(tokenizer.end_of_text());
  const auto on_logits = [&](int64_t row, const float* logits) {
    const auto at = static_cast<size_t>(row);
    if (at < start || at >= start + text.size()) return;
    // Among text tokens only.
    const float most = *std::max_element(logits, logits + text_ids);
    double sum = 0.0;
    for (size_t id = 0; id < text_ids; ++id) sum += std::exp(static_cast<double>(logits[id] - most));
    const float logit = logits[static_cast<size_t>(text[at - start])];
    probabilities[at - start] = std::exp(static_cast<double>(logit - most)) / sum;
  };
  const auto count = static_cast<int64_t>(tokens.size());
  std::vector<float> attention(static_cast<size_t>(decoder.alignment_heads() * count * decoder.source_rows()));
  KVASS_RETURN_IF_ERROR(decoder.align(tokens, on_logits, attention.data()));
  const std::vector<float> matrix =
      follow_audio(attention, decoder.alignment_heads(), count, decoder.source_rows(), rows);
  const auto path =
      warp(std::span(matrix).subspan(start * static_cast<size_t>(rows), with_end.size() * static_cast<size_t>(rows)),
           static_cast<int64_t>(with_end.size()), rows);
  std::vector<double> jumps;  // seconds at which each token begins
  for (size_t i = 0; i < path.size(); ++i) {
    if (i == 0 || path[i].first != path[i - 1].first) {
      jumps.push_back(static_cast<double>(path[i].second) / kSourceRowsPerSecond);
    }
  }
  std::vector<Timing> timings;
  size_t begin = 0;
  for (size_t w = 0; w + 1 < words.size(); ++w) {
    const size_t end = begin + words[w].ids.size();
    double sum = 0.0;
    for (size_t i = begin; i < end; ++i) sum += probabilities[i];
    timings.push_back(
        {words[w].text, words[w].ids.size(), jumps[begin], jumps[end], sum / static_cast<double>(end - begin)});
    begin = end;
  }
  return timings;
}

// Words at the ends of sentences take the pause with them; twice the usual length is enough.
void shorten_at_sentences(std::vector<Timing>& timings, double longest) {
  for (size_t i = 1; i < timings.size(); ++i) {
    if (timings[i].end - timings[i].start <= longest) continue;
    if (contains(kSentenceEnds, timings[i].word)) {
      timings[i].end = timings[i].start + longest;
    } else if (contains(kSentenceEnds, timings[i - 1].word)) {
      timings[i].start = timings[i].end - longest;
    }
  }
}

// Marks join the word after or before them; what they leave is empty.
void merge_punctuation(std::vector<Timing>& timings, const std::string& prepended, const std::string& appended) {
  const auto move = [](Timing& from, Timing& to) {
    to.tokens += from.tokens;
    from.word.clear();
    from.tokens = 0;
  };
  for (size_t i = timings.size(), following = timings.size() - 1; i-- > 0;) {
    if (i + 1 >= timings.size()) continue;
    Timing& word = timings[i];
    if (word.word.starts_with(' ') && contains(prepended, stripped(word.word))) {
      timings[following].word = word.word + timings[following].word;
      move(word, timings[following]);
    } else {
      following = i;
    }
  }
  for (size_t i = 1, before = 0; i < timings.size(); ++i) {
    Timing& word = timings[i];
    if (!timings[before].word.ends_with(' ') && contains(appended, word.word)) {
      timings[before].word += word.word;
      move(word, timings[before]);
    } else {
      before = i;
    }
  }
}

// The first words after a pause, and the ends of the segment against its own times.
void fit_segment(Segment& segment, double median, double longest, double& last_speech) {
  std::vector<Word>& words = segment.words;
  if (words.empty()) return;
  Word& first = words.front();
  if (first.end - last_speech > median * 4 &&
      (first.end - first.start > longest || (words.size() > 1 && words[1].end - first.start > longest * 2))) {
    if (words.size() > 1 && words[1].end - words[1].start > longest) {
      first.end = words[1].start = std::max(words[1].end / 2, words[1].end - longest);
    }
    first.start = std::max(0.0, first.end - longest);
  }
  if (segment.start < first.end && segment.start - 0.5 > first.start) {
    first.start = std::max(0.0, std::min(first.end - median, segment.start));
  } else {
    segment.start = first.start;
  }
  Word& last = words.back();
  if (segment.end > last.start && segment.end + 0.5 < last.end) {
    last.end = std::max(last.start + median, segment.end);
  } else {
    segment.end = last.end;
  }
  last_speech = segment.end;
}

}  // namespace

void median_filter(std::span<float> matrix, int64_t rows, int64_t columns, int64_t width) {
  const int64_t reach = width / 2;
  if (columns <= reach) return;
  std::vector<float> window(static_cast<size_t>(width));
  std::vector<float> out(static_cast<size_t>(columns));
  for (int64_t row = 0; row < rows; ++row) {
    float* const line = matrix.data() + row * columns;
    for (int64_t column = 0; column < columns; ++column) {
      for (int64_t i = -reach; i <= reach; ++i) {
        int64_t at = std::abs(column + i);
        if (at >= columns) at = 2 * (columns - 1) - at;
        window[static_cast<size_t>(i + reach)] = line[at];
      }
      std::nth_element(window.begin(), window.begin() + reach, window.end());
      out[static_cast<size_t>(column)] = window[static_cast<size_t>(reach)];
    }
    std::copy(out.begin(), out.end(), line);
  }
}

std::vector<std::pair<int64_t, int64_t>> warp(std::span<const float> matrix, int64_t rows, int64_t columns) {
  enum : uint8_t { kBoth, kRow, kColumn };
  const auto width = static_cast<size_t>(columns) + 1;
  std::vector<float> before(width, std::numeric_limits<float>::infinity());
  std::vector<float> cost(width);
  std::vector<uint8_t> trace(static_cast<size_t>(rows + 1) * width, kColumn);
  before[0] = 0.0f;
  for (int64_t i = 1; i <= rows; ++i) {
    cost[0] = std::numeric_limits<float>::infinity();
    trace[static_cast<size_t>(i) * width] = kRow;
    for (size_t j = 1; j < width; ++j) {
      const float both = before[j - 1], row = before[j], column = cost[j - 1];
      uint8_t way = kColumn;
      float least = column;
      if (both < row && both < column) {
        way = kBoth;
        least = both;
      } else if (row < both && row < column) {
        way = kRow;
        least = row;
      }
      cost[j] = least - matrix[static_cast<size_t>(i - 1) * (width - 1) + (j - 1)];
      trace[static_cast<size_t>(i) * width + j] = way;
    }
    std::swap(before, cost);
  }
  std::vector<std::pair<int64_t, int64_t>> path;
  int64_t i = rows, j = columns;
  while (i > 0 || j > 0) {
    path.emplace_back(i - 1, j - 1);
    // The first row and column lead along themselves.
    uint8_t way = trace[static_cast<size_t>(i) * width + static_cast<size_t>(j)];
    if (i == 0) way = kColumn;
    if (j == 0) way = kRow;
    if (way != kColumn) --i;
    if (way != kRow) --j;
  }
  std::reverse(path.begin(), path.end());
  return path;
}

Status add_word_times(SpeechDecoder& decoder, const WordTimesInput& input, double offset, std::span<Segment> segments,
                      double& last_speech) {
  const int32_t end_of_text = input.tokenizer->end_of_text();
  std::vector<int32_t> text;
  std::vector<size_t> counts;  // text tokens of each segment
  for (const Segment& segment : segments) {
    const size_t before = text.size();
    std::copy_if(segment.tokens.begin(), segment.tokens.end(), std::back_inserter(text),
                 [&](int32_t id) { return id < end_of_text; });
    counts.push_back(text.size() - before);
  }
  if (segments.empty()) return {};
  KVASS_ASSIGN_OR_RETURN(std::vector<Timing> timings, align_words(decoder, input, text));
  std::vector<double> durations;
  for (const Timing& timing : timings) {
    if (timing.end != timing.start) durations.push_back(timing.end - timing.start);
  }
  double median = 0.0;
  if (!durations.empty()) {
    std::sort(durations.begin(), durations.end());
    const size_t middle = durations.size() / 2;
    median = durations.size() % 2 == 1 ? durations[middle] : (durations[middle - 1] + durations[middle]) / 2.0;
  }
  median = std::min(kMostMedian, median);
  const double longest = median * 2;
  if (!durations.empty()) shorten_at_sentences(timings, longest);
  if (!timings.empty()) merge_punctuation(timings, input.prepend_punctuations, input.append_punctuations);
  size_t next = 0;
  for (size_t s = 0; s < segments.size(); ++s) {
    for (size_t saved = 0; next < timings.size() && saved < counts[s]; ++next) {
      const Timing& timing = timings[next];
      if (!timing.word.empty()) {
        segments[s].words.push_back(
            {rounded(offset + timing.start), rounded(offset + timing.end), timing.word, timing.probability});
      }
      saved += timing.tokens;
    }
    fit_segment(segments[s], median, longest, last_speech);
  }
  return {};
}

}  // namespace kvass
