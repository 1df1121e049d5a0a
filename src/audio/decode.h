// Decodes an audio file to the input of speech models: 16 kHz, one channel, 16 bits. Reads what libsndfile reads (WAV,
// FLAC, OGG, MP3 and more), mixes the channels in equal parts and resamples with libsamplerate, block by block: only
// the result grows with the length, 115 MB an hour (and, for stdin, the input). Files that are 16 kHz, mono and 16 bit
// are not changed.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kvass/status.h"

namespace kvass {

inline constexpr int64_t kSampleRate = 16000;  // samples a second

// `path` "-": stdin. Errors: no file, not audio, a rate that cannot be resampled, and a file that cannot be decoded to
// its end or has fewer samples than it says: a part of a recording is not taken for the whole. A stream whose length
// its writer could not know (a size of 0 or the largest) gives what is there; no samples at all are no error. A read
// that fails, or a file that becomes shorter meanwhile, is StatusCode::io, whatever could be made of the rest.
// `cancel`, where it is set, ends it soon with StatusCode::cancelled; null: none.
Result<std::vector<int16_t>> decode_audio(const std::string& path, const std::atomic<bool>* cancel = nullptr);

// The same for a file in memory; `name` is its name in messages.
Result<std::vector<int16_t>> decode_audio(std::span<const uint8_t> bytes, const std::string& name,
                                          const std::atomic<bool>* cancel = nullptr);

}  // namespace kvass
