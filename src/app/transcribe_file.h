// Transcribing as commands need it: a file in, a transcript out.
#pragma once

#include <string>

#include "app/transcribe.h"

namespace kvass {

// `path` "-": stdin.
Result<Transcript> transcribe_file(SpeechDecoder& decoder, const SpeechTokenizer& tokenizer, const std::string& path,
                                   const TranscribeOptions& options, ThreadPool& pool, const TranscribeEvents& events,
                                   const std::atomic<bool>& cancel);

// Sequences that live at a time.
int64_t sequences_of(const TranscribeOptions& options);

}  // namespace kvass
