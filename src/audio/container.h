// How many bytes of samples a recording says that it has, read from its header: WAV (RIFF, RIFX, RF64, W64), AIFF and
// AU. libsndfile takes a file that has fewer for a shorter recording. Other formats say it in ways that libsndfile
// checks, or not at all. Pure: bytes come from a function.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>

namespace kvass {

struct SampleBytes {
  // What the header says; nothing where its writer could not know: a stream whose length never was written.
  std::optional<uint64_t> declared;
  uint64_t available = 0;  // from the first sample to the end of the file
  // Where a size of four bytes is 0 though samples follow, which libsndfile takes for an empty recording.
  std::optional<uint64_t> zero_at;
};

// Fills `out` with the bytes from `at` on; false where there are not so many.
using ReadBytes = std::function<bool(uint64_t at, std::span<uint8_t> out)>;

// Nothing where the file is of another format, or has no samples' place.
std::optional<SampleBytes> find_sample_bytes(const ReadBytes& read, uint64_t file_bytes);

}  // namespace kvass
