// kvass.Generation: text token by token, as an iterator that can be left at any time.
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "keywords.h"
#include "module.h"
#include "paths.h"
#include "stream.h"

namespace kvass::python {
namespace {

bool set_stops(GenerateOptions& options, nb::handle value) {
  std::string one;
  if (!nb::try_cast(value, one)) return nb::try_cast(value, options.stops);
  options.stops.assign(1, std::move(one));
  return true;
}

bool set_save_path(GenerateOptions& options, nb::handle value) {
  Path path;
  if (!path.take(value)) return false;
  options.save_path = path.text();
  return true;
}

bool set_logit_bias(GenerateOptions& options, nb::handle value) {
  std::map<int32_t, float> biases;
  if (!nb::try_cast(value, biases)) return false;
  for (const auto& [id, bias] : biases) options.sampling.logit_bias.push_back({id, bias});
  return true;
}

using Row = Keyword<GenerateOptions>;

constexpr Row kGenerateKeywords[] = {
    {"max_tokens", "int", "a number", [](GenerateOptions& o, nb::handle v) { return nb::try_cast(v, o.max_tokens); }},
    {"stop", "str | collections.abc.Sequence[str]", "a text or several", set_stops},
    {"ignore_eos", "bool", "True or False",
     [](GenerateOptions& o, nb::handle v) { return nb::try_cast(v, o.ignore_eos); }},
    {"temperature", "float", "a number",
     [](GenerateOptions& o, nb::handle v) { return nb::try_cast(v, o.sampling.temperature); }},
    {"top_k", "int", "a number", [](GenerateOptions& o, nb::handle v) { return nb::try_cast(v, o.sampling.top_k); }},
    {"top_p", "float", "a number", [](GenerateOptions& o, nb::handle v) { return nb::try_cast(v, o.sampling.top_p); }},
    {"min_p", "float", "a number", [](GenerateOptions& o, nb::handle v) { return nb::try_cast(v, o.sampling.min_p); }},
    {"repeat_penalty", "float", "a number",
     [](GenerateOptions& o, nb::handle v) { return nb::try_cast(v, o.sampling.repeat_penalty); }},
    {"repeat_last_n", "int", "a number",
     [](GenerateOptions& o, nb::handle v) { return nb::try_cast(v, o.sampling.repeat_last_n); }},
    {"logit_bias", "collections.abc.Mapping[int, float]", "a dict of ids and numbers", set_logit_bias},
    {"seed", "int", "a number of 64 bits, 0 or more",
     [](GenerateOptions& o, nb::handle v) { return nb::try_cast(v, o.sampling.seed); }},
    {"hold_text", "bool", "True or False",
     [](GenerateOptions& o, nb::handle v) { return nb::try_cast(v, o.hold_text); }},
    {"collect", "bool", "True or False", [](GenerateOptions& o, nb::handle v) { return nb::try_cast(v, o.collect); }},
    {"save_every", "int", "a number", [](GenerateOptions& o, nb::handle v) { return nb::try_cast(v, o.save_every); }},
    {"save_path", "str | os.PathLike[str]", "the path of a file", set_save_path},
};

// The options of a Sequence's generate(): text that is held back stays for what goes on with it.
GenerateOptions generate_options(const nb::kwargs& given) {
  GenerateOptions options;
  options.hold_text = true;
  return from_keywords<GenerateOptions>(given, {kGenerateKeywords}, std::move(options));
}

nb::str text_of(const std::string& bytes) {  // what is no character becomes U+FFFD
  return nb::steal<nb::str>(PyUnicode_DecodeUTF8(bytes.data(), static_cast<Py_ssize_t>(bytes.size()), "replace"));
}

class PyGeneration {
 public:
  PyGeneration(std::shared_ptr<SharedStream> shared, const TokenArgument& prompt, GenerateOptions options)
      : shared_(std::move(shared)) {
    options.on_progress = [this](int64_t) { prompt_interrupt_.poll(); };
    if (options.save_every > 0) {
      options.on_save = [this](const Status& status) {
        if (!status.ok()) failed_save_ = status;
      };
    }
    alone(*shared_, prompt_interrupt_, [&](Stream& stream) -> Status {
      KVASS_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, prompt.ids(stream));
      KVASS_ASSIGN_OR_RETURN(Generation begun, Generation::begin(stream, ids, options, prompt_interrupt_.flag()));
      generation_->emplace(std::move(begun));
      return {};
    });
    shared_->latest = generation_;
  }
  PyGeneration(const PyGeneration&) = delete;
  ~PyGeneration() {
    // Nobody hears of an error here: the sequence then is as the last step left it.
    try {
      close();
    } catch (...) {
    }
  }

