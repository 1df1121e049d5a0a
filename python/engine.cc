// kvass.Engine and kvass.Sequence: models and streams.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "module.h"
#include "stream.h"
#include "stream_arguments.h"

namespace kvass::python {
namespace {

Result<std::shared_ptr<const LoadedModel>> load(const std::string& path, const std::optional<std::string>& math,
                                                int threads, bool check_weights, bool huge_pages) {
  auto loaded = std::make_shared<LoadedModel>();
  KVASS_ASSIGN_OR_RETURN(ModelFile file, ModelFile::open(path));
  loaded->stream = file.stream_options();
  if (math) {
    KVASS_ASSIGN_OR_RETURN(loaded->stream.math, parse_math(*math));
  }
  KVASS_ASSIGN_OR_RETURN(loaded->stream.threads, resolve_threads(threads));
  WeightOptions weights;
  weights.check = check_weights;
  if (huge_pages) weights.pages = Pages::huge;
  KVASS_ASSIGN_OR_RETURN(loaded->model,
                         open_model(std::move(file), loaded->stream.arithmetic(), loaded->stream.threads, weights));
  return std::shared_ptr<const LoadedModel>(std::move(loaded));
}

class PySequence {
 public:
  explicit PySequence(SharedStream state) : state_(std::move(state)) { state_->shown_length = state_->length(); }

  StreamState& state() const { return *state_; }
  const SharedStream& shared() const { return state_; }
  void close() {
    Busy busy(state_->busy);
    if (!busy.mine()) raise_busy("sequence");
    state_->stream = {};
    ++state_->changes;
  }
  const Sequence& sequence() const {
    if (!state_->stream.sequence) check(bad_input("sequence", "an open one", "one that was closed"));
    return *state_->stream.sequence;
  }

 private:
  SharedStream state_;
};

class PyEngine {
 public:
  PyEngine(const std::string& path, const std::optional<std::string>& math, int threads, bool check_weights,
           bool huge_pages) {
    nb::gil_scoped_release released;
    Result<std::shared_ptr<const LoadedModel>> result = load(path, math, threads, check_weights, huge_pages);
    if (result.ok()) loaded_ = std::move(result).value();
    nb::gil_scoped_acquire acquired;
    check(result.status());
  }
  const std::shared_ptr<const LoadedModel>& loaded() const {
    if (!loaded_) check(bad_input("engine", "an open one", "one that was closed"));
    return loaded_;
  }
  const OpenModel& model() const { return loaded()->model; }
  const Tokenizer& tokenizer() const { return *model().tokenizer; }
  void close() { loaded_.reset(); }

  PySequence sequence(const StreamOptions& options) const {
    const std::shared_ptr<const LoadedModel> model = loaded();
    std::optional<Result<SharedStream>> result;
    {
      nb::gil_scoped_release released;
      result.emplace(open_shared(model, options));
    }
    return PySequence(value_of(std::move(*result)));
  }

