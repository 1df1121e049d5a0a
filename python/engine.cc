// kvass.Engine: models.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "keywords.h"
#include "module.h"
#include "paths.h"
#include "stream.h"

namespace kvass::python {
namespace {

class PyEngine {
 public:
  PyEngine(const Path& path, const std::optional<std::string>& math, int threads, bool check_weights, bool huge_pages) {
    LoadOptions options;
    options.threads = threads;
    options.check = check_weights;
    if (math) options.math = value_of(parse_math(*math));
    if (huge_pages) options.pages = Pages::huge;
    model_ = without_gil([&, file = path.text()] { return load_model(file, ModelKind::text, options); });
  }
  const Model& model() const {
    if (!model_.loaded()) check(bad_input("engine", "an open one", "one that was closed"));
    return model_;
  }
  void close() { model_ = {}; }

  // The model is a copy: others may close the engine meanwhile.
  nb::object sequence(const nb::kwargs& given) const {
    return sequence_object(
        without_gil([model = model(), options = stream_options(given)] { return Stream::open(model, options); }));
  }
  nb::object resume(const Path& path, const nb::kwargs& given) const {
    return sequence_object(without_gil([file = path.text(), model = model(), options = stream_options(given)] {
      return Stream::resume(model, file, options);
    }));
  }

 private:
  StreamOptions stream_options(const nb::kwargs& given) const {
    StreamOptions options = stream_keywords(given);
    if (options.threads == 0) options.threads = model().options().threads;
    options.logit_rows = kLogitRows;
    return options;
  }

  Model model_;
};

}  // namespace

Result<Model> load_model(const std::string& path, ModelKind kind, const LoadOptions& options) {
  KVASS_ASSIGN_OR_RETURN(const Model file, Model::open(path));
  if (file.info().kind != kind) {
    const bool speech = kind == ModelKind::speech;
    return bad_input(path, speech ? "a speech model" : "a text model", speech ? "a text model" : "a speech model");
  }
  return file.load(options);
}

void add_engine(nb::module_& module) {
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
      .def(nb::init<const Path&, const std::optional<std::string>&, int, bool, bool>(), nb::arg("path"), nb::kw_only(),
           nb::arg("math") = nb::none(), nb::arg("threads") = 0, nb::arg("check_weights") = false,
           nb::arg("huge_pages") = false)
      .def("sequence", &PyEngine::sequence, nb::arg("options"),
           nb::sig(("def sequence(self, " + stream_keyword_types() + ") -> Sequence").c_str()),
           R"(A new, empty Sequence.

context          tokens that it looks back on; default: 4096, or what the model was trained for if that is less
attention_sink   (sinks, window): the first `sinks` positions are kept for ever beside the latest `window`
endless          sinks 4 and a window of context - 4: a stream without end
sink_positions   in-cache (default), original or wrapped
chunk            tokens of one step at most
kv               storage of keys and values: f16 (default), f32, bf16 or q8
checkpoints      places for Sequence.checkpoint()
threads          of this sequence; 0: the engine's
pin              its threads stay on CPUs of their own
memory_limit     bytes that weights, caches and working memory may take together; above it, ValueError says what fits
memory: caches and working memory are mapped here; see cache_bytes and arena_bytes.)")
      .def("resume", &PyEngine::resume, nb::arg("path"), nb::arg("options"),
           nb::sig(
               ("def resume(self, path: str | os.PathLike[str], " + stream_keyword_types() + ") -> Sequence").c_str()),
           R"(The Sequence that was saved, with the options that it had.

threads, pin, checkpoints, memory_limit: as sequence() has them. Another option is refused unless it is what the file
has.)")
      .def(
          "encode",
          [](const PyEngine& self, const std::string& text, std::optional<bool> bos, bool special) {
            return value_of(self.model().encode(text, {.bos = bos, .parse_special = special}));
          },
          nb::arg("text"), nb::kw_only(), nb::arg("bos") = nb::none(), nb::arg("special") = false,
          "Text to token ids. bos: put the begin token first (None: where the model expects it); special: parse the "
          "texts of "
          "control tokens.")
      .def(
          "decode",
          [](const PyEngine& self, nb::handle tokens) {
            const std::string bytes = value_of(self.model().decode(TokenArgument(tokens, false).ids()));
            return nb::steal<nb::str>(
                PyUnicode_DecodeUTF8(bytes.data(), static_cast<Py_ssize_t>(bytes.size()), "replace"));
          },
          nb::arg("tokens"),
          "Token ids to text; bytes that are no character become U+FFFD. ValueError for an id that is no token.")
      .def(
          "is_end", [](const PyEngine& self, int32_t token) { return self.model().is_end(token); }, nb::arg("token"),
          "Whether a token ends a text or a turn.")
      .def("close", &PyEngine::close, "Lets go of the model; its memory goes with its last sequence.")
      .def(
          "__enter__", [](nb::handle self) { return nb::borrow(self); }, nb::sig("def __enter__(self) -> Engine"))
      .def(
          "__exit__", [](PyEngine& self, nb::handle, nb::handle, nb::handle) { self.close(); },
          nb::arg("type") = nb::none(), nb::arg("value") = nb::none(), nb::arg("traceback") = nb::none())
      .def_prop_ro("path", [](const PyEngine& self) { return self.model().info().path; })
      .def_prop_ro("family", [](const PyEngine& self) { return self.model().info().family; })
      .def_prop_ro(
          "vocabulary", [](const PyEngine& self) { return self.model().info().vocabulary; }, "Logits of a row.")
      .def_prop_ro(
          "trained_context", [](const PyEngine& self) { return self.model().info().trained_context; }, "Tokens.")
      .def_prop_ro("weight_bytes", [](const PyEngine& self) { return self.model().weight_bytes(); })
      .def_prop_ro(
          "bos", [](const PyEngine& self) { return self.model().bos(); }, "-1: none.")
      .def_prop_ro(
          "eos", [](const PyEngine& self) { return self.model().eos(); }, "-1: none.")
      .def_prop_ro(
          "chat_template", [](const PyEngine& self) { return self.model().info().chat_template; },
          "Its jinja text as the file has it.");
}

}  // namespace kvass::python
