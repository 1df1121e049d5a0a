// From the bytes of a file to what is in it, each field checked on the way: bounds before anything is read, counts
// before anything is allocated, the program, the caches and the places of values by the rules of those who made them.
#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "kvass/version.h"
#include "kvp/kvp.h"
#include "kvp/program_tables.h"
#include "kvp/table.h"

namespace kvass {
namespace {

constexpr size_t kMostTextBytes = size_t{1} << 20;    // a chat template
constexpr int64_t kMostRows = int64_t{1} << 24;       // of a step
constexpr size_t kMostTable = (size_t{1} << 31) - 1;  // bytes: FlatBuffers' offsets

template <class T>
T load(const uint8_t* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

}  // namespace

class KvpReader : private TableChecks {
 public:
  KvpReader(std::span<const uint8_t> bytes, const std::string& name) : TableChecks{name} {
    file_.bytes_ = bytes;
    file_.name_ = name;
  }

  Result<KvpFile> read() && {
    KVASS_RETURN_IF_ERROR(header());
    flatbuffers::Verifier verifier(file_.table_.data(), file_.table_.size());
    if (!fb::VerifyModelBuffer(verifier)) return wrong("table", "a FlatBuffer of this schema", "something else");
    const fb::Model& root = *fb::GetModel(file_.table_.data());
    KVASS_RETURN_IF_ERROR(general(root));
    KVASS_RETURN_IF_ERROR(read_program(root.program(), *this, file_.model_.program));
    KVASS_RETURN_IF_ERROR(sections(root));
    KVASS_RETURN_IF_ERROR(weights(*root.program()));
    KVASS_RETURN_IF_ERROR(speech(root));
    KVASS_RETURN_IF_ERROR(vocabulary(root));
    KVASS_RETURN_IF_ERROR(caches(root));
    KVASS_RETURN_IF_ERROR(methods(root));
    return std::move(file_);
  }

 private:
  Status header() {
    const std::span<const uint8_t> bytes = file_.bytes_;
    if (bytes.size() < kKvpHeaderBytes || std::memcmp(bytes.data(), kKvpMagic, 8) != 0) {
      return wrong("start of the file", kKvpMagic, "something else");
    }
    file_.version_ = load<uint32_t>(bytes.data() + 8);
    if (file_.version_ != kKvpVersion) {
      return cannot("version", std::to_string(kKvpVersion), std::to_string(file_.version_));
    }
    const auto offset = load<uint64_t>(bytes.data() + 16);
    const auto size = load<uint64_t>(bytes.data() + 24);
    const auto file_bytes = load<uint64_t>(bytes.data() + 32);
    if (file_bytes != bytes.size()) {
      return wrong("size", std::to_string(file_bytes) + " bytes", std::to_string(bytes.size()));
    }
    if (offset % 64 != 0 || offset < kKvpHeaderBytes || offset > bytes.size() || size > bytes.size() - offset ||
        size > kMostTable || size < 16) {
      return wrong("table", "bytes of the file after its header",
                   std::to_string(size) + " bytes at " + std::to_string(offset));
    }
    file_.table_ = bytes.subspan(offset, size);
    const Hash128 hash{load<uint64_t>(bytes.data() + 40), load<uint64_t>(bytes.data() + 48)};
    const Hash128 got = hash_bytes(file_.table_);
    if (hash != got) return wrong("hash of the table", hash_text(hash), hash_text(got));
    return {};
  }

  Status general(const fb::Model& root) {
    for (size_t i = 0; i < size_of(root.needs()); ++i) {
      const std::string_view need = view(root.needs()->Get(static_cast<uint32_t>(i)));
      if (need == kNeedsVocabulary) continue;
      if (need != kNeedsSpeech) return cannot("needs", "nothing that this version does not know", shown(need));
      if (root.speech() == nullptr) return wrong("speech", "what the file needs", "none");
    }
    if (root.numerics() != static_cast<uint32_t>(kNumericsVersion)) {
      return cannot("numerics version", std::to_string(kNumericsVersion), std::to_string(root.numerics()));
    }
    KvpModel& model = file_.model_;
    KVASS_RETURN_IF_ERROR(read_name("producer", root.producer(), model.producer));
    KVASS_RETURN_IF_ERROR(read_name("family", root.family(), model.family));
    KVASS_RETURN_IF_ERROR(read_name("source", root.source(), model.source, 4096));
    KVASS_RETURN_IF_ERROR(read_name("chat template", root.chat_template(), model.chat_template, kMostTextBytes));
    model.trained_context = root.trained_context();
    if (model.trained_context < 1 || model.trained_context > int64_t{1} << 40) {
      return wrong("trained context", "1 to 2^40 tokens", std::to_string(model.trained_context));
    }
    for (Math math : {Math::f32, Math::a16, Math::a8}) {
      if (view(root.math()) != math_name(math)) continue;
      model.math = math;
      return {};
    }
    return wrong("math", "f32, a16 or a8", shown(view(root.math())));
  }

