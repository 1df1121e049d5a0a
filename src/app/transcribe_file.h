// Transcribing as commands need it: a file in, a transcript; a transcript into a file.
#pragma once

#include <string>

#include "app/transcribe.h"

namespace kvass {

// `path` "-": stdin.
Result<Transcript> transcribe_file(SpeechDecoder& decoder, const SpeechTokenizer& tokenizer, const std::string& path,
                                   const TranscribeOptions& options, ThreadPool& pool, const TranscribeEvents& events,
                                   const std::atomic<bool>& cancel);

// The file appears whole or not at all.
Status write_transcript(const std::string& path, const std::string& text);

// Sequences that live at a time.
int64_t sequences_of(const TranscribeOptions& options);

}  // namespace kvass
