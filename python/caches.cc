// kvass.caches: layouts and the cache planner, integers only.
#include <nanobind/operators.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <tuple>

#include "keywords.h"
#include "kvass/cache_plan.h"
#include "kvass/layout.h"
#include "kvass/plan.h"
#include "module.h"
#include "tensors.h"

namespace kvass::python {
namespace {

nb::str text(std::string_view view) { return nb::str(view.data(), view.size()); }

using Triple = std::tuple<int64_t, int64_t, int64_t>;

std::vector<Triple> runs_of(const std::vector<SlotRun>& runs) {
  std::vector<Triple> rows;
  for (const SlotRun& run : runs) rows.emplace_back(run.slot, run.count, run.position);
  return rows;
}

Status check_position(const char* what, int64_t position) {
  return position >= 0 ? Status() : bad_input(what, "0 or more", std::to_string(position));
}

// [count, slots]: what the rows of a step see, by slot, once the step is written.
nb::ndarray<nb::numpy, bool> mask_of(const Layout& layout, int64_t start, int64_t count) {
  check(check_position("start", start));
  check(layout.check_extend(start, start, count));
  const std::vector<int64_t> positions = layout.filled_positions(start + count);
  std::vector<uint8_t> mask;
  mask.reserve(static_cast<size_t>(count) * positions.size());
  for (int64_t query = start; query < start + count; ++query) {
    for (const int64_t key : positions) mask.push_back(key >= 0 && key <= query && layout.visible(key, query) ? 1 : 0);
  }
  return numpy_array<bool>(std::move(mask), {static_cast<size_t>(count), positions.size()});
}

// What a layout says of positions and slots.
void add_positions(nb::class_<Layout>& layout) {
  layout
      .def(
          "slot",
          [](const Layout& self, int64_t position) {
            check(check_position("position", position));
            return self.slot(position);
          },
          nb::arg("position"), "The slot of a position.")
      .def(
          "position_at",
          [](const Layout& self, int64_t slot, int64_t length) {
            if (slot < 0 || slot >= self.slots()) {
              check(bad_input("slot", "0 to " + std::to_string(self.slots() - 1), std::to_string(slot)));
            }
            check(check_position("length", length));
            return self.position_at(slot, length);
          },
          nb::arg("slot"), nb::arg("length"), "The position in a slot of a stream of `length`; -1 while unfilled.")
      .def(
          "positions",
          [](const Layout& self, int64_t length) {
            check(check_position("length", length));
            std::vector<int64_t> positions = self.filled_positions(length);
            const size_t slots = positions.size();
            return numpy_array<int64_t>(std::move(positions), {slots});
          },
          nb::arg("length"), "int64 [slots]: the position in each slot; -1 while unfilled.");
}

// What it says of steps: what their rows see, what they write and read.
void add_steps(nb::class_<Layout>& layout) {
  layout
      .def("visible", &Layout::visible, nb::arg("key"), nb::arg("query"), "Whether the query at a position sees a key.")
      .def(
          "visibility",
          [](const Layout& self, int64_t query) {
            check(check_position("query", query));
            const RowVisibility row = self.row_visibility(query);
            return Triple(row.sink_end, row.begin, row.end);
          },
          nb::arg("query"), "(sink_end, begin, end): the query sees positions [0, sink_end) and [begin, end).")
      .def("mask", &mask_of, nb::arg("start"), nb::arg("count"),
           "bool [count, slots]: what the rows of the step [start, start + count) see, by slot, once it is written.")
      .def(
          "write_runs",
          [](const Layout& self, int64_t start, int64_t count) {
            check(check_position("start", start));
            check(self.check_extend(start, start, count));
            return runs_of(self.write_runs(start, count));
          },
          nb::arg("start"), nb::arg("count"), "Where a step writes: (slot, count, position), in position order.")
      .def(
          "read_runs",
          [](const Layout& self, int64_t start, int64_t count) {
            check(check_position("start", start));
            check(self.check_extend(start, start, count));
            return runs_of(self.read_runs(start, count));
          },
          nb::arg("start"), nb::arg("count"), "What the rows of a step may read together: (slot, count, position).")
      .def(
          "check_extend",
          [](const Layout& self, int64_t length, int64_t start, int64_t count) {
            check(self.check_extend(length, start, count));
          },
          nb::arg("length"), nb::arg("start"), nb::arg("count"),
          "ValueError unless positions [start, start + count) can follow in a stream of `length`.")
      .def(
          "bytes",
          [](const Layout& self, int64_t kv_heads, int64_t head_dim, const std::string& dtype) {
            return self.bytes(kv_heads, head_dim, value_of(parse_dtype(dtype)));
          },
          nb::arg("kv_heads"), nb::arg("head_dim"), nb::arg("dtype") = "f16",
          "Of keys and values in all slots; dtype f32, f16, bf16 or q8.");
}

void add_layout(nb::module_& module) {
  nb::class_<Layout> layout(module, "Layout",
                            R"(Where a position is stored and which keys a query sees. A value; integers only.

    full(capacity)                 slot = position; the stream ends at capacity
    ring(window, ring)             slot = position mod ring
    sink_ring(sink, window, ring)  slot = position below sink, sink + (position - sink) mod ring after it

Key k is visible to query q when it is filled, k <= q, and (k < sink or q - k < window).
Source: StreamingLLM, arXiv 2309.17453; the attention-sink ring of ExecuTorch.)");
  layout
      .def_static(
          "full", [](int64_t capacity, int64_t window) { return value_of(Layout::full(capacity, window)); },
          nb::arg("capacity"), nb::arg("window") = 0, "Every position until `capacity`; window 0: a query sees all.")
      .def_static(
          "ring", [](int64_t window, int64_t ring) { return value_of(Layout::ring(window, ring)); }, nb::arg("window"),
          nb::arg("ring"), "The latest `ring` positions, of which a query sees `window`.")
      .def_static(
          "sink_ring",
          [](int64_t sink, int64_t window, int64_t ring) { return value_of(Layout::sink_ring(sink, window, ring)); },
          nb::arg("sink"), nb::arg("window"), nb::arg("ring"), "The first `sink` positions for ever, and a ring.")
      .def_prop_ro(
          "kind", [](const Layout& self) { return text(layout_kind_name(self.kind())); }, "full, ring or sink_ring")
      .def_prop_ro("sink", &Layout::sink, "Positions kept for ever.")
      .def_prop_ro("window", &Layout::window, "Latest positions that a query sees; 0: all.")
      .def_prop_ro("ring_slots", &Layout::ring_slots, "Slots beyond the sink part.")
      .def_prop_ro("slots", &Layout::slots)
      .def_prop_ro("endless", &Layout::endless, "Whether the stream has no end.")
      .def_prop_ro("max_chunk", &Layout::max_chunk, "The longest step that loses no key that one of its rows may see.");
  add_positions(layout);
  add_steps(layout);
  layout.def(nb::self == nb::self, nb::sig("def __eq__(self, arg: object, /) -> bool"))
      .def("__repr__", [](const Layout& self) {
        return "Layout." + std::string(layout_kind_name(self.kind())) + "(" + self.arguments() + ")";
      });
}

void add_plan(nb::module_& module) {
  nb::class_<CacheShape>(module, "CacheShape",
                         "What a layer asks for: kv_heads, head_dim, window (tokens; 0: a full layer).")
      .def(
          "__init__",
          [](CacheShape* self, int64_t kv_heads, int64_t head_dim, int64_t window) {
            new (self) CacheShape{kv_heads, head_dim, window};
          },
          nb::arg("kv_heads"), nb::arg("head_dim"), nb::arg("window") = 0)
      .def_rw("kv_heads", &CacheShape::kv_heads)
      .def_rw("head_dim", &CacheShape::head_dim)
      .def_rw("window", &CacheShape::window)
      .def(
          "__eq__",
          [](const CacheShape& self, const CacheShape& other) {
            return std::tie(self.kv_heads, self.head_dim, self.window) ==
                   std::tie(other.kv_heads, other.head_dim, other.window);
          },
          nb::is_operator(), nb::sig("def __eq__(self, arg: object, /) -> bool"))
      .def("__repr__", [](const CacheShape& self) {
        return "CacheShape(" + std::to_string(self.kv_heads) + ", " + std::to_string(self.head_dim) +
               (self.window > 0 ? ", window=" + std::to_string(self.window) : "") + ")";
      });
  module.def(
      "layered_shapes",
      [](int64_t layers, int64_t kv_heads, int64_t head_dim, std::optional<int64_t> window,
         std::optional<int64_t> pattern) {
        return value_of(layered_shapes({layers, kv_heads, head_dim, window, pattern}));
      },
      nb::arg("layers"), nb::arg("kv_heads"), nb::arg("head_dim"), nb::arg("sliding_window") = nb::none(),
      nb::arg("sliding_window_pattern") = nb::none(),
      "CacheShapes: layer i is full exactly when (i + 1) mod pattern = 0; a window alone makes every layer sliding.");
  nb::class_<LayerCache>(module, "LayerCache", "One layer's cache in a plan.")
      .def_ro("layout", &LayerCache::layout)
      .def_prop_ro("bytes", &LayerCache::bytes, "Mapped for keys and values, in whole tiles of 64 keys.")
      .def_prop_ro("slots", &LayerCache::slots, "Stored, in whole tiles.");
  nb::class_<CachePlan>(module, "CachePlan", "The caches of one sequence.")
      .def_ro("layers", &CachePlan::layers, "[LayerCache]")
      .def_ro("bytes", &CachePlan::bytes, "Mapped for the sequence.")
      .def_ro("chunk", &CachePlan::chunk, "The longest step, tokens.")
      .def_prop_ro("endless", &CachePlan::endless);
  module.def(
      "plan",
      [](const std::vector<CacheShape>& layers, const nb::kwargs& options) {
        const StreamOptions stream = cache_keywords(options);
        return value_of(plan_caches(layers, value_of(resolve_caches(stream, StreamOptions::kDefaultContext))));
      },
      nb::arg("layers"), nb::arg("options"),
      nb::sig(("def plan(layers: collections.abc.Sequence[CacheShape], " + cache_keyword_types() + ") -> CachePlan")
                  .c_str()),
      R"(The CachePlan of layers [CacheShape] under a stream's options, before anything is allocated.

context, chunk, attention_sink=(sinks, window), endless, sink_positions, kv, checkpoints: as Engine.sequence() has
them.)");
  module.def(
      "cache_lens",
      [](const std::vector<CacheShape>& layers, int64_t max_context_len, int64_t input_len) {
        CacheOptions options;
        options.context = max_context_len;
        options.chunk = input_len;
        return value_of(cache_lens(layers, options));
      },
      nb::arg("layers"), nb::arg("max_context_len"), nb::arg("input_len"),
      "Tokens that each layer keeps by the export rule: max_context_len - input_len, sliding layers at most their "
      "window.");
  module.def("ring_slots_for", &ring_slots_for, nb::arg("window"), nb::arg("chunk"),
             "The ring that the planner picks for a window and a chunk, in slots.");
}

}  // namespace

void add_caches(nb::module_& module) {
  add_layout(module);
  add_plan(module);
}

}  // namespace kvass::python