  Status sections(const fb::Model& root) {
    KVASS_RETURN_IF_ERROR(at_most("sections", size_of(root.sections()), kMostThings + 1));
    uint64_t end = static_cast<uint64_t>(file_.table_.data() - file_.bytes_.data()) + file_.table_.size();
    for (size_t i = 0; i < size_of(root.sections()); ++i) {
      const fb::Section& from = *root.sections()->Get(static_cast<uint32_t>(i));
      const KvpSection section{from.offset(), from.bytes(), {from.hash_low(), from.hash_high()}};
      const uint64_t size = file_.bytes_.size();
      if (section.offset % kKvpPage != 0 || section.offset < end || section.offset > size ||
          section.bytes > size - section.offset) {
        return wrong("section " + std::to_string(i),
                     "whole pages of the file after byte " + std::to_string(end) + ", up to " + std::to_string(size),
                     std::to_string(section.bytes) + " bytes at " + std::to_string(section.offset));
      }
      end = section.offset + section.bytes;
      file_.sections_.push_back(section);
    }
    return {};
  }

  Status weights(const fb::Program& from) {
    const Program& program = file_.model_.program;
    struct Place {
      uint64_t begin = 0, end = 0;
    };
    std::vector<Place> places;
    for (size_t i = 0; i < program.weights.size(); ++i) {
      const fb::Weight& weight = *from.weights()->Get(static_cast<uint32_t>(i));
      const Weight& shape = program.weights[i];
      const std::string what = "weight '" + shown(shape.name) + "'";
      const auto type = find_weight_type(view(weight.type()));
      if (!type) return cannot(what, "a weight type of this version", shown(view(weight.type())));
      size_t bytes = static_cast<size_t>(shape.inputs) * sizeof(float);
      if (shape.outputs > 0) {
        const Result<size_t> packed = packed_bytes(*type, shape.outputs, shape.inputs);
        if (!packed.ok()) return in_file(packed.status());
        bytes = packed.value();
      } else if (*type != WeightType::F32) {
        return wrong(what, "a vector of type F32", shown(view(weight.type())));
      }
      if (weight.section() >= file_.sections_.size()) {
        return wrong(what, "a section of the file", std::to_string(weight.section()));
      }
      const KvpSection& section = file_.sections_[weight.section()];
      if (weight.offset() % 64 != 0 || weight.offset() > section.bytes || bytes > section.bytes - weight.offset()) {
        return wrong(what, std::to_string(bytes) + " bytes inside its section of " + std::to_string(section.bytes),
                     "offset " + std::to_string(weight.offset()));
      }
      const uint64_t at = section.offset + weight.offset();
      places.push_back({at, at + bytes});
      const uint8_t* data = file_.bytes_.data() + at;
      const bool matrix = shape.outputs > 0;
      file_.matrices_.push_back(matrix ? PackedWeight{*type, shape.outputs, shape.inputs, data} : PackedWeight{});
      file_.vectors_.push_back(matrix ? nullptr : reinterpret_cast<const float*>(data));
    }
    std::sort(places.begin(), places.end(), [](const Place& a, const Place& b) { return a.begin < b.begin; });
    for (size_t i = 1; i < places.size(); ++i) {
      if (places[i].begin < places[i - 1].end) {
        return wrong("weights", "bytes of its own for each", "two at byte " + std::to_string(places[i].begin));
      }
    }
    return {};
  }

