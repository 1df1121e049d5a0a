// kvass.Generation: text token by token, as an iterator that can be left at any time.
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "fields.h"
#include "kvass/fields.h"
#include "stream.h"

namespace kvass::python {
namespace {

// The options of generate() by their names.
DecodeOptions generate_options(const nb::kwargs& from) {
  DecodeOptions options;
  options.keep_state = true;
  for (const auto& [name, value] : from) {
    const std::string key = nb::cast<std::string>(name);
    try {
      if (key == "max_tokens") {
        if (!value.is_none()) options.max_tokens = nb::cast<int64_t>(value);
      } else if (key == "stop") {
        if (nb::isinstance<nb::str>(value)) {
          options.stops = {nb::cast<std::string>(value)};
        } else if (!value.is_none()) {
          options.stops = nb::cast<std::vector<std::string>>(value);
        }
      } else if (key == "ignore_eos") {
        options.ignore_eos = nb::cast<bool>(value);
      } else if (key == "temperature") {
        options.sampling.temperature = nb::cast<float>(value);
      } else if (key == "top_k") {
        options.sampling.top_k = nb::cast<int>(value);
      } else if (key == "top_p") {
        options.sampling.top_p = nb::cast<float>(value);
      } else if (key == "min_p") {
        options.sampling.min_p = nb::cast<float>(value);
      } else if (key == "repeat_penalty") {
        options.sampling.repeat_penalty = nb::cast<float>(value);
      } else if (key == "repeat_last_n") {
        options.sampling.repeat_last_n = nb::cast<int>(value);
      } else if (key == "logit_bias") {
        for (const auto& [id, bias] : nb::cast<std::map<int32_t, float>>(value)) {
          options.sampling.logit_bias.push_back({id, bias});
        }
      } else if (key == "seed") {
        options.sampling.seed = nb::cast<uint64_t>(value);
      } else if (key != "special") {
        throw nb::type_error(("generate: no option " + key).c_str());
      }
    } catch (const nb::cast_error&) {
      const std::string got = nb::cast<std::string>(nb::str(nb::getattr(value.type(), "__name__")));
      throw nb::type_error(("generate: " + key + ": expected another type, got " + got).c_str());
    }
  }
  if (options.max_tokens < 0) check(bad_input("max_tokens", "0 or more", std::to_string(options.max_tokens)));
  return options;
}

class PyGeneration {
 public:
  PyGeneration(SharedStream stream, const TokenArgument& prompt, DecodeOptions options)
      : stream_(std::move(stream)), options_(std::move(options)) {
    alone(*stream_, [&] {
      options_.prompt = prompt.ids(*stream_);
      return begin();
    });
  }
  PyGeneration(const PyGeneration&) = delete;
  ~PyGeneration() {
    // Nobody hears of an error here: the sequence then is as the last step left it.
    try {
      close();
    } catch (...) {
    }
  }

  // The next piece of text; bytes that are no character become U+FFFD.
  nb::str next() {
    const Busy turn(busy_);
    if (!turn.mine()) refuse();
    while (shown_.empty()) {
      if (!generation_) throw nb::stop_iteration();
      Interrupt interrupt;
      alone(*stream_, [&] { return noted(step(interrupt)); });
      interrupt.rethrow();
    }
    const std::string text = std::exchange(shown_, {});
    return nb::steal<nb::str>(PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "replace"));
  }
  // The sequence goes on from here with whatever comes next.
  void close() {
    const Busy turn(busy_);
    if (!turn.mine()) refuse();
    if (!generation_) return;
    if (!stream_->stream.sequence) {  // closed before
      generation_.reset();
      (void)noted({});
      return;
    }
    alone(*stream_, [&] {
      if (stream_->changes == changes_) return noted(end(StopReason::cancelled));
      generation_.reset();
      return noted({});
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
  static void refuse() {
    check(Status::error(StatusCode::busy, expected_message("generation", "one caller at a time", "a second one")));
  }
  Status noted(Status status) {
    if (!generation_) ended_.store(true, std::memory_order_release);
    return status;
  }
  Status begin() {
    StreamState& stream = *stream_;
    KVASS_RETURN_IF_ERROR(validate(options_.sampling));
    if (options_.prompt.empty() && stream.text.pending.empty()) KVASS_RETURN_IF_ERROR(stream.take_back_last());
    if (!stream.text.pending.empty()) options_.resume = &stream.text;
    KVASS_ASSIGN_OR_RETURN(generation_, TextGeneration::begin(stream.loaded->model, stream.stream, /*sampler=*/nullptr,
                                                              std::exchange(options_, {})));
    stream.moved();
    changes_ = ++stream.changes;
    return {};
  }
  Status step(Interrupt& interrupt) {
    if (stream_->changes != changes_) {
      generation_.reset();
      return bad_input("generation", "a sequence that nobody else changed", "one that went on");
    }
    KVASS_ASSIGN_OR_RETURN(const bool more, generation_->next());
    shown_.append(generation_->piece());
    interrupt.poll();
    return more ? Status() : end(std::nullopt);
  }
  Status end(std::optional<StopReason> reason) {
    const std::unique_ptr<TextGeneration> generation = std::move(generation_);
    KVASS_ASSIGN_OR_RETURN(DecodeResult result, generation->end());
    reason_ = reason.value_or(result.reason);
    ids_ = std::move(result.ids);
    if (!result.status.ok()) error_ = translate_fields(result.status.message(), keyword_of);
    stream_->moved();
    stream_->text = std::move(result.state);
    ++stream_->changes;
    return {};
  }

  SharedStream stream_;
  DecodeOptions options_;
  std::unique_ptr<TextGeneration> generation_;  // null: it has ended
  std::atomic<bool> busy_{false};               // a thread is in next or close
  std::atomic<bool> ended_{false};              // and what follows of it is there to be read
  uint64_t changes_ = 0;
  std::string shown_;
  std::vector<int32_t> ids_;
  std::optional<std::string> error_;
  StopReason reason_ = StopReason::cancelled;
};

}  // namespace

nb::object begin_generation(SharedStream stream, nb::handle prompt, const nb::kwargs& options) {
  const bool special = options.contains("special") && nb::cast<bool>(options["special"]);
  if (!stream->stream.sequence) check(bad_input("sequence", "an open one", "one that was closed"));
  const TokenArgument tokens(prompt, special);
  return nb::cast(new PyGeneration(std::move(stream), tokens, generate_options(options)),
                  nb::rv_policy::take_ownership);
}

void add_generation(nb::module_& module) {
  nb::class_<PyGeneration>(module, "Generation",
                           R"(Text as it is generated: an iterator over str, each piece whole characters.

Leaving the loop, close() or deleting it ends it; the sequence then goes on from the last token that was generated.)")
      .def("__iter__", [](nb::handle self) { return nb::borrow(self); })
      .def("__next__", &PyGeneration::next)
      .def("close", &PyGeneration::close, "Ends it here.")
      .def_prop_ro("ids", &PyGeneration::ids, "The tokens, once it has ended.")
      .def_prop_ro("reason", &PyGeneration::reason,
                   "max_tokens, end_of_generation, stop_text, cancelled or cache_full; None while it goes on.")
      .def_prop_ro("error", &PyGeneration::error,
                   "Why the caches took no more, where the reason is cache_full; otherwise None.");
}

}  // namespace kvass::python
