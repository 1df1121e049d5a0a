#include "keywords.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>

#include <utility>

#include "errors.h"

namespace kvass::python {
namespace {

// A value by its name.
template <class Field, class Parse>
bool set_named(Field& field, nb::handle value, Parse parse) {
  std::string name;
  if (!nb::try_cast(value, name)) return false;
  field = value_of(parse(name));
  return true;
}

bool set_attention_sink(StreamOptions& options, nb::handle value) {
  std::pair<int64_t, int64_t> pair;
  if (!nb::try_cast(value, pair)) return false;
  const auto [sinks, window] = pair;
  if (sinks < 0 || window < 1) {
    check(bad_input("attention_sink", "(sinks >= 0, window >= 1)",
                    "(" + std::to_string(sinks) + ", " + std::to_string(window) + ")"));
  }
  options.attention_sink = AttentionSink{sinks, window};
  return true;
}

constexpr int64_t kLongestChunk = int64_t{1}
                                  << 32;  // far beyond any memory; what is planned for it has names of its own

bool set_chunk(StreamOptions& options, nb::handle value) {
  if (!nb::try_cast(value, options.chunk)) return false;
  if (options.chunk.value_or(1) > kLongestChunk) {
    check(bad_input("chunk", "at most 2^32 tokens", std::to_string(*options.chunk)));
  }
  return true;
}

using Row = Keyword<StreamOptions>;

constexpr Row kCacheKeywords[] = {
    {"context", "int", "tokens", [](StreamOptions& o, nb::handle value) { return nb::try_cast(value, o.context); }},
    {"chunk", "int", "tokens", set_chunk},
    {"attention_sink", "tuple[int, int]", "a pair (sinks, window)", set_attention_sink},
    {"endless", "bool", "True or False",
     [](StreamOptions& o, nb::handle value) { return nb::try_cast(value, o.endless); }},
    {"sink_positions", "str", "a name",
     [](StreamOptions& o, nb::handle value) { return set_named(o.sink_positions, value, parse_sink_positions); }},
    {"kv", "str", "a name", [](StreamOptions& o, nb::handle value) { return set_named(o.kv, value, parse_dtype); }},
    {"checkpoints", "int", "a number",
     [](StreamOptions& o, nb::handle value) { return nb::try_cast(value, o.checkpoints); }},
};

constexpr Row kMachineKeywords[] = {
    {"threads", "int", "a number", [](StreamOptions& o, nb::handle value) { return nb::try_cast(value, o.threads); }},
    {"pin", "bool", "True or False", [](StreamOptions& o, nb::handle value) { return nb::try_cast(value, o.pin); }},
    {"memory_limit", "int", "bytes",
     [](StreamOptions& o, nb::handle value) { return nb::try_cast(value, o.memory_limit); }},
};

}  // namespace

StreamOptions stream_keywords(const nb::kwargs& given) {
  return from_keywords<StreamOptions>(given, {kCacheKeywords, kMachineKeywords});
}

std::string stream_keyword_types() { return keyword_types<StreamOptions>({kCacheKeywords, kMachineKeywords}); }

std::string cache_keyword_types() { return keyword_types<StreamOptions>({kCacheKeywords}); }

StreamOptions cache_keywords(const nb::kwargs& given) { return from_keywords<StreamOptions>(given, {kCacheKeywords}); }

}  // namespace kvass::python