  Status speech(const fb::Model& root) {
    if (root.speech() == nullptr) return {};
    KvpSpeech& to = file_.model_.speech.emplace();
    const auto* heads = root.speech()->alignment_heads();
    if (heads == nullptr) return {};
    KVASS_RETURN_IF_ERROR(at_most("alignment heads", heads->size(), kMostThings));
    const auto layers = static_cast<int64_t>(file_.model_.program.crosses.size());
    for (const fb::AlignmentHead* head : *heads) {
      if (head->layer() < 0 || head->layer() >= layers || head->head() < 0) {
        return wrong("alignment heads", "heads of " + std::to_string(layers) + " decoder layers",
                     std::to_string(head->layer()) + ", " + std::to_string(head->head()));
      }
      to.alignment_heads.emplace_back(head->layer(), head->head());
    }
    return {};
  }

  Status vocabulary(const fb::Model& root) {
    if (root.vocabulary() == nullptr) return wrong("vocabulary", "one", "none");
    const fb::Vocabulary& from = *root.vocabulary();
    const std::string_view kind = view(from.kind());
    const bool known = file_.model_.speech ? kind == "speech" : find_vocabulary_kind(kind).has_value();
    if (!known) return wrong("vocabulary", file_.model_.speech ? "speech" : "spm or bpe or unigram", shown(kind));
    KVASS_RETURN_IF_ERROR(at_most("name of the pre-tokenizer in bytes", view(from.pre()).size(), kMostNameBytes));
    KVASS_RETURN_IF_ERROR(ends("tokens", from.pieces(), from.piece_ends()));
    KVASS_RETURN_IF_ERROR(ends("merges", from.merges(), from.merge_ends()));
    const std::string_view prefix = view(from.space_prefix());
    if (!prefix.empty() && !find_space_prefix(prefix)) {
      return cannot("space prefix", "a rule of this version", shown(prefix));
    }
    const auto tokens = static_cast<int64_t>(size_of(from.piece_ends()));
    if (tokens > file_.model_.program.vocabulary()) {
      return wrong("vocabulary",
                   "at most " + std::to_string(file_.model_.program.vocabulary()) + " tokens, a logit each",
                   std::to_string(tokens));
    }
    for (size_t i = 0; i < size_of(from.ends()); ++i) {
      const int32_t id = from.ends()->Get(static_cast<uint32_t>(i));
      if (id < 0 || id >= tokens)
        return wrong("ends", "ids from 0 to " + std::to_string(tokens - 1), std::to_string(id));
    }
    return {};
  }
  Status ends(const char* what, const flatbuffers::Vector<uint8_t>* bytes,
              const flatbuffers::Vector<uint32_t>* ends) const {
    uint32_t last = 0;
    for (size_t i = 0; i < size_of(ends); ++i) {
      const uint32_t end = ends->Get(static_cast<uint32_t>(i));
      if (end < last || end > size_of(bytes))
        return wrong(what, "ascending ends inside their bytes", std::to_string(end));
      last = end;
    }
    return {};
  }

  Status caches(const fb::Model& root) {
    if (root.caches() == nullptr) return wrong("caches", "some", "none");
    const fb::Caches& from = *root.caches();
    CacheOptions& to = file_.model_.caches;
    to.context = from.context();
    to.chunk = from.chunk();
    to.sinks = from.sinks();
    to.sink_tokens = from.sink_tokens();
    to.sink_window = from.sink_window();
    if (to.chunk > kMostRows) return wrong("input length", "at most 2^24 tokens", std::to_string(to.chunk));
    bool known = false;
    for (SinkPositions mode : {SinkPositions::in_cache, SinkPositions::original, SinkPositions::wrapped}) {
      if (view(from.sink_positions()) != sink_positions_name(mode)) continue;
      to.sink_positions = mode;
      known = true;
    }
    if (!known) return cannot("sink positions", "a mode of this version", shown(view(from.sink_positions())));
    const std::optional<DType> dtype = find_dtype(view(from.dtype()));
    if (!dtype) return cannot("storage of the caches", "a type of this version", shown(view(from.dtype())));
    to.dtype = *dtype;
    std::vector<CacheShape> shapes;
    for (const CacheState& state : file_.model_.program.states) {
      shapes.push_back({state.kv_heads, state.head_dim, state.window});
    }
    Result<CachePlan> plan = plan_caches(shapes, to);
    if (!plan.ok()) return in_file(plan.status());
    file_.cache_plan_ = std::move(plan).value();
    const Result<std::vector<int64_t>> lens = kept_tokens(file_.model_.program, to);
    if (!lens.ok()) return in_file(lens.status());
    return same_caches(from, file_.cache_plan_, lens.value());
  }

