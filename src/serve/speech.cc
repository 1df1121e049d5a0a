// POST /v1/audio/transcriptions and /v1/audio/translations.
#include "serve/speech.h"

#include <fmt/format.h>

#include <map>
#include <set>

#include "app/plan.h"
#include "app/session_decoder.h"
#include "app/text.h"
#include "app/transcribe.h"
#include "audio/decode.h"
#include "serve/answer.h"
#include "serve/multipart.h"

namespace kvass::serve {

Speech::Speech(OpenModel model, std::unique_ptr<SessionDecoder> decoder, std::string id)
    : model_(std::move(model)), decoder_(std::move(decoder)), id_(std::move(id)) {}
Speech::~Speech() { worker_.stop(); }

Result<size_t> Speech::plan(const SpeechOptions& options) {
  KVASS_ASSIGN_OR_RETURN(const ModelFile file, ModelFile::open(options.model));
  if (file.speech() == nullptr)
    return bad_input("ServeOptions.speech", "a model that transcribes", "one that writes text");
  KVASS_ASSIGN_OR_RETURN(const PlannedModel model, PlannedModel::of(file));
  StreamOptions streams = file.stream_options();
  streams.sequences = options.sequences;
  streams.threads = options.threads;
  KVASS_ASSIGN_OR_RETURN(const MemoryPlan plan, model.plan(streams, /*head_rows=*/1));
  return plan.total_bytes();
}

Result<std::unique_ptr<Speech>> Speech::open(const SpeechOptions& options) {
  KVASS_ASSIGN_OR_RETURN(ModelFile file, ModelFile::open(options.model));
  const std::string id = served_name(file.path());
  const Math math = file.stream_options().arithmetic();
  SpeechSessionOptions session;
  session.sequences = options.sequences;
  KVASS_ASSIGN_OR_RETURN(session.threads, resolve_threads(options.threads));
  KVASS_ASSIGN_OR_RETURN(OpenModel model, open_speech_model(std::move(file), math, session.threads));
  KVASS_ASSIGN_OR_RETURN(std::unique_ptr<SessionDecoder> decoder, SessionDecoder::create(model, session));
  return std::make_unique<Speech>(std::move(model), std::move(decoder), id);
}

Status Speech::add(std::function<void()> work) {
  if (waiting_.fetch_add(1) >= kMostWaiting) {
    waiting_.fetch_sub(1);
    return Status::error(
        StatusCode::busy,
        expected_message("recordings", "at most " + std::to_string(kMostWaiting) + " that wait", "one more"));
  }
  worker_.add([this, work = std::move(work)] {
    work();
    waiting_.fetch_sub(1);
  });
  return {};
}

namespace {

[[noreturn]] void refuse(const std::string& name, std::string_view expected, std::string_view got) {
  throw ApiError{400, expected_message(name, expected, got), name, "invalid_value"};
}

// The fields of a form; each is struck off as it is read, as in Params.
class Form {
 public:
  explicit Form(const HttpRequest& request) {
    const std::string* type = request.header("content-type");
    Result<std::vector<FormPart>> parts = parse_form(type ? *type : "", request.body);
    if (!parts.ok()) throw api_error(parts.status());
    for (const FormPart& part : parts.value()) parts_.emplace(part.name, part);
  }
  const FormPart* file(const std::string& name) {
    const auto found = parts_.find(name);
    if (found == parts_.end()) return nullptr;
    if (parts_.count(name) > 1) refuse(name, "one recording", "several");
    taken_.insert(name);
    return &found->second;
  }
  std::optional<std::string> text(const std::string& name) {
    const auto found = parts_.find(name);
    if (found == parts_.end()) return {};
    if (parts_.count(name) > 1) refuse(name, "one value", "several");
    taken_.insert(name);
    if (!is_utf8(found->second.body)) refuse(name, "UTF-8", "bytes that are none");
    return std::string(found->second.body);
  }
  std::vector<std::string> texts(const std::string& name) {  // name or name[]
    std::vector<std::string> all;
    for (const std::string& key : {name, name + "[]"}) {
      for (auto [one, end] = parts_.equal_range(key); one != end; ++one) all.emplace_back(one->second.body);
      taken_.insert(key);
    }
    return all;
  }
  bool flag(const std::string& name) {
    const std::optional<std::string> value = text(name);
    if (value && *value != "true" && *value != "false" && *value != "True" && *value != "False")
      refuse(name, "true or false", valid_utf8(*value).substr(0, 40));
    return value && (*value == "true" || *value == "True");
  }
  void harmless(const std::string& name) { taken_.insert(name); }
  void finish() const {
    for (const auto& [name, part] : parts_) {
      if (!taken_.contains(name))
        throw ApiError{400,
                       expected_message(valid_utf8(name).substr(0, 80), "a field that this endpoint has",
                                        "one that it does not know"),
                       valid_utf8(name).substr(0, 80), "unsupported_parameter"};
    }
  }

