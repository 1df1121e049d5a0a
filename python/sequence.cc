// kvass.Sequence: one stream.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "kvass/score.h"
#include "module.h"
#include "paths.h"
#include "stream.h"
#include "tensors.h"

namespace kvass::python {
namespace {

class PySequence {
 public:
  explicit PySequence(Stream stream) : shared_(std::make_shared<SharedStream>(std::move(stream))) {}

  SharedStream& shared() const { return *shared_; }
  const std::shared_ptr<SharedStream>& handle() const { return shared_; }
  // For what may be asked at any time.
  const Stream& stream() const { return shared_->opened(); }

 private:
  std::shared_ptr<SharedStream> shared_;
};

void prefill(const PySequence& self, const TokenArgument& tokens) {
  Interrupt interrupt;
  alone(self.shared(), interrupt, [&](Stream& stream) -> Status {
    KVASS_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, tokens.ids(stream));
    return stream.step(ids, interrupt.flag(), [&](int64_t) { interrupt.poll(); });
  });
}

nb::ndarray<nb::numpy, float> logits_of(const PySequence& self) {
  std::vector<float> row = alone(self.shared(), [](Stream& stream) -> Result<std::vector<float>> {
    KVASS_ASSIGN_OR_RETURN(const std::span<const float> logits, stream.logits());
    return std::vector<float>(logits.begin(), logits.end());
  });
  const size_t count = row.size();
  return numpy_array<float>(std::move(row), {count});
}

double logprob_of(const PySequence& self, int64_t token) {
  const TokenArgument argument(nb::make_tuple(token), false);
  return alone(self.shared(), [&](Stream& stream) { return stream.logprob(argument.ids()[0]); });
}

nb::ndarray<nb::numpy, double> score_of(const PySequence& self, const TokenArgument& tokens) {
  Interrupt interrupt;
  std::vector<double> nll = alone(self.shared(), interrupt, [&](Stream& stream) -> Result<std::vector<double>> {
    ScoreOptions options;
    options.on_progress = [&](int64_t) { interrupt.poll(); };
    KVASS_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, tokens.ids(stream));
    KVASS_ASSIGN_OR_RETURN(ScoreResult result, score(stream, ids, options, interrupt.flag()));
    return std::move(result.nll);
  });
  const size_t count = nll.size();
  return numpy_array<double>(std::move(nll), {count});
}

void bind_tokens(nb::class_<PySequence>& sequence) {
  sequence
      .def(
          "prefill",
          [](const PySequence& self, nb::handle tokens, bool special) {
            prefill(self, TokenArgument(tokens, special));
          },
          nb::arg("tokens"), nb::arg("special") = false,
          R"(Appends tokens: ids [n] as a list or array, or a text (with the begin token where the stream begins; special=True
parses the texts of control tokens). In chunks as planned; the bits do not depend on them.
ValueError: no tokens, ids outside of the vocabulary. kvass.CacheFull: no room for them.)")
      .def(
          "step",
          [](const PySequence& self, int64_t token) { prefill(self, TokenArgument(nb::make_tuple(token), false)); },
          nb::arg("token"), "Appends one token id.")
      .def("logits", &logits_of,
           "float32 [vocabulary]: the logits of what follows the last token, as a new NumPy array.")
      .def("logprob", &logprob_of, nb::arg("token"),
           "ln p of a token as the next one, a float: -score() of it, bit for bit.")
      .def(
          "generate",
          [](const PySequence& self, nb::handle prompt, bool special, const nb::kwargs& options) {
            return begin_generation(self.handle(), prompt, special, options);
          },
          nb::arg("prompt") = nb::none(), nb::kw_only(), nb::arg("special") = false, nb::arg("options"),
          nb::sig(("def generate(self, prompt: object | None = None, " + generate_keyword_types() +
                   ", special: bool = False) -> Generation")
                      .c_str()),
          R"(A Generation: an iterator over the text that follows. The prompt (ids, a text, or None: go on) is run at once.

max_tokens      None: until the model ends the text or the cache is full
stop            a text, or several, that end it; not shown
ignore_eos      go on after the model's end
temperature     0: the most likely token; top_k, top_p, min_p, repeat_penalty, repeat_last_n, seed
logit_bias      {id: number}, added to the logits before everything else; -inf: never
special         parse control tokens in a text prompt
hold_text       True (default): text that may be the beginning of a stop text, or of a character, stays with the sequence
                at the end, for what goes on with it; False: it is the last piece
collect         False: keep no ids; a text without end should not
save_every      tokens from one save of the sequence to save_path to the next; one that fails is a RuntimeWarning

A token depends on its logits, its position and the seed alone. Leaving the loop ends it, and the sequence goes on from
the last token.)")
      .def(
          "score",
          [](const PySequence& self, nb::handle tokens, bool special) {
            return score_of(self, TokenArgument(tokens, special));
          },
          nb::arg("tokens"), nb::arg("special") = false,
          R"(Appends tokens and returns float64 [n - 1]: -ln p of token i + 1 after tokens 0 to i.

The bits are those of -logprob() before each step: a rollout and its score agree, in any chunks.)");
}

