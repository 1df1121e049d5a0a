// A transcript as text: txt, srt, vtt, tsv and json, whole or segment by segment as they come. Bytes only: no files.
// The formats are public (kvass/transcribe.h).
#pragma once

#include <string>

#include "app/transcribe.h"
#include "kvass/transcribe.h"

namespace kvass {

// "[00:01.200 --> 00:03.400] text", for people.
std::string transcript_line(const Segment& segment);

}  // namespace kvass
