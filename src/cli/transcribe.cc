// kvass transcribe: speech in audio files to text.
#include "app/transcribe.h"

#include <unistd.h>

#include <chrono>
#include <cmath>
#include <filesystem>
#include <map>
#include <set>

#include "app/open.h"
#include "app/session_decoder.h"
#include "app/stream_options.h"
#include "app/transcribe_file.h"
#include "app/transcript.h"
#include "base/new_file.h"
#include "cli/command.h"
#include "cli/config.h"
#include "cli/fields.h"
#include "cli/group_options.h"
#include "cli/model_flags.h"
#include "cli/progress.h"
#include "cli/signals.h"

namespace kvass {
namespace {

struct TranscribeFlags {
  std::vector<std::string> audio;
  std::string model;
  std::string language = "auto";
  std::string task = "transcribe";
  std::vector<float> temperature = {0.0f};
  float temperature_increment = 0.2f;
  SearchOptions search{.beam_size = 5};
  std::string compression_ratio = "2.4";
  std::string logprob = "-1.0";
  std::string no_speech = "0.6";
  bool condition = true;
  double prompt_reset = 0.5;
  std::string initial_prompt;
  std::string suppress = "-1";
  bool no_suppress_blank = false;
  bool without_timestamps = false;
  double max_initial_timestamp = 1.0;
  bool word_timestamps = false;
  const CLI::Option* patience_given = nullptr;
  std::string prepend = TranscribeOptions().prepend_punctuations;
  std::string append = TranscribeOptions().append_punctuations;
  bool vad = false;
  std::string format = "txt";
  std::string output_dir;
  bool quiet = false;
  std::string math;  // empty: the model's own
  std::string kv;
  ModelFlags weights;
  int threads = 0;
};

Result<std::optional<double>> threshold(const std::string& flag, const std::string& text) {
  if (text == "none" || text == "None") return std::optional<double>();
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (text.empty() || *end != '\0' || !std::isfinite(value)) return bad_input(flag, "a number or none", text);
  return std::optional<double>(value);
}

Result<TranscribeOptions> resolve(const TranscribeFlags& flags) {
  TranscribeOptions options;
  if (flags.language != "auto") {
    options.language = find_language(flags.language);
    if (options.language.empty()) {
      return bad_input("--language", "a language by its code or English name, or auto", flags.language);
    }
  }
  if (flags.task == "translate") {
    options.task = SpeechTask::translate;
  } else if (flags.task != "transcribe") {
    return bad_input("--task", "transcribe or translate", flags.task);
  }
  options.temperatures = flags.temperature;
  if (!(flags.temperature_increment >= 0.0f)) {
    return bad_input("--temperature-increment-on-fallback", "0 or more",
                     fmt::format("{}", flags.temperature_increment));
  }
  if (options.temperatures.size() == 1 && flags.temperature_increment > 0.0f) {
    // Up to 1, in steps that are counted, so that rounding adds none.
    for (int i = 1; i <= 100; ++i) {
      const float next = flags.temperature[0] + static_cast<float>(i) * flags.temperature_increment;
      if (next > 1.0f + 1e-6f) break;
      options.temperatures.push_back(next);
    }
  }
  options.search = flags.search;
  KVASS_ASSIGN_OR_RETURN(options.compression_ratio_threshold,
                         threshold("--compression-ratio-threshold", flags.compression_ratio));
  KVASS_ASSIGN_OR_RETURN(options.logprob_threshold, threshold("--logprob-threshold", flags.logprob));
  KVASS_ASSIGN_OR_RETURN(options.no_speech_threshold, threshold("--no-speech-threshold", flags.no_speech));
  options.condition_on_previous_text = flags.condition;
  options.prompt_reset_on_temperature = flags.prompt_reset;
  options.initial_prompt = flags.initial_prompt;
  if (flags.suppress != "-1") {
    KVASS_ASSIGN_OR_RETURN(options.suppressed, parse_ids("[" + flags.suppress + "]", "--suppress-tokens"));
  }
  options.suppress_blank = !flags.no_suppress_blank;
  options.timestamps = !flags.without_timestamps;
  options.max_initial_timestamp = flags.max_initial_timestamp;
  options.word_timestamps = flags.word_timestamps;
  if (options.word_timestamps && flags.without_timestamps)
    return bad_input("--word-timestamps", "no --without-timestamps beside it", "both");
  if (flags.patience_given->count() > 0 && flags.search.beam_size == 1)
    return bad_input("--patience", "--beam-size 2 or more beside it", "--beam-size 1");
  options.prepend_punctuations = flags.prepend;
  options.append_punctuations = flags.append;
  options.vad = flags.vad;
  return options;
}

Result<std::vector<TranscriptFormat>> formats_of(const TranscribeFlags& flags) {
  if (flags.format == "all") {
    if (flags.output_dir.empty()) return bad_input("--output-format all", "--output-dir FOLDER beside it", "none");
    return std::vector<TranscriptFormat>(std::begin(kTranscriptFormats), std::end(kTranscriptFormats));
  }
  const Result<TranscriptFormat> format = parse_transcript_format(flags.format);
  if (!format.ok()) return bad_input("--output-format", "txt, srt, vtt, tsv, json or all", flags.format);
  return std::vector<TranscriptFormat>{format.value()};
}

// "audio/talk.wav" -> "talk"; files of one name must not write over each other.
Result<std::map<std::string, std::string>> output_names(const TranscribeFlags& flags) {
  std::map<std::string, std::string> names;
  std::set<std::string> seen;
  for (const std::string& audio : flags.audio) {
    const std::string name = audio == "-" ? "stdin" : std::filesystem::path(audio).stem().string();
    if (names.contains(audio)) continue;
    if (!flags.output_dir.empty() && !seen.insert(name).second) {
      return bad_input("--output-dir", "audio files of different names", "two named " + one_line(name));
    }
    names[audio] = name;
  }
  return names;
}

// What people see of a file while it is transcribed.
class Display {
 public:
  Display(const TranscribeFlags& flags, TranscriptFormat format)
      : live_(flags.output_dir.empty() && format != TranscriptFormat::json),
        lines_(!flags.output_dir.empty() && !flags.quiet),
        // A bar between lines of text would tear them.
        bar_(!flags.quiet && (::isatty(STDOUT_FILENO) == 0 || (!live_ && !lines_))),
        format_(format) {}