  // What the file says of each cache is what its program and options give.
  Status same_caches(const fb::Caches& from, const CachePlan& plan, const std::vector<int64_t>& lens) const {
    if (size_of(from.layers()) != plan.layers.size() || from.bytes() != plan.bytes) {
      return wrong("caches", std::to_string(plan.layers.size()) + " of " + std::to_string(plan.bytes) + " bytes",
                   std::to_string(size_of(from.layers())) + " of " + std::to_string(from.bytes()));
    }
    for (size_t i = 0; i < plan.layers.size(); ++i) {
      const fb::Cache& cache = *from.layers()->Get(static_cast<uint32_t>(i));
      const LayerCache& layer = plan.layers[i];
      const bool same = view(cache.kind()) == layout_kind_name(layer.layout.kind()) && cache.cache_len() == lens[i] &&
                        cache.sink_tiles() == layer.sink_tiles && cache.ring_tiles() == layer.ring_tiles &&
                        cache.sink_offset() == layer.sink_offset && cache.ring_offset() == layer.ring_offset &&
                        cache.bytes() == layer.bytes();
      if (!same) {
        return wrong("cache " + std::to_string(i),
                     std::to_string(layer.sink_tiles) + " + " + std::to_string(layer.ring_tiles) + " tiles at " +
                         std::to_string(layer.sink_offset),
                     "another place or size");
      }
    }
    return {};
  }

  static std::optional<DType> find_dtype(std::string_view name) {
    for (const DType type : kDTypes) {
      if (dtype_name(type) == name) return type;
    }
    return std::nullopt;
  }

  Status methods(const fb::Model& root) {
    KVASS_RETURN_IF_ERROR(at_most("methods", size_of(root.methods()), kMostMethods));
    if (size_of(root.methods()) == 0) return wrong("methods", "at least one", "none");
    for (size_t i = 0; i < size_of(root.methods()); ++i) {
      const fb::Method& from = *root.methods()->Get(static_cast<uint32_t>(i));
      MethodPlan method;
      KVASS_RETURN_IF_ERROR(read_name("name of a method", from.name(), method.name));
      method.rows = from.rows();
      method.head_rows = from.head_rows();
      method.sequences = from.sequences();
      method.threads = from.threads();
      if (method.rows > kMostRows || method.head_rows > kMostRows || method.sequences < 1 ||
          method.sequences > kMostRows || method.threads > 1024) {
        return wrong("method " + std::to_string(i), "at most 2^24 rows and 1024 threads", "more");
      }
      if (i > 0 && method.rows > file_.model_.methods.back().rows) {
        return wrong("methods", "the longest first", std::to_string(method.rows) + " rows after fewer");
      }
      KVASS_RETURN_IF_ERROR(read_places(from.values(), method.arena.values));
      KVASS_RETURN_IF_ERROR(read_places(from.workspace(), method.arena.workspace));
      KVASS_RETURN_IF_ERROR(read_places(from.workspace_bytes(), method.workspace_bytes));
      method.arena.bytes = from.bytes();
      const Status checked = check_method(file_.model_.program, method);
      if (!checked.ok()) return in_file(checked);
      file_.model_.methods.push_back(std::move(method));
    }
    return {};
  }
  Status read_places(const flatbuffers::Vector<uint64_t>* from, std::vector<size_t>& to) const {
    KVASS_RETURN_IF_ERROR(at_most("places of a method", size_of(from), kMostThings));
    if (from != nullptr) to.assign(from->begin(), from->end());
    return {};
  }

  KvpFile file_;
};

Result<KvpFile> KvpFile::open(const std::string& path) {
  KVASS_ASSIGN_OR_RETURN(FileMap map, FileMap::open(path));
  return open(std::move(map));
}

Result<KvpFile> KvpFile::open(FileMap map) {
  KVASS_ASSIGN_OR_RETURN(KvpFile file, map.checked(parse(map.bytes(), map.path())));
  file.map_ = std::move(map);
  return file;
}

Result<KvpFile> KvpFile::parse(std::span<const uint8_t> bytes, const std::string& name) {
  return KvpReader(bytes, name).read();
}

}  // namespace kvass
