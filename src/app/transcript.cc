#include "app/transcript.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace kvass {
namespace {

// "01:02:03,004"; hours are left out of short ones unless `hours`.
std::string clock(double seconds, char mark, bool hours) {
  const auto all = static_cast<int64_t>(std::nearbyint(std::max(0.0, seconds) * 1000.0));
  const int64_t h = all / 3'600'000;
  const std::string tail = fmt::format("{:02}:{:02}{}{:03}", all / 60'000 % 60, all / 1000 % 60, mark, all % 1000);
  return hours || h > 0 ? fmt::format("{:02}:{}", h, tail) : tail;
}

std::string stripped(const std::string& text) {
  constexpr char kSpace[] = " \t\n\r\f\v";
  const size_t begin = text.find_first_not_of(kSpace);
  return begin == std::string::npos ? "" : text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

// A line of a format in which `from` means something.
std::string without(std::string text, std::string_view from, std::string_view to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

// One value: a text, a number or null. Bytes that are not UTF-8 become U+FFFD.
std::string json_text(const nlohmann::json& value) {
  return value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

// "[a,b]" of what write(item) gives for each; written by hand, because a tree of JSON is not destroyed without memory.
template <class Items, class Write>
std::string json_list(const Items& items, Write&& write) {
  std::string list;
  for (const auto& item : items) list += (list.empty() ? "" : ",") + write(item);
  return "[" + list + "]";
}

std::string word_json(const Word& word) {
  return fmt::format(R"({{"end":{},"probability":{},"start":{},"word":{}}})", json_text(word.end),
                     json_text(word.probability), json_text(word.start), json_text(word.text));
}

std::string segment_json(const Segment& segment, size_t id) {
  return fmt::format(
      R"({{"avg_logprob":{},"compression_ratio":{},"end":{},"id":{},"no_speech_prob":{},"seek":{},"start":{},)"
      R"("temperature":{},"text":{},"tokens":{},"words":{}}})",
      json_text(segment.avg_logprob), json_text(segment.compression_ratio), json_text(segment.end), id,
      json_text(segment.no_speech_prob), segment.seek, json_text(segment.start), json_text(segment.temperature),
      json_text(segment.text), json_list(segment.tokens, [](const auto& token) { return std::to_string(token); }),
      json_list(segment.words, word_json));
}

std::string transcript_json(const Transcript& transcript, const std::string& file) {
  std::string text;
  for (const Segment& segment : transcript.segments) text += segment.text;
  size_t id = 0;
  return fmt::format(
      R"({{"duration":{},"file":{},"language":{},"language_probability":{},"segments":{},"text":{}}})",
      json_text(transcript.duration), json_text(file), json_text(transcript.language),
      json_text(transcript.language_probability),
      json_list(transcript.segments, [&](const Segment& segment) { return segment_json(segment, id++); }),
      json_text(text));
}

}  // namespace

std::string_view transcript_format_name(TranscriptFormat format) {
  constexpr std::string_view kNames[] = {"txt", "srt", "vtt", "tsv", "json"};
  const auto at = static_cast<size_t>(format);
  return at < std::size(kNames) ? kNames[at] : "?";
}

Result<TranscriptFormat> parse_transcript_format(std::string_view name) {
  for (const TranscriptFormat format : kTranscriptFormats) {
    if (name == transcript_format_name(format)) return format;
  }
  return bad_input("transcript format", "txt, srt, vtt, tsv or json", std::string(name));
}

std::string transcript_header(TranscriptFormat format) {
  if (format == TranscriptFormat::vtt) return "WEBVTT\n\n";
  if (format == TranscriptFormat::tsv) return "start\tend\ttext\n";
  return {};
}

std::string transcript_segment(TranscriptFormat format, const Segment& segment, int64_t number) {
  const std::string text = stripped(segment.text);
  switch (format) {
    case TranscriptFormat::txt:
      return text + "\n";
    case TranscriptFormat::srt:
      return fmt::format("{}\n{} --> {}\n{}\n\n", number, clock(segment.start, ',', true),
                         clock(segment.end, ',', true), without(text, "-->", "->"));
    case TranscriptFormat::vtt:
      return fmt::format("{} --> {}\n{}\n\n", clock(segment.start, '.', false), clock(segment.end, '.', false),
                         without(text, "-->", "->"));
    case TranscriptFormat::tsv:
      return fmt::format("{}\t{}\t{}\n", std::lround(segment.start * 1000.0), std::lround(segment.end * 1000.0),
                         without(text, "\t", " "));
    case TranscriptFormat::json:
      break;
  }
  return {};
}

std::string transcript_text(TranscriptFormat format, const Transcript& transcript, const std::string& file) {
  if (format == TranscriptFormat::json) {
    return transcript_json(transcript, file) + "\n";
  }
  std::string out = transcript_header(format);
  int64_t number = 0;
  for (const Segment& segment : transcript.segments) out += transcript_segment(format, segment, ++number);
  return out;
}

std::string transcript_line(const Segment& segment) {
  return fmt::format("[{} --> {}] {}\n", clock(segment.start, '.', false), clock(segment.end, '.', false),
                     without(stripped(segment.text), "\r", " "));
}

}  // namespace kvass
