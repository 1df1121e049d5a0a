// libFuzzer: for any bytes, decoding gives samples with a finite spectrogram, or a one-line error.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>

#include "audio/decode.h"
#include "audio/log_mel.h"
#include "audio/voice.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > (size_t{1} << 16)) return 0;
  const kvass::Result<std::vector<int16_t>> samples = kvass::decode_audio({data, size}, "fuzz");
  if (!samples.ok()) {
    if (samples.status().message().find('\n') != std::string::npos) std::abort();
    return 0;
  }
  // Half a second is enough.
  const auto some = std::span(samples.value()).first(std::min<size_t>(samples->size(), 8000));
  kvass::ThreadPool pool(1);
  const kvass::LogMel mel(some, 80, pool);
  std::vector<float> out(static_cast<size_t>(80 * mel.frames()));
  mel.window(0, mel.frames(), mel.frames(), out.data());
  for (const float value : out) {
    if (!std::isfinite(value)) std::abort();
  }
  for (const kvass::FrameRange& range : kvass::find_voice(some, mel.frames())) {
    if (range.begin < 0 || range.begin >= range.end || range.end > mel.frames()) std::abort();
  }
  return 0;
}