  bool segment(const Segment& segment) {
    ++count_;
    clear();
    if (live_) {
      if (count_ == 1) write_stdout(transcript_header(format_));
      return show_stdout(transcript_segment(format_, segment, count_));
    }
    return !lines_ || show_stdout(transcript_line(segment));
  }
  void progress(double done, double total) {
    if (!bar_) return;
    progress_.show(static_cast<int64_t>(done), static_cast<int64_t>(std::ceil(total)));
  }
  void clear() { progress_.end(); }
  // A file without a word still has its header.
  void finish() {
    clear();
    if (live_ && count_ == 0) show_stdout(transcript_header(format_));
  }

 private:
  bool live_;   // the output itself, as it comes
  bool lines_;  // text for people, beside files
  bool bar_;
  TranscriptFormat format_;
  int64_t count_ = 0;
  Progress progress_{"s"};
};

// The files of one recording, which nobody else writes meanwhile. They appear whole, at its end, or not at all.
class Outputs {
 public:
  static Result<Outputs> open(const TranscribeFlags& flags, const std::vector<TranscriptFormat>& formats,
                              const std::string& name) {
    Outputs outputs;
    if (flags.output_dir.empty()) return outputs;
    for (const TranscriptFormat format : formats) {
      const std::string path = fmt::format("{}/{}.{}", flags.output_dir, name, transcript_format_name(format));
      KVASS_RETURN_IF_ERROR(check_new_file(path));
      for (const std::string& audio : flags.audio) {
        std::error_code none;
        if (std::filesystem::equivalent(path, audio, none))
          return bad_input(path, "a file that is no input", "the recording " + one_line(audio));
      }
      KVASS_ASSIGN_OR_RETURN(FileLock lock, FileLock::acquire(path));
      if (!lock.warning().empty()) say("kvass: warning: {}\n", one_line(lock.warning()));
      outputs.files_.emplace_back(format, std::move(lock));
    }
    return outputs;
  }
  Status write(const Transcript& transcript, const std::string& audio) const {
    for (const auto& [format, lock] : files_) {
      KVASS_RETURN_IF_ERROR(write_new_file(lock.path(), transcript_text(format, transcript, audio), &lock));
    }
    return {};
  }

