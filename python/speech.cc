// kvass.Transcriber: speech in audio files to text.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "app/session_decoder.h"
#include "app/stream_options.h"
#include "app/transcribe_file.h"
#include "app/transcript.h"
#include "base/busy.h"
#include "interrupt.h"
#include "module.h"
#include "tensors.h"

namespace kvass::python {
namespace {

// An empty `math`, `weights` or `kv` is what the file says.
class PyTranscriber {
 public:
  PyTranscriber(const std::string& path, const std::string& math, const std::string& weights, const std::string& kv,
                int beam_size, int best_of, int threads) {
    search_.beam_size = beam_size;
    search_.best_of = best_of;
    Status status;
    {
      nb::gil_scoped_release released;
      status = open(path, math, weights, kv, threads);
    }
    check(status);
  }

  // The transcript as the command's JSON.
  std::string run(const std::string& path, TranscribeOptions options, const std::string& format) {
    Busy busy(busy_);
    if (!busy.mine()) raise_busy("transcriber");
    options.search.beam_size = search_.beam_size;
    options.search.best_of = search_.best_of;
    const TranscriptFormat form = value_of(parse_transcript_format(format));
    check(check_options(options, *model_.speech->tokenizer));
    Interrupt interrupt;
    TranscribeEvents events;
    events.on_progress = [&](double, double) { interrupt.poll(); };
    std::optional<Result<Transcript>> result;
    {
      nb::gil_scoped_release released;
      result.emplace(transcribe_file(*decoder_, *model_.speech->tokenizer, path, options, decoder_->session().pool(),
                                     events, interrupt.flag()));
    }
    interrupt.rethrow();
    return transcript_text(form, value_of(std::move(*result)), path);
  }

 private:
  Status open(const std::string& path, const std::string& math, const std::string& weights, const std::string& kv,
              int threads) {
    std::optional<Math> wanted;
    if (!math.empty()) {
      KVASS_ASSIGN_OR_RETURN(wanted, parse_math(math));
    }
    WeightOptions options;
    if (!weights.empty()) {
      KVASS_ASSIGN_OR_RETURN(options.type, parse_weight_type(weights));
    }
    SpeechSessionOptions session;
    if (!kv.empty()) {
      KVASS_ASSIGN_OR_RETURN(session.caches, parse_dtype(kv));
    }
    KVASS_ASSIGN_OR_RETURN(session.threads, resolve_threads(threads));
    TranscribeOptions search;
    search.search = search_;
    session.sequences = sequences_of(search);
    KVASS_ASSIGN_OR_RETURN(ModelFile file, ModelFile::open(path));
    const Math chosen = wanted.value_or(file.stream_options().arithmetic());
    KVASS_ASSIGN_OR_RETURN(model_, open_speech_model(std::move(file), chosen, session.threads, options));
    KVASS_ASSIGN_OR_RETURN(decoder_, SessionDecoder::create(model_, session));
    return {};
  }

  SearchOptions search_{.beam_size = 5};
  OpenModel model_;
  std::unique_ptr<SessionDecoder> decoder_;
  std::atomic<bool> busy_{false};
};

std::string transcribe_call(PyTranscriber& self, const std::string& path, const std::string& language,
                            const std::string& task, bool word_timestamps, bool timestamps, bool vad,
                            const std::string& initial_prompt, std::optional<std::vector<float>> temperature,
                            const std::string& format) {
  TranscribeOptions options;
  if (!language.empty()) {
    options.language = find_language(language);
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
  return self.run(path, options, format);
}

}  // namespace

void add_speech(nb::module_& module) {
  nb::class_<PyTranscriber>(module, "_Transcriber")
      .def(nb::init<const std::string&, const std::string&, const std::string&, const std::string&, int, int, int>(),
           nb::arg("model"), nb::arg("math"), nb::arg("weights"), nb::arg("kv"), nb::arg("beam_size"),
           nb::arg("best_of"), nb::arg("threads"))
      .def("transcribe", &transcribe_call, nb::arg("path"), nb::arg("language"), nb::arg("task"),
           nb::arg("word_timestamps"), nb::arg("timestamps"), nb::arg("vad"), nb::arg("initial_prompt"),
           nb::arg("temperature").none(), nb::arg("format"));
}

}  // namespace kvass::python
