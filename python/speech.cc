// kvass.Transcriber: speech in audio files to text.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>

#include "interrupt.h"
#include "kvass/transcribe.h"
#include "module.h"
#include "paths.h"

namespace nb = nanobind;

namespace kvass::python {
namespace {

// An empty `math`, `weights` or `kv` is what the file says.
class PyTranscriber {
 public:
  PyTranscriber(const Path& path, const std::string& math, const std::string& weights, const std::string& kv,
                int beam_size, int best_of, int threads) {
    search_.beam_size = beam_size;
    search_.best_of = best_of;
    LoadOptions load;
    load.weights = weights;
    load.threads = threads;
    if (!math.empty()) load.math = value_of(parse_math(math));
    TranscriberOptions options;
    if (!kv.empty()) options.kv = value_of(parse_dtype(kv));
    options.threads = threads;
    options.sequences = std::max({1, beam_size, best_of});
    transcriber_ = without_gil([&, file = path.text()]() -> Result<Transcriber> {
      KVASS_ASSIGN_OR_RETURN(const Model model, load_model(file, ModelKind::speech, load));
      return Transcriber::open(model, options);
    });
  }

  // The transcript in a format.
  std::string run(const std::string& path, TranscribeOptions options, const std::string& format) {
    options.search = search_;
    const TranscriptFormat form = value_of(parse_transcript_format(format));
    Interrupt interrupt;
    TranscribeEvents events;
    events.on_progress = [&](double, double) { interrupt.poll(); };
    const Transcript transcript =
        without_gil(interrupt, [&] { return transcriber_->transcribe_file(path, options, events, interrupt.flag()); });
    return transcript_text(form, transcript, path);
  }

 private:
  SearchOptions search_;
  std::optional<Transcriber> transcriber_;
};

std::string transcribe_call(PyTranscriber& self, const Path& path, const std::string& language, const std::string& task,
                            bool word_timestamps, bool timestamps, bool vad, const std::string& initial_prompt,
                            std::optional<std::vector<float>> temperature, const std::string& format) {
  TranscribeOptions options;
  if (!language.empty()) {
    options.language = language_code(language);
    if (options.language.empty()) check(bad_input("language", "a language by its code or English name", language));
  }
  if (task == "translate") {
    options.task = SpeechTask::translate;
  } else if (task != "transcribe") {
    check(bad_input("task", "transcribe or translate", task));
  }
  options.word_timestamps = word_timestamps;
  options.timestamps = timestamps;
  options.vad = vad;
  options.initial_prompt = initial_prompt;
  if (temperature) options.temperatures = *temperature;
  return self.run(path.text(), options, format);
}

}  // namespace

void add_speech(nb::module_& module) {
  nb::class_<PyTranscriber>(module, "_Transcriber")
      .def(nb::init<const Path&, const std::string&, const std::string&, const std::string&, int, int, int>(),
           nb::arg("model"), nb::arg("math"), nb::arg("weights"), nb::arg("kv"), nb::arg("beam_size"),
           nb::arg("best_of"), nb::arg("threads"))
      .def("transcribe", &transcribe_call, nb::arg("path"), nb::arg("language"), nb::arg("task"),
           nb::arg("word_timestamps"), nb::arg("timestamps"), nb::arg("vad"), nb::arg("initial_prompt"),
           nb::arg("temperature").none(), nb::arg("format"));
}

}  // namespace kvass::python