 private:
  std::multimap<std::string, FormPart> parts_;
  std::set<std::string> taken_;
};

struct Wanted {
  TranscribeOptions options;
  std::string format = "json", name;
  bool stream = false, words = false, segments = false;
};

Wanted wanted_of(Form& form, const Service& service, SpeechTask task) {
  Wanted wanted;
  TranscribeOptions& options = wanted.options;
  options.task = task;
  const std::optional<std::string> model = form.text("model");
  if (model && *model != service.speech->id()) {
    throw ApiError{
        404,
        expected_message("model", "'" + service.speech->id() + "', the speech model of this server", in_quotes(*model)),
        "model", "model_not_found"};
  }
  if (const auto language = form.text("language"); language && !language->empty() && *language != "auto") {
    options.language = find_language(*language);
    if (options.language.empty()) refuse("language", "a language by its code or English name", in_quotes(*language));
  }
  options.initial_prompt = form.text("prompt").value_or("");
  if (const auto text = form.text("temperature")) {
    char* end = nullptr;
    const float value = std::strtof(text->c_str(), &end);
    if (text->empty() || *end != '\0' || !(value >= 0.0f && value <= 1.0f))
      refuse("temperature", "a number from 0 to 1", "'" + text->substr(0, 40) + "'");
    // As OpenAI has it: 0 begins there, and goes up where the text reads badly.
    if (value > 0.0f) options.temperatures = {value};
  }
  wanted.format = form.text("response_format").value_or("json");
  constexpr std::string_view kFormats[] = {"json", "text", "srt", "verbose_json", "vtt"};
  if (std::find(std::begin(kFormats), std::end(kFormats), wanted.format) == std::end(kFormats)) {
    refuse("response_format", "json, text, srt, verbose_json or vtt", in_quotes(wanted.format));
  }
  for (const std::string& one : form.texts("timestamp_granularities")) {
    if (one == "word") {
      wanted.words = true;
    } else if (one == "segment") {
      wanted.segments = true;
    } else {
      refuse("timestamp_granularities", "word or segment", in_quotes(one));
    }
  }
  if ((wanted.words || wanted.segments) && wanted.format != "verbose_json") {
    refuse("timestamp_granularities", "response_format verbose_json beside it", wanted.format);
  }
  options.word_timestamps = wanted.words;
  wanted.stream = form.flag("stream");
  if (wanted.stream && wanted.format != "json" && wanted.format != "text") {
    refuse("stream", "response_format json or text beside it", wanted.format);
  }
  if (const auto include = form.texts("include"); !include.empty()) refuse("include", "nothing", in_quotes(include[0]));
  if (const auto chunking = form.text("chunking_strategy"); chunking && *chunking != "auto")
    refuse("chunking_strategy", "auto", "another");
  options.vad = form.flag("vad_filter");
  return wanted;
}

std::string text_of(const Transcript& transcript) {
  std::string text;
  for (const Segment& segment : transcript.segments) text += segment.text;
  const size_t begin = std::min(text.find_first_not_of(' '), text.size());
  return valid_utf8(text.substr(begin));
}

Json verbose(const Transcript& transcript, const Wanted& wanted) {
  Json json = {{"task", std::string(speech_task_name(wanted.options.task))},
               {"language", transcript.language},
               {"duration", transcript.duration},
               {"text", text_of(transcript)}};
  if (wanted.segments || !wanted.words) {
    json["segments"] = Json::array();
    int64_t id = 0;
    for (const Segment& one : transcript.segments) {
      json["segments"].push_back({{"id", id++},
                                  {"seek", one.seek},
                                  {"start", one.start},
                                  {"end", one.end},
                                  {"text", valid_utf8(one.text)},
                                  {"tokens", one.tokens},
                                  {"temperature", one.temperature},
                                  {"avg_logprob", one.avg_logprob},
                                  {"compression_ratio", one.compression_ratio},
                                  {"no_speech_prob", one.no_speech_prob}});
    }
  }
  if (wanted.words) {
    json["words"] = Json::array();
    for (const Segment& segment : transcript.segments) {
      for (const Word& word : segment.words) {
        const std::string text = valid_utf8(word.text);  // OpenAI's have no space before them
        json["words"].push_back({{"word", text.substr(std::min(text.find_first_not_of(' '), text.size()))},
                                 {"start", word.start},
                                 {"end", word.end}});
      }
    }
  }
  return json;
}

void transcribe_request(Service& service, const Exchange& exchange, SpeechTask task) {
  if (!service.speech) {
    throw ApiError{404, "audio: expected a server with a speech model (ServeOptions.speech), got one without", "",
                   "unsupported"};
  }
  Form form(exchange->request());
  auto wanted = std::make_shared<Wanted>(wanted_of(form, service, task));
  const FormPart* file = form.file("file");
  if (file == nullptr) refuse("file", "a recording", "none");
  form.finish();
  wanted->name = file->file.empty() ? "file" : valid_utf8(base_name(file->file)).substr(0, 100);
  Speech& speech = *service.speech;
  if (const Status status = check_options(wanted->options, *speech.model().speech->tokenizer); !status.ok())
    throw api_error(status);
  auto cancel = std::make_shared<std::atomic<bool>>(false);
  exchange->on_gone([cancel] { cancel->store(true); });
  const Result<std::vector<int16_t>> decoded = decode_audio(
      {reinterpret_cast<const uint8_t*>(file->body.data()), file->body.size()}, wanted->name, cancel.get());
  if (!decoded.ok()) throw api_error(decoded.status());
  auto samples = std::make_shared<std::vector<int16_t>>(decoded.value());
  exchange->request().body = {};
  const Status added = speech.add([&service, &speech, exchange, wanted, samples, cancel] {
    if (exchange->gone()) return;
    EventStream stream(exchange);
    TranscribeEvents events;
    if (wanted->stream) {
      events.on_segment = [&](const Segment& segment) {
        stream.send({{"type", "transcript.text.delta"}, {"delta", valid_utf8(segment.text)}});
        return !service.draining;
      };
    }
    const Result<Transcript> result = transcribe(speech.decoder(), *speech.model().speech->tokenizer, *samples,
                                                 wanted->options, speech.decoder().session().pool(), events, *cancel);
    if (exchange->gone()) return;
    if (!result.ok() || result->cancelled) {
      return fail(exchange, stream,
                  result.ok() ? ApiError{503, "the server is ending", "", "cancelled"} : api_error(result.status()));
    }
    service.metrics.audio_seconds.add(static_cast<int64_t>(result->duration));
    exchange->notes().emplace_back("audio_seconds", fmt::format("{:.2f}", result->duration));
    if (wanted->stream) {
      stream.send({{"type", "transcript.text.done"}, {"text", text_of(result.value())}});
      return stream.finish();
    }
    if (wanted->format == "json")
      return exchange->answer({200, "application/json", dump({{"text", text_of(result.value())}})});
    if (wanted->format == "verbose_json")
      return exchange->answer({200, "application/json", dump(verbose(result.value(), *wanted))});
    if (wanted->format == "text")
      return exchange->answer({200, "text/plain; charset=utf-8", text_of(result.value()) + "\n"});
    const bool vtt = wanted->format == "vtt";
    exchange->answer(
        {200, vtt ? "text/vtt; charset=utf-8" : "application/x-subrip; charset=utf-8",
         transcript_text(vtt ? TranscriptFormat::vtt : TranscriptFormat::srt, result.value(), wanted->name)});
  });
  if (!added.ok()) throw too_many(service, added);
}

}  // namespace

void add_audio(Router& router, Service& service) {
  router.add({"POST", "/v1/audio/transcriptions", [&service](const Exchange& exchange, const auto&) {
                transcribe_request(service, exchange, SpeechTask::transcribe);
              }});
  router.add({"POST", "/v1/audio/translations", [&service](const Exchange& exchange, const auto&) {
                transcribe_request(service, exchange, SpeechTask::translate);
              }});
}

}  // namespace kvass::serve
