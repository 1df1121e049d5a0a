// A transcript as text: txt, srt, vtt, tsv and json, whole or segment by segment as they come. Bytes only: no files.
#pragma once

#include <string>
#include <string_view>

#include "app/transcribe.h"
#include "kvass/status.h"

namespace kvass {

enum class TranscriptFormat { txt, srt, vtt, tsv, json };
inline constexpr TranscriptFormat kTranscriptFormats[] = {
    TranscriptFormat::txt, TranscriptFormat::srt, TranscriptFormat::vtt, TranscriptFormat::tsv, TranscriptFormat::json};
std::string_view transcript_format_name(TranscriptFormat format);
Result<TranscriptFormat> parse_transcript_format(std::string_view name);

// What comes before the first segment, and segment `number` (from 1). JSON is of whole transcripts: nothing.
std::string transcript_header(TranscriptFormat format);
std::string transcript_segment(TranscriptFormat format, const Segment& segment, int64_t number);

// All of it; `file` stands in JSON.
std::string transcript_text(TranscriptFormat format, const Transcript& transcript, const std::string& file);

// "[00:01.200 --> 00:03.400] text", for people.
std::string transcript_line(const Segment& segment);

}  // namespace kvass