  // The next piece of text.
  nb::str next() {
    const Claim turn(busy_, "generation");
    while (shown_.empty()) {
      if (ended_.load(std::memory_order_relaxed)) throw nb::stop_iteration();
      Interrupt interrupt;
      alone(*shared_, interrupt, [&](Stream&) { return step(interrupt); });
      warn();
    }
    return text_of(std::exchange(shown_, {}));
  }
  // The sequence goes on from here with whatever comes next.
  void close() {
    const Claim turn(busy_, "generation");
    if (ended_.load(std::memory_order_relaxed)) return;
    if (!shared_->stream) return set_ended();
    alone(*shared_, [&](Stream&) -> Status {
      const Status status = finish();
      return status.code() == StatusCode::bad_input ? Status() : status;  // somebody changed the sequence
    });
  }
  // Once it has ended nobody writes to these.
  std::vector<int32_t> ids() const { return ended_.load(std::memory_order_acquire) ? ids_ : std::vector<int32_t>(); }
  std::optional<std::string> error() const { return ended_.load(std::memory_order_acquire) ? error_ : std::nullopt; }
  std::optional<std::string> reason() const {
    if (!ended_.load(std::memory_order_acquire)) return std::nullopt;
    return std::string(stop_reason_name(reason_));
  }

 private:
  void set_ended() { ended_.store(true, std::memory_order_release); }
  // A save that failed ends nothing.
  void warn() {
    const Status failed = std::exchange(failed_save_, {});
    if (!failed.ok() && PyErr_WarnEx(PyExc_RuntimeWarning, message_of(failed).c_str(), 1) != 0) {
      throw nb::python_error();
    }
  }
  Status step(Interrupt& interrupt) {
    const Result<bool> more = (*generation_)->next();
    if (!more.ok()) {
      generation_->reset();
      set_ended();
      return more.status();
    }
    shown_.append((*generation_)->text());
    interrupt.poll();
    return more.value() ? Status() : finish();
  }
  Status finish() {
    Result<GenerateResult> ended = (*generation_)->end();
    if (ended.ok()) {
      GenerateResult& result = ended.value();
      shown_.append((*generation_)->text());
      reason_ = result.reason;
      ids_ = std::move(result.ids);
      if (!result.status.ok()) error_ = message_of(result.status);
    }
    generation_->reset();
    set_ended();
    return ended.status();
  }

  std::shared_ptr<SharedStream> shared_;
  Interrupt prompt_interrupt_;  // outlives the generation
  // Used with the claim on the stream; none once it has ended or the sequence was closed.
  std::shared_ptr<std::optional<Generation>> generation_ = std::make_shared<std::optional<Generation>>();
  std::atomic_flag busy_;           // a thread is in next or close
  std::atomic<bool> ended_{false};  // and what follows of it is there to be read
  std::string shown_;
  Status failed_save_;
  std::vector<int32_t> ids_;
  std::optional<std::string> error_;
  StopReason reason_ = StopReason::cancelled;
};

}  // namespace

std::string generate_keyword_types() { return keyword_types<GenerateOptions>({kGenerateKeywords}); }

nb::object begin_generation(std::shared_ptr<SharedStream> shared, nb::handle prompt, bool special,
                            const nb::kwargs& options) {
  shared->opened();
  const TokenArgument tokens(prompt, special);
  return nb::cast(new PyGeneration(std::move(shared), tokens, generate_options(options)),
                  nb::rv_policy::take_ownership);
}

void add_generation(nb::module_& module) {
  nb::class_<PyGeneration>(module, "Generation",
                           R"(Text as it is generated: an iterator over str, each piece whole characters.

Leaving the loop, close() or deleting it ends it; the sequence then goes on from the last token that was generated.)")
      .def(
          "__iter__", [](nb::handle self) { return nb::borrow(self); }, nb::sig("def __iter__(self) -> Generation"))
      .def("__next__", &PyGeneration::next)
      .def("close", &PyGeneration::close, "Ends it here.")
      .def_prop_ro("ids", &PyGeneration::ids, "The tokens, once it has ended; with collect=False none.")
      .def_prop_ro("reason", &PyGeneration::reason,
                   "max_tokens, end_of_generation, stop_text, cancelled or cache_full; None while it goes on.")
      .def_prop_ro("error", &PyGeneration::error,
                   "Why the caches took no more, where the reason is cache_full; otherwise None.");
}

}  // namespace kvass::python