 private:
  std::vector<std::pair<TranscriptFormat, FileLock>> files_;
};

Status run_file(const TranscribeFlags& flags, const TranscribeOptions& options,
                const std::vector<TranscriptFormat>& formats, const std::string& audio, const std::string& name,
                const OpenModel& model, SessionDecoder& decoder, const std::atomic<bool>& cancel) {
  const auto begin = std::chrono::steady_clock::now();
  const double encode_before = decoder.encode_seconds();
  const int64_t windows_before = decoder.encoded_windows();
  KVASS_ASSIGN_OR_RETURN(const Outputs outputs, Outputs::open(flags, formats, name));
  Display display(flags, formats[0]);
  double done_seconds = 0.0;
  TranscribeEvents events;
  events.on_segment = [&](const Segment& segment) { return display.segment(segment); };
  events.on_progress = [&](double done, double total) {
    done_seconds = done;
    display.progress(done, total);
  };
  const Result<Transcript> result =
      transcribe_file(decoder, *model.speech->tokenizer, audio, options, decoder.session().pool(), events, cancel);
  display.clear();
  if (!result.ok()) return result.status();
  const Transcript& transcript = result.value();
  if (transcript.cancelled) {
    KVASS_RETURN_IF_ERROR(flush_stdout());
    return Status::error(StatusCode::cancelled,
                         fmt::format("transcribe: interrupted after {:.2f} of {:.2f} s of {}{}", done_seconds,
                                     transcript.duration, audio, flags.output_dir.empty() ? "" : "; nothing written"));
  }
  display.finish();
  if (flags.output_dir.empty() && formats[0] == TranscriptFormat::json) {
    show_stdout(transcript_text(TranscriptFormat::json, transcript, audio));
  }
  KVASS_RETURN_IF_ERROR(outputs.write(transcript, audio));
  KVASS_RETURN_IF_ERROR(flush_stdout());
  if (flags.quiet) return {};
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  say("kvass: {}: {:.2f} s of audio in {:.3f} s ({:.1f} x real time), language {} ({:.2f}), encoder {:.3f} s in {} "
      "windows, peak memory {}\n",
      one_line(audio), transcript.duration, seconds, transcript.duration / seconds,
      transcript.language.empty() ? "unknown" : transcript.language, transcript.language_probability,
      decoder.encode_seconds() - encode_before, decoder.encoded_windows() - windows_before,
      human_bytes(peak_rss_bytes()));
  return {};
}

Status run(const TranscribeFlags& flags) {
  KVASS_ASSIGN_OR_RETURN(const TranscribeOptions options, resolve(flags));
  KVASS_ASSIGN_OR_RETURN(const std::vector<TranscriptFormat> formats, formats_of(flags));
  KVASS_ASSIGN_OR_RETURN(const auto names, output_names(flags));
  std::optional<Math> math;
  if (!flags.math.empty()) {
    KVASS_ASSIGN_OR_RETURN(math, parse_math(flags.math));
  }
  KVASS_ASSIGN_OR_RETURN(const WeightOptions weights, flags.weights.resolve(flags.quiet));
  SpeechSessionOptions session;
  if (!flags.kv.empty()) {
    KVASS_ASSIGN_OR_RETURN(session.caches, parse_dtype(flags.kv));
  }
  KVASS_ASSIGN_OR_RETURN(session.threads, resolve_threads(flags.threads));
  if (!flags.output_dir.empty()) {
    std::error_code error;
    std::filesystem::create_directories(flags.output_dir, error);
    if (error) return bad_input("--output-dir " + flags.output_dir, "a folder that can be made", error.message());
  }
  KVASS_ASSIGN_OR_RETURN(ModelFile file, ModelFile::open(flags.model));
  const Math chosen = math.value_or(file.stream_options().arithmetic());
  KVASS_ASSIGN_OR_RETURN(const OpenModel model, open_speech_model(std::move(file), chosen, session.threads, weights));
  KVASS_RETURN_IF_ERROR(check_options(options, *model.speech->tokenizer));
  session.sequences = sequences_of(options);
  KVASS_ASSIGN_OR_RETURN(const std::unique_ptr<SessionDecoder> decoder, SessionDecoder::create(model, session));

  const std::atomic<bool>& cancel = cancelled();
  size_t failed = 0, done = 0;
  const auto of_all = [&](const Status& status) {  // where the job ends with it
    if (flags.audio.size() == 1) return status;
    return status.with_message(fmt::format("{}; {} of {} files done", status.message(), done, flags.audio.size()));
  };
  for (const std::string& audio : flags.audio) {
    Status status = run_file(flags, options, formats, audio, names.at(audio), model, *decoder, cancel);
    if (status.ok() && cancel.load(std::memory_order_relaxed) && done + 1 < flags.audio.size()) {
      status = Status::error(StatusCode::cancelled, "transcribe: interrupted");
      ++done;
    }
    if (status.code() == StatusCode::cancelled || !flush_stdout().ok()) return of_all(status);
    done += status.ok();
    if (status.ok()) continue;
    if (flags.audio.size() == 1) return status;
    say("kvass: {}\n", shown_message(status));
    ++failed;
  }
  if (failed == 0) return {};
  return bad_input("transcribe", fmt::format("{} files that can be transcribed", flags.audio.size()),
                   fmt::format("{} that cannot", failed));
}

void add_speech_flags(TranscribeFlags& flags, CLI::App& command) {
  const std::string group = "Speech";
  const GroupOptions option{command, group};
  option(flags_of("TranscribeOptions.language"), flags.language,
         "The language spoken, by code or name; auto: the one that is heard", "LANGUAGE");
  option(flags_of("TranscribeOptions.task"), flags.task, "transcribe, or translate into English", "TASK");
  command
      .add_option(flags_of("TranscribeOptions.initial_prompt"), flags.initial_prompt,
                  "Text that comes before the first window")
      ->type_name("TEXT")
      ->group(group);
  option(flags_of("TranscribeOptions.condition_on_previous_text"), flags.condition,
         "Each window sees the text before it", "BOOL");
  option(flags_of("TranscribeOptions.prompt_reset_on_temperature"), flags.prompt_reset,
         "… unless that took a higher temperature", "T");
  command.add_flag(flags_of("TranscribeOptions.vad"), flags.vad, "Only where it is not silent, by energy")
      ->group(group);
}

void add_search_flags(TranscribeFlags& flags, CLI::App& command) {
  const std::string group = "Search";
  const GroupOptions option{command, group};
  option(flags_of("SearchOptions.beam_size"), flags.search.beam_size,
         "Texts that are followed at temperature 0; 1: greedy", "N");
  flags.patience_given = option(flags_of("SearchOptions.patience"), flags.search.patience,
                                "Finished texts to wait for, in beam sizes", "X");
  option(flags_of("SearchOptions.length_penalty"), flags.search.length_penalty,
         "Texts are compared by log-probability / length^X", "X");
  option(flags_of("SearchOptions.best_of"), flags.search.best_of, "Texts that are drawn at a temperature above 0", "N");
  option(flags_of("TranscribeOptions.temperatures"), flags.temperature,
         "The first temperature, or all of them as a list", "T[,T...]")
      ->delimiter(',');
  option("--temperature-increment-on-fallback", flags.temperature_increment, "Steps to 1 while a text is bad; 0: none",
         "T");
  option(flags_of("TranscribeOptions.compression_ratio_threshold"), flags.compression_ratio,
         "A text above it is bad, or none", "X");
  option(flags_of("TranscribeOptions.logprob_threshold"), flags.logprob, "A text below this average is bad, or none",
         "X");
  option(flags_of("TranscribeOptions.no_speech_threshold"), flags.no_speech, "Above it a bad text is silence, or none",
         "X");
  option(flags_of("TranscribeOptions.suppressed"), flags.suppress,
         "Ids that are never written; -1: signs that are no speech", "IDS");
  command
      .add_flag(flags_of("TranscribeOptions.suppress_blank"), flags.no_suppress_blank, "Let a text begin with a blank")
      ->group(group);
  option(flags_of("TranscribeOptions.max_initial_timestamp"), flags.max_initial_timestamp,
         "The latest start of a window's text", "SECONDS");
  option(flags_of("SearchOptions.seed"), flags.search.seed, "Of draws", "N");
}

void add_output_flags(TranscribeFlags& flags, CLI::App& command) {
  const std::string group = "Output";
  const GroupOptions option{command, group};
  option("-f,--output-format", flags.format, "txt, srt, vtt, tsv, json or all", "FORMAT");
  command.add_option("-o,--output-dir", flags.output_dir, "Write files named as the audio into this folder")
      ->type_name("FOLDER")
      ->group(group);
  command.add_flag(flags_of("TranscribeOptions.word_timestamps"), flags.word_timestamps, "When each word was said")
      ->group(group);
  option(flags_of("TranscribeOptions.prepend_punctuations"), flags.prepend, "Marks that belong to the next word",
         "MARKS");
  option(flags_of("TranscribeOptions.append_punctuations"), flags.append, "Marks that belong to the word before",
         "MARKS");
  command
      .add_flag(flags_of("TranscribeOptions.timestamps"), flags.without_timestamps, "Text alone, a window at a time")
      ->group(group);
  command.add_flag("-q,--quiet", flags.quiet, "No summary, no progress")->group(group);
}

void add_machine_flags(TranscribeFlags& flags, CLI::App& command) {
  const std::string group = "Machine";
  command
      .add_option(flags_of("StreamOptions.threads"), flags.threads,
                  "Threads (default: as many as the process may use CPUs)")
      ->type_name("N")
      ->group(group);
  command
      .add_option(
          flags_of("StreamOptions.math"), flags.math,
          "Activations in products with weights: f32, a16 or a8 (default: f32, or what a .kvp was exported for)")
      ->type_name("MATH")
      ->group(group);
  command
      .add_option(flags_of("StreamOptions.kv"), flags.kv,
                  "Storage of keys and values: f32, f16 or bf16 (default: f32, or what a .kvp was exported for)")
      ->type_name("TYPE")
      ->group(group);
  flags.weights.add(command);
}

}  // namespace

CommandAction add_transcribe(CLI::App& command) {
  auto flags = std::make_shared<TranscribeFlags>();
  command.description("Turn speech in audio files into text");
  command.footer(
      "Text goes to stdout as it comes, or to files beside each other with --output-dir; a summary line goes to "
      "stderr.\n"
      "A model is a CTranslate2 folder, a Hugging Face folder (model.safetensors), a ggml-*.bin file, or a .kvp file\n"
      "that `kvass export` made of one; scripts/fetch-model.sh fetches one. Audio is WAV, FLAC, OGG or MP3 of any rate "
      "and channels.\n"
      "Examples:\n"
      "  kvass transcribe talk.mp3 --model MODEL\n"
      "  kvass transcribe *.wav --model MODEL --output-dir out --output-format all --word-timestamps\n"
      "  kvass transcribe rede.flac --model MODEL --language de --task translate --output-format srt");
  command.add_option("AUDIO", flags->audio, "Audio files; - is stdin")->required()->type_name("");
  command.add_option("-m,--model", flags->model, "The model: a folder or a file")->required()->type_name("PATH");
  add_speech_flags(*flags, command);
  add_search_flags(*flags, command);
  add_output_flags(*flags, command);
  add_machine_flags(*flags, command);
  add_config(command);
  return [flags] { return run(*flags); };
}

}  // namespace kvass
