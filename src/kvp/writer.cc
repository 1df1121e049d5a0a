#include <algorithm>
#include <bit>
#include <cstring>

#include "base/new_file.h"
#include "kvass/version.h"
#include "kvp/kvp.h"
#include "kvp/program_tables.h"
#include "kvp/table.h"

namespace kvass {
namespace {

using flatbuffers::FlatBufferBuilder;
using flatbuffers::Offset;

static_assert(std::endian::native == std::endian::little, "files are little-endian, and so are panels");

// Where a weight's bytes are, and where they go.
struct Placed {
  std::span<const uint8_t> bytes;
  uint32_t section = 0;
  uint64_t offset = 0;  // inside the section
};

struct Sections {
  std::vector<Placed> weights;       // [weights of the program]
  std::vector<KvpSection> sections;  // offsets count from the first section
  uint64_t bytes = 0;                // of all sections, whole pages
};

uint64_t round_up(uint64_t value, uint64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// Section 0 has every vector, one after the other; each matrix has a section of its own, in the order of the program.
Result<Sections> place(const Program& program, const WeightStore& store) {
  Sections layout;
  layout.weights.resize(program.weights.size());
  layout.sections.emplace_back();
  for (size_t i = 0; i < program.weights.size(); ++i) {
    if (store.vectors[i] == nullptr) continue;
    const size_t bytes = static_cast<size_t>(program.weights[i].inputs) * sizeof(float);
    layout.weights[i] = {{reinterpret_cast<const uint8_t*>(store.vectors[i]), bytes}, 0, layout.sections[0].bytes};
    layout.sections[0].bytes = round_up(layout.sections[0].bytes + bytes, 64);
  }
  for (size_t i = 0; i < program.weights.size(); ++i) {
    const PackedWeight& matrix = store.matrices[i];
    if (matrix.data == nullptr) continue;
    KVASS_ASSIGN_OR_RETURN(const size_t bytes, packed_bytes(matrix.type, matrix.n, matrix.k));
    layout.weights[i] = {{matrix.data, bytes}, static_cast<uint32_t>(layout.sections.size()), 0};
    layout.sections.push_back({0, bytes, {}});
  }
  for (KvpSection& section : layout.sections) {
    section.offset = layout.bytes;
    layout.bytes += round_up(section.bytes, kKvpPage);
  }
  // Hashes are of the bytes as they will lie: the vectors' section with zeros between them.
  std::vector<uint8_t> vectors(layout.sections[0].bytes, 0);
  for (const Placed& weight : layout.weights) {
    if (weight.section == 0)
      std::copy(weight.bytes.begin(), weight.bytes.end(), vectors.begin() + static_cast<ptrdiff_t>(weight.offset));
  }
  layout.sections[0].hash = hash_bytes(vectors);
  for (const Placed& weight : layout.weights) {
    if (weight.section != 0) layout.sections[weight.section].hash = hash_bytes(weight.bytes);
  }
  return layout;
}

// Texts one after the other, and where each ends.
struct Texts {
  std::vector<uint8_t> bytes;
  std::vector<uint32_t> ends;
  explicit Texts(const std::vector<std::string>& texts) {
    for (const std::string& text : texts) {
      bytes.insert(bytes.end(), text.begin(), text.end());
      ends.push_back(static_cast<uint32_t>(bytes.size()));
    }
  }
};

std::vector<uint64_t> as_u64(const std::vector<size_t>& list) { return {list.begin(), list.end()}; }

class TableWriter {
 public:
  std::vector<uint8_t> write(const KvpModel& model, const Vocabulary& vocabulary, const WeightStore& store,
                             const Sections& layout, uint64_t first_section, const CachePlan& caches,
                             const std::vector<int64_t>& cache_lens) {
    std::vector<Offset<fb::Method>> methods;
    for (const MethodPlan& method : model.methods) methods.push_back(write(method));
    std::vector<Offset<fb::Section>> sections;
    for (const KvpSection& section : layout.sections) {
      sections.push_back(
          fb::CreateSection(fbb_, first_section + section.offset, section.bytes, section.hash.low, section.hash.high));
    }
    std::vector<WeightPlace> places;
    for (size_t i = 0; i < model.program.weights.size(); ++i) {
      const bool vector = model.program.weights[i].outputs == 0;
      places.push_back(
          {vector ? WeightType::F32 : store.matrices[i].type, layout.weights[i].section, layout.weights[i].offset});
    }
    const auto program = write_program(fbb_, model.program, places);
    const auto words = write(vocabulary, model.speech ? "speech" : vocabulary_kind_name(vocabulary.kind));
    const auto plan = write(model.caches, caches, cache_lens);
    const auto producer = fbb_.CreateString(model.producer);
    const auto family = fbb_.CreateString(model.family);
    const auto source = fbb_.CreateString(model.source);
    const auto chat = fbb_.CreateString(model.chat_template);
    const auto math = text(math_name(model.math));
    const auto method_list = fbb_.CreateVector(methods);
    const auto section_list = fbb_.CreateVector(sections);
    Offset<fb::Speech> speech;
    Offset<flatbuffers::Vector<Offset<flatbuffers::String>>> needs;
    std::vector<Offset<flatbuffers::String>> need_list;
    if (model.speech) {
      speech = write(*model.speech);
      need_list.push_back(text(kNeedsSpeech));
    }
    if (!model.speech && has_new_fields(vocabulary)) need_list.push_back(text(kNeedsVocabulary));
    if (!need_list.empty()) needs = fbb_.CreateVector(need_list);
    fb::ModelBuilder root(fbb_);
    if (!need_list.empty()) root.add_needs(needs);
    if (model.speech) root.add_speech(speech);
    root.add_producer(producer);
    root.add_numerics(static_cast<uint32_t>(kNumericsVersion));
    root.add_family(family);
    root.add_source(source);
    root.add_trained_context(model.trained_context);
    root.add_chat_template(chat);
    root.add_math(math);
    root.add_program(program);
    root.add_vocabulary(words);
    root.add_caches(plan);
    root.add_methods(method_list);
    root.add_sections(section_list);
    fb::FinishModelBuffer(fbb_, root.Finish());
    return {fbb_.GetBufferPointer(), fbb_.GetBufferPointer() + fbb_.GetSize()};
  }

 private:
  Offset<flatbuffers::String> text(std::string_view view) { return fbb_.CreateString(view.data(), view.size()); }

  // Whether it has what readers of 0.1 would pass over.
  static bool has_new_fields(const Vocabulary& vocabulary) {
    return vocabulary.space_prefix != SpacePrefix::controls || !vocabulary.ends.empty() || vocabulary.nfc ||
           vocabulary.kind == VocabularyKind::unigram ||
           (vocabulary.kind == VocabularyKind::spm && !vocabulary.merges.empty());
  }

  Offset<fb::Speech> write(const KvpSpeech& speech) {
    std::vector<fb::AlignmentHead> heads;
    for (const auto& [layer, head] : speech.alignment_heads) {
      heads.emplace_back(static_cast<int32_t>(layer), static_cast<int32_t>(head));
    }
    return fb::CreateSpeech(fbb_, fbb_.CreateVectorOfStructs(heads));
  }

  Offset<fb::Vocabulary> write(const Vocabulary& vocabulary, std::string_view kind_text) {
    const Texts pieces(vocabulary.pieces), merges(vocabulary.merges);
    std::vector<uint8_t> types;
    for (TokenType type : vocabulary.types) types.push_back(static_cast<uint8_t>(type));
    const auto kind = text(kind_text);
    const auto piece_bytes = fbb_.CreateVector(pieces.bytes);
    const auto piece_ends = fbb_.CreateVector(pieces.ends);
    const auto type_list = fbb_.CreateVector(types);
    const auto scores = fbb_.CreateVector(vocabulary.scores);
    const auto merge_bytes = fbb_.CreateVector(merges.bytes);
    const auto merge_ends = fbb_.CreateVector(merges.ends);
    const auto pre = text(vocabulary.pre);
    const bool plain = vocabulary.space_prefix == SpacePrefix::controls;
    const auto prefix = plain ? Offset<flatbuffers::String>() : text(space_prefix_name(vocabulary.space_prefix));
    const auto more_ends =
        vocabulary.ends.empty() ? Offset<flatbuffers::Vector<int32_t>>() : fbb_.CreateVector(vocabulary.ends);
    const auto charsmap = vocabulary.charsmap.empty()
                              ? Offset<flatbuffers::Vector<uint8_t>>()
                              : fbb_.CreateVector(reinterpret_cast<const uint8_t*>(vocabulary.charsmap.data()),
                                                  vocabulary.charsmap.size());
    return fb::CreateVocabulary(fbb_, kind, piece_bytes, piece_ends, type_list, scores, merge_bytes, merge_ends, pre,
                                vocabulary.bos, vocabulary.eos, vocabulary.eot, vocabulary.eom, vocabulary.unknown,
                                vocabulary.add_bos, vocabulary.add_eos, vocabulary.add_space_prefix, prefix, more_ends,
                                vocabulary.nfc, vocabulary.remove_extra_whitespaces, charsmap);
  }

  Offset<fb::Caches> write(const CacheOptions& options, const CachePlan& plan, const std::vector<int64_t>& lens) {
    std::vector<Offset<fb::Cache>> layers;
    for (size_t i = 0; i < plan.layers.size(); ++i) {
      const LayerCache& layer = plan.layers[i];
      const auto kind = text(layout_kind_name(layer.layout.kind()));
      layers.push_back(fb::CreateCache(fbb_, kind, lens[i], layer.sink_tiles, layer.ring_tiles, layer.sink_offset,
                                       layer.ring_offset, layer.bytes()));
    }
    const auto positions = text(sink_positions_name(options.sink_positions));
    const auto dtype = text(dtype_name(options.dtype));
    const auto list = fbb_.CreateVector(layers);
    return fb::CreateCaches(fbb_, options.context, options.chunk, options.sinks, options.sink_tokens,
                            options.sink_window, positions, dtype, list, plan.bytes);
  }

  Offset<fb::Method> write(const MethodPlan& method) {
    const auto name = text(method.name);
    const auto values = fbb_.CreateVector(as_u64(method.arena.values));
    const auto workspace = fbb_.CreateVector(as_u64(method.arena.workspace));
    const auto workspace_bytes = fbb_.CreateVector(as_u64(method.workspace_bytes));
    return fb::CreateMethod(fbb_, name, method.rows, method.head_rows, method.sequences, method.threads, values,
                            workspace, workspace_bytes, method.arena.bytes);
  }

  FlatBufferBuilder fbb_{1 << 20};
};

template <class T>
void put(std::vector<uint8_t>& out, T value) {
  const size_t at = out.size();
  out.resize(at + sizeof(T));
  std::memcpy(out.data() + at, &value, sizeof(T));
}

std::vector<uint8_t> header_of(std::span<const uint8_t> table, uint64_t file_bytes) {
  std::vector<uint8_t> header(kKvpMagic, kKvpMagic + 8);
  const Hash128 hash = hash_bytes(table);
  put(header, kKvpVersion);
  put(header, uint32_t{0});
  put(header, uint64_t{kKvpHeaderBytes});
  put(header, uint64_t{table.size()});
  put(header, file_bytes);
  put(header, hash.low);
  put(header, hash.high);
  put(header, uint64_t{0});
  return header;
}

}  // namespace

Result<size_t> write_kvp(const std::string& path, const KvpModel& model, const Vocabulary& vocabulary,
                         const WeightStore& weights, const std::vector<int64_t>& cache_lens, const FileLock* held,
                         const OnProgress& progress) {
  size_t text_bytes = 0;
  for (const std::string& piece : vocabulary.pieces) text_bytes += piece.size();
  for (const std::string& merge : vocabulary.merges) text_bytes += merge.size();
  if (text_bytes > size_t{1} << 30) return bad_input(path, "a vocabulary below 1 GiB", std::to_string(text_bytes));
  std::vector<CacheShape> shapes;
  for (const CacheState& state : model.program.states) {
    shapes.push_back({state.kv_heads, state.head_dim, state.window});
  }
  KVASS_ASSIGN_OR_RETURN(const CachePlan caches, plan_caches(shapes, model.caches));
  KVASS_ASSIGN_OR_RETURN(const Sections layout, place(model.program, weights));
  // Sections stand by their offsets in the file, which the size of the table does not depend on, but for its last
  // bytes: it is written once to know its size.
  const size_t size = TableWriter().write(model, vocabulary, weights, layout, 0, caches, cache_lens).size();
  const uint64_t first = round_up(kKvpHeaderBytes + size + kKvpPage, kKvpPage);
  const std::vector<uint8_t> table = TableWriter().write(model, vocabulary, weights, layout, first, caches, cache_lens);
  const uint64_t file_bytes = first + layout.bytes;
  if (kKvpHeaderBytes + table.size() > first) return bad_input(path, "room for the table", "too little");

  KVASS_ASSIGN_OR_RETURN(NewFile file, NewFile::create(path, held));
  KVASS_RETURN_IF_ERROR(file.write(0, header_of(table, file_bytes)));
  KVASS_RETURN_IF_ERROR(file.write(kKvpHeaderBytes, table));
  for (const Placed& weight : layout.weights) {
    const size_t at = first + layout.sections[weight.section].offset + weight.offset;
    if (progress) progress(at, file_bytes);
    const Status written = file.write(at, weight.bytes);
    if (!written.ok()) KVASS_RETURN_IF_ERROR(weights.check());  // the system could not read what it was to write
    KVASS_RETURN_IF_ERROR(written);
  }
  KVASS_RETURN_IF_ERROR(weights.check());
  const uint8_t zero = 0;  // the last page is whole
  const KvpSection& last = layout.sections.back();
  if (last.offset + last.bytes < layout.bytes) KVASS_RETURN_IF_ERROR(file.write(file_bytes - 1, {&zero, 1}));
  KVASS_RETURN_IF_ERROR(file.commit());
  if (progress) progress(file_bytes, file_bytes);
  return static_cast<size_t>(file_bytes);
}

}  // namespace kvass