 private:
  std::shared_ptr<const LoadedModel> loaded_;
};

nb::ndarray<nb::numpy, float> logits_of(StreamState& state) {
  Interrupt interrupt;
  std::vector<float> row;
  alone(state, [&]() -> Status {
    if (!state.text.pending.empty()) KVASS_RETURN_IF_ERROR(state.run({}, interrupt));
    if (state.last_row < 0) return bad_input("logits", "a step before them", "none since the sequence began or moved");
    KVASS_ASSIGN_OR_RETURN(const StepResult result,
                           state.stream.session->step({.logits = std::span(&state.last_row, 1)}));
    row.assign(result.logits.begin(), result.logits.end());
    return {};
  });
  interrupt.rethrow();
  const size_t count = row.size();
  return numpy_array<float>(std::move(row), {count});
}

double logprob_of(StreamState& state, int64_t token) {
  const std::vector<int32_t> ids = TokenArgument(nb::make_tuple(token), false).ids(*state.loaded, false);
  Interrupt interrupt;
  double nll = 0.0;
  alone(state, [&]() -> Status {
    if (!state.text.pending.empty()) KVASS_RETURN_IF_ERROR(state.run({}, interrupt));
    if (state.last_row < 0) return bad_input("logprob", "a step before it", "none since the sequence began or moved");
    KVASS_ASSIGN_OR_RETURN(nll, next_nll(*state.stream.session, state.last_row, ids[0]));
    return {};
  });
  interrupt.rethrow();
  return -nll;
}

void prefill(StreamState& state, const TokenArgument& tokens) {
  Interrupt interrupt;
  alone(state, [&] { return state.run(tokens.ids(state), interrupt); });
  interrupt.rethrow();
}

nb::ndarray<nb::numpy, double> score_tokens(StreamState& state, const TokenArgument& tokens) {
  Interrupt interrupt;
  std::vector<double> nll;
  alone(state, [&]() -> Status {
    const std::vector<int32_t> ids = tokens.ids(state);
    if (!state.text.pending.empty()) KVASS_RETURN_IF_ERROR(state.run({}, interrupt));
    if (interrupt.flag().load()) return {};
    const Result<ScoreResult> result = score(
        state.stream, ids, /*top=*/0, [&](int64_t) { interrupt.poll(); }, interrupt.flag());
    ++state.changes;
    if (interrupt.flag().load()) {
      state.moved();
      return {};
    }
    KVASS_RETURN_IF_ERROR(result.status());
    state.moved();
    const size_t chunk = static_cast<size_t>(state.stream.sequence->plan().chunk);
    state.last_row = static_cast<int32_t>((ids.size() - 1) % chunk);
    state.last_token = ids.back();
    nll = result.value().nll;
    return {};
  });
  interrupt.rethrow();
  const size_t count = nll.size();
  return numpy_array<double>(std::move(nll), {count});
}

void save(StreamState& state, const std::string& path) {
  alone(state, [&]() -> Status {
    kvass::StreamState text = state.text;
    if (text.pending.empty() && state.last_row >= 0) {
      // Logits are not saved: the last token is pending in the file. Here it runs again when it is asked for.
      KVASS_RETURN_IF_ERROR(state.take_back_last());
      ++state.changes;
      text = state.text;
    }
    return save_snapshot(*state.stream.sequence, text, path);
  });
}

void resume(StreamState& state, const std::string& path) {
  alone(state, [&]() -> Status {
    KVASS_ASSIGN_OR_RETURN(const Snapshot snapshot, Snapshot::open(path));
    KVASS_RETURN_IF_ERROR(snapshot.restore(*state.stream.sequence));
    state.moved();
    state.text = snapshot.info().state;
    ++state.changes;
    return {};
  });
}

void add_sequence(nb::module_& module) {
  nb::class_<PySequence>(
      module, "Sequence",
      R"(One stream: its caches and where it stands. Made by Engine.sequence(), Engine.resume() and fork().

All of its memory is mapped when it is made. One thread at a time: a second one gets kvass.Busy, and nothing has
happened. Calls release the GIL; Ctrl-C ends long ones between chunks.)")
      .def(
          "prefill",
          [](const PySequence& self, nb::handle tokens, bool special) {
            prefill(self.state(), TokenArgument(tokens, special));
          },
          nb::arg("tokens"), nb::arg("special") = false,
          R"(Appends tokens: ids [n] as a list or array, or a text (with the begin token where the stream begins; special=True
parses the texts of control tokens). In chunks as planned; the bits do not depend on them.
ValueError: no tokens, ids outside of the vocabulary. kvass.CacheFull: no room for them.)")
      .def(
          "step",
          [](const PySequence& self, int64_t token) {
            prefill(self.state(), TokenArgument(nb::make_tuple(token), false));
          },
          nb::arg("token"), "Appends one token id.")
      .def(
          "logits", [](const PySequence& self) { return logits_of(self.state()); },
          "float32 [vocabulary]: the logits of what follows the last token, as a new NumPy array.")
      .def(
          "logprob", [](const PySequence& self, int64_t token) { return logprob_of(self.state(), token); },
          nb::arg("token"), "ln p of a token as the next one, a float: -score() of it, bit for bit.")
      .def(
          "generate",
          [](const PySequence& self, nb::handle prompt, const nb::kwargs& options) {
            return begin_generation(self.shared(), prompt, options);
          },
          nb::arg("prompt") = nb::none(), nb::arg("options"),
          R"(A Generation: an iterator over the text that follows. The prompt (ids, a text, or None: go on) is run at once.

max_tokens      None: until the model ends the text or the cache is full
stop            a text, or several, that end it; not shown
ignore_eos      go on after the model's end
temperature     0: the most likely token; top_k, top_p, min_p, repeat_penalty, repeat_last_n, seed
logit_bias      {id: number}, added to the logits before everything else; -inf: never
special         parse control tokens in a text prompt

A token depends on its logits, its position and the seed alone. Leaving the loop ends it, and the sequence goes on from
the last token.)")
      .def(
          "score",
          [](const PySequence& self, nb::handle tokens, bool special) {
            return score_tokens(self.state(), TokenArgument(tokens, special));
          },
          nb::arg("tokens"), nb::arg("special") = false,
          R"(Appends tokens and returns float64 [n - 1]: -ln p of token i + 1 after tokens 0 to i.

The bits are those of -logprob() before each step: a rollout and its score agree, in any chunks.)")
      .def(
          "save", [](const PySequence& self, const std::string& path) { save(self.state(), path); }, nb::arg("path"),
          "The stream as a file that appears whole or not at all. Whoever resumes it goes on with the same bits.")
      .def(
          "resume", [](const PySequence& self, const std::string& path) { resume(self.state(), path); },
          nb::arg("path"),
          "Becomes the stream that was saved, of the same model and cache options; on an error it is as it was.")
      .def(
          "fork",
          [](const PySequence& self) {
            SharedStream made;
            alone(self.state(), [&]() -> Status {
              KVASS_ASSIGN_OR_RETURN(made, fork_shared(self.state()));
              return {};
            });
            return PySequence(made);
          },
          "The same stream a second time, with memory of its own.")
      .def(
          "rewind",
          [](const PySequence& self, int64_t length) {
            alone(self.state(), [&]() -> Status {
              KVASS_RETURN_IF_ERROR(self.state().stream.sequence->rewind(length));
              self.state().moved();
              ++self.state().changes;
              return {};
            });
          },
          nb::arg("length"), "Back to a position that is still held (rewind_floor), as if it had never gone further.")
      .def(
          "clear",
          [](const PySequence& self) {
            alone(self.state(), [&]() -> Status {
              KVASS_RETURN_IF_ERROR(self.state().stream.sequence->clear());
              self.state().moved();
              ++self.state().changes;
              return {};
            });
          },
          "An empty stream again; nothing is freed.")
      .def("close", &PySequence::close, "Frees its memory. Later calls raise ValueError.")
      .def("__enter__", [](nb::handle self) { return nb::borrow(self); })
      .def(
          "__exit__", [](PySequence& self, nb::handle, nb::handle, nb::handle) { self.close(); },
          nb::arg("type") = nb::none(), nb::arg("value") = nb::none(), nb::arg("traceback") = nb::none())
      .def("__len__",
           [](const PySequence& self) {
             self.sequence();
             return self.state().shown_length;
           })
      .def_prop_ro(
          "length",
          [](const PySequence& self) {
            self.sequence();
            return self.state().shown_length;
          },
          "Tokens so far: the position of the next one. While another thread works with the sequence: before its call.")
      .def_prop_ro(
          "rewind_floor", [](const PySequence& self) { return self.sequence().rewind_floor(); },
          "Positions from here on can be rewound to. While another thread works with the sequence: before its last "
          "step.")
      .def_prop_ro(
          "endless", [](const PySequence& self) { return self.sequence().endless(); }, "Whether the stream has no end.")
      .def_prop_ro(
          "plan", [](const PySequence& self) { return self.sequence().plan(); },
          "kvass.caches.CachePlan: the layout and bytes of each layer.")
      .def_prop_ro("cache_bytes", [](const PySequence& self) { return self.sequence().cache_bytes(); })
      .def_prop_ro("arena_bytes", [](const PySequence& self) {
        self.sequence();
        return self.state().stream.arena_bytes();
      });
}

}  // namespace