void bind_state(nb::class_<PySequence>& sequence) {
  sequence
      .def(
          "save",
          [](const PySequence& self, const Path& path) {
            alone(self.shared(), [file = path.text()](Stream& stream) { return stream.save(file); });
          },
          nb::arg("path"),
          "The stream as a file that appears whole or not at all. Whoever resumes it goes on with the same bits.")
      .def(
          "resume",
          [](const PySequence& self, const Path& path) {
            alone(self.shared(), [file = path.text()](Stream& stream) { return stream.restore(file); });
          },
          nb::arg("path"),
          "Becomes the stream that was saved, of the same model and cache options; on an error it is as it was.")
      .def(
          "fork",
          [](const PySequence& self) {
            return PySequence(alone(self.shared(), [](Stream& stream) { return stream.fork(); }));
          },
          "The same stream a second time, with memory of its own.")
      .def(
          "rewind",
          [](const PySequence& self, int64_t length) {
            alone(self.shared(), [&](Stream& stream) { return stream.rewind(length); });
          },
          nb::arg("length"),
          "Back to a position that is still held (rewind_floor, checkpoints), as if it had never gone further.")
      .def(
          "checkpoint",
          [](const PySequence& self) { alone(self.shared(), [](Stream& stream) { return stream.checkpoint(); }); },
          "A later rewind to this position always works. Engine.sequence(checkpoints=n) has places for n of them; the "
          "oldest is replaced.")
      .def(
          "clear", [](const PySequence& self) { alone(self.shared(), [](Stream& stream) { return stream.clear(); }); },
          "An empty stream again; nothing is freed.")
      .def(
          "close", [](const PySequence& self) { self.shared().close(); },
          "Frees its memory. Later calls raise ValueError.")
      .def(
          "__enter__", [](nb::handle self) { return nb::borrow(self); }, nb::sig("def __enter__(self) -> Sequence"))
      .def(
          "__exit__", [](const PySequence& self, nb::handle, nb::handle, nb::handle) { self.shared().close(); },
          nb::arg("type") = nb::none(), nb::arg("value") = nb::none(), nb::arg("traceback") = nb::none());
}

void bind_figures(nb::class_<PySequence>& sequence) {
  sequence.def("__len__", [](const PySequence& self) { return self.stream().length(); })
      .def_prop_ro(
          "length", [](const PySequence& self) { return self.stream().length(); },
          "Tokens so far: the position of the next one. While another thread works with the sequence: before its call.")
      .def_prop_ro(
          "rewind_floor", [](const PySequence& self) { return self.stream().rewind_floor(); },
          "Positions from here on can be rewound to. While another thread works with the sequence: before its call.")
      .def_prop_ro(
          "checkpoints",
          [](const PySequence& self) {
            return alone(self.shared(),
                         [](Stream& stream) -> Result<std::vector<int64_t>> { return stream.checkpoints(); });
          },
          "Their positions, ascending.")
      .def_prop_ro(
          "endless", [](const PySequence& self) { return self.stream().endless(); }, "Whether the stream has no end.")
      .def_prop_ro(
          "plan", [](const PySequence& self) { return self.stream().plan().caches; },
          "kvass.caches.CachePlan: the layout and bytes of each layer.")
      .def_prop_ro("cache_bytes", [](const PySequence& self) { return self.stream().plan().cache_bytes(); })
      .def_prop_ro("arena_bytes", [](const PySequence& self) { return self.stream().plan().arena_bytes; });
}

}  // namespace

nb::object sequence_object(Stream stream) { return nb::cast(PySequence(std::move(stream))); }

void add_sequence(nb::module_& module) {
  nb::class_<PySequence> sequence(
      module, "Sequence",
      R"(One stream: its caches and where it stands. Made by Engine.sequence(), Engine.resume() and fork().

All of its memory is mapped when it is made. One thread at a time: a second one gets kvass.Busy, and nothing has
happened. Calls release the GIL; Ctrl-C ends long ones between chunks: what has run stays.)");
  bind_tokens(sequence);
  bind_state(sequence);
  bind_figures(sequence);
}

}  // namespace kvass::python
