// kvass.Generation: text token by token, as an iterator that can be left at any time.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

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
  PyGeneration(SharedStream stream, std::vector<int32_t> prompt, DecodeOptions options)
      : stream_(std::move(stream)), options_(std::move(options)) {
    options_.prompt = std::move(prompt);
    on_text_ = [this](std::string_view text) {
      shown_.append(text);
      return true;
    };
    alone(*stream_, [&] { return begin(); });
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
    while (shown_.empty()) {
      if (!generation_) throw nb::stop_iteration();
      Interrupt interrupt;
      alone(*stream_, [&] { return step(interrupt); });
      interrupt.rethrow();
    }
    const std::string text = std::exchange(shown_, {});
    return nb::steal<nb::str>(PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "replace"));
  }
  // The sequence goes on from here with whatever comes next.
  void close() {
    if (!generation_) return;
    if (stream_->changes != changes_) {
      generation_.reset();
      return;
    }
    alone(*stream_, [&] { return end(StopReason::cancelled); });
  }
  const std::vector<int32_t>& ids() const { return ids_; }
  std::optional<std::string> reason() const {
    if (generation_) return std::nullopt;
    return std::string(stop_reason_name(reason_));
  }

 private:
  Status begin() {
    StreamState& stream = *stream_;
    if (options_.prompt.empty() && stream.text.pending.empty()) KVASS_RETURN_IF_ERROR(stream.take_back_last());
    before_ = stream.text;
    const bool resumed = !before_.pending.empty();
    if (resumed) options_.resume = &before_;
    KVASS_ASSIGN_OR_RETURN(Sampler sampler, create_sampler(stream.loaded->model, options_.sampling));
    sampler_.emplace(std::move(sampler));
    if (resumed) sampler_->accept(before_.recent);
    KVASS_ASSIGN_OR_RETURN(generation_, TextGeneration::begin(stream.loaded->model, stream.stream, *sampler_, options_,
                                                              on_text_, cancel_));
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
    interrupt.poll();
    return more ? Status() : end(std::nullopt);
  }
  Status end(std::optional<StopReason> reason) {
    const std::unique_ptr<TextGeneration> generation = std::move(generation_);
    KVASS_ASSIGN_OR_RETURN(DecodeResult result, generation->end());
    reason_ = reason.value_or(result.reason);
    ids_ = std::move(result.ids);
    error_ = result.status.message();
    stream_->moved();
    stream_->text = std::move(result.state);
    ++stream_->changes;
    return {};
  }

  SharedStream stream_;
  DecodeOptions options_;
  kvass::StreamState before_;
  std::optional<Sampler> sampler_;
  TextGeneration::OnText on_text_;
  std::atomic<bool> cancel_{false};
  std::unique_ptr<TextGeneration> generation_;  // null: it has ended
  uint64_t changes_ = 0;
  std::string shown_;
  std::vector<int32_t> ids_;
  std::string error_;
  StopReason reason_ = StopReason::cancelled;
};

}  // namespace

nb::object begin_generation(SharedStream stream, nb::handle prompt, const nb::kwargs& options) {
  const bool special = options.contains("special") && nb::cast<bool>(options["special"]);
  if (!stream->stream.sequence) check(bad_input("sequence", "an open one", "one that was closed"));
  std::vector<int32_t> ids = token_ids(prompt, *stream->loaded, /*begin=*/stream->length() == 0, special);
  return nb::cast(new PyGeneration(std::move(stream), std::move(ids), generate_options(options)),
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
                   "max_tokens, end_of_generation, stop_text, cancelled or cache_full; None while it goes on.");
}

}  // namespace kvass::python