void add_engine(nb::module_& module) {
  add_generation(module);
  add_sequence(module);
  nb::class_<PyEngine>(
      module, "Engine",
      R"(A model: a GGUF file or a .kvp program. Immutable, shared by its sequences, usable from any thread.

path            the file
math            a16 (default), a8 or f32: how activations are multiplied; a .kvp has its own default
threads         of each sequence; 0: one for each CPU that the process may use
check_weights   read the weights of a .kvp and compare their hashes
huge_pages      copy the weights of a .kvp into huge pages instead of using the file's

Raises OSError for a file that cannot be read, ValueError for a damaged one, kvass.Unsupported for a model that kvass
does not know, MemoryError where its weights find no room.)")
      .def(nb::init<const std::string&, const std::optional<std::string>&, int, bool, bool>(), nb::arg("path"),
           nb::kw_only(), nb::arg("math") = nb::none(), nb::arg("threads") = 0, nb::arg("check_weights") = false,
           nb::arg("huge_pages") = false)
      .def(
          "sequence",
          [](const PyEngine& self, const nb::kwargs& options) {
            const StreamOptions base = self.loaded()->stream;
            return self.sequence(stream_arguments(options, base));
          },
          nb::arg("options"),
          R"(A new, empty Sequence.

context          tokens that it looks back on; default: 4096, or what the model was trained for if that is less
attention_sink   (sinks, window): the first `sinks` positions are kept for ever beside the latest `window`
endless          sinks 4 and a window of context - 4: a stream without end
sink_positions   in-cache (default), original or wrapped
chunk            tokens of one step at most
kv               storage of keys and values: f16 (default), f32, bf16 or q8
threads          of this sequence
memory: caches and working memory are mapped here; see cache_bytes and arena_bytes.)")
      .def(
          "resume",
          [](const PyEngine& self, const std::string& path) {
            const Snapshot snapshot = value_of(Snapshot::open(path));
            const SnapshotInfo& info = snapshot.info();
            if (info.math != self.loaded()->stream.arithmetic()) {
              check(bad_input(path, "an engine of the math that it was saved with", "another math"));
            }
            PySequence made = self.sequence(options_of(info.caches, info.math, self.loaded()->stream));
            resume(made.state(), path);
            return made;
          },
          nb::arg("path"), "The Sequence that was saved, with the options that it had.")
      .def(
          "encode",
          [](const PyEngine& self, const std::string& text, std::optional<bool> bos, bool special) {
            const Tokenizer& tokenizer = self.tokenizer();
            return tokenizer.encode(text, {.bos = bos.value_or(tokenizer.add_bos()), .parse_special = special});
          },
          nb::arg("text"), nb::kw_only(), nb::arg("bos") = nb::none(), nb::arg("special") = false,
          "Text to token ids. bos: put the begin token first (None: where the model expects it); special: parse the "
          "texts of "
          "control tokens.")
      .def(
          "decode",
          [](const PyEngine& self, nb::handle tokens) {
            const std::vector<int32_t> ids = TokenArgument(tokens, false).ids(*self.loaded(), false);
            const std::string bytes = self.tokenizer().decode(ids);
            return nb::steal<nb::str>(
                PyUnicode_DecodeUTF8(bytes.data(), static_cast<Py_ssize_t>(bytes.size()), "replace"));
          },
          nb::arg("tokens"), "Token ids to text; bytes that are no character become U+FFFD.")
      .def(
          "is_end", [](const PyEngine& self, int32_t token) { return self.tokenizer().is_end_of_generation(token); },
          nb::arg("token"), "Whether a token ends a text or a turn.")
      .def("close", &PyEngine::close, "Lets go of the model; its memory goes with its last sequence.")
      .def("__enter__", [](nb::handle self) { return nb::borrow(self); })
      .def(
          "__exit__", [](PyEngine& self, nb::handle, nb::handle, nb::handle) { self.close(); },
          nb::arg("type") = nb::none(), nb::arg("value") = nb::none(), nb::arg("traceback") = nb::none())
      .def_prop_ro("path", [](const PyEngine& self) { return self.model().path; })
      .def_prop_ro("family", [](const PyEngine& self) { return self.model().family; })
      .def_prop_ro(
          "vocabulary", [](const PyEngine& self) { return self.model().engine->program().vocabulary(); },
          "Logits of a row.")
      .def_prop_ro(
          "trained_context", [](const PyEngine& self) { return self.model().trained_context; }, "Tokens.")
      .def_prop_ro("weight_bytes", [](const PyEngine& self) { return self.model().engine->weights().bytes(); })
      .def_prop_ro(
          "bos", [](const PyEngine& self) { return self.tokenizer().bos(); }, "-1: none.")
      .def_prop_ro(
          "eos", [](const PyEngine& self) { return self.tokenizer().eos(); }, "-1: none.")
      .def_prop_ro(
          "chat_template", [](const PyEngine& self) { return self.model().chat_template; },
          "Its jinja text as the file has it.");
}

}  // namespace kvass::python
