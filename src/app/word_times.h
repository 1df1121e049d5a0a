// When each word was said: the heads of the cross-attention that follow the audio, turned into a path through it
// (dynamic time warping), as the Whisper reference does it. Words of one window; the segments are given and get their
// words, and their times follow them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "app/speech_decoder.h"
#include "app/transcribe.h"

namespace kvass {

struct WordTimesInput {
  const SpeechTokenizer* tokenizer = nullptr;
  std::vector<int32_t> start;  // start mark, language, task
  std::string language;
  int64_t frames = 0;  // of the window
  std::string prepend_punctuations, append_punctuations;
};

// Fills in the words of the segments of a window that begins `offset` seconds into the recording. `last_speech`: where
// the last word before it ended; follows. The decoder has encoded the window.
Status add_word_times(SpeechDecoder& decoder, const WordTimesInput& input, double offset, std::span<Segment> segments,
                      double& last_speech);

// Through costs −matrix [rows][columns] from corner to corner: (row, column) in order.
std::vector<std::pair<int64_t, int64_t>> warp(std::span<const float> matrix, int64_t rows, int64_t columns);

// Over each row of [rows][columns]; the ends are reflected.
void median_filter(std::span<float> matrix, int64_t rows, int64_t columns, int64_t width);

}  // namespace kvass
