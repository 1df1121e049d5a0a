#include "kvp/kvp.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string_view>

#include "kvp/table.h"

namespace kvass {
namespace {

template <class Text>
void split(const flatbuffers::Vector<uint8_t>* bytes, const flatbuffers::Vector<uint32_t>* ends,
           std::vector<Text>& texts) {
  texts.reserve(size_of(ends));
  uint32_t begin = 0;
  for (size_t i = 0; i < size_of(ends); ++i) {
    const uint32_t end = ends->Get(static_cast<uint32_t>(i));
    if (end == begin) {
      texts.emplace_back();
    } else {
      texts.emplace_back(reinterpret_cast<const char*>(bytes->data()) + begin, end - begin);
    }
    begin = end;
  }
}

}  // namespace

Result<std::vector<int64_t>> kept_tokens(const Program& program, const CacheOptions& caches) {
  if (program.has_encoder() && !caches.sinks && caches.chunk == caches.context) {
    std::vector<int64_t> lens;
    for (const CacheState& state : program.states) {
      lens.push_back(state.window == 0 ? caches.context : std::min(state.window, caches.context));
    }
    return lens;
  }
  std::vector<CacheShape> shapes;
  for (const CacheState& state : program.states) shapes.push_back({state.kv_heads, state.head_dim, state.window});
  return cache_lens(shapes, caches);
}

size_t KvpFile::section_bytes() const {
  size_t bytes = 0;
  for (const KvpSection& section : sections_) bytes += section.bytes;
  return bytes;
}

Result<VocabularyView> KvpFile::vocabulary() const {
  if (model_.speech) {
    return bad_input(name_, "a model that writes text", "one that transcribes speech (kvass transcribe takes it)");
  }
  const fb::Vocabulary& from = *fb::GetModel(table_.data())->vocabulary();
  VocabularyView to;
  to.source = name_;
  to.kind = find_vocabulary_kind(view(from.kind())).value_or(VocabularyKind::bpe);
  split(from.pieces(), from.piece_ends(), to.pieces);
  split(from.merges(), from.merge_ends(), to.merges);
  static_assert(sizeof(TokenType) == 1 && std::endian::native == std::endian::little);
  if (from.types() != nullptr) {
    to.types = {reinterpret_cast<const TokenType*>(from.types()->data()), from.types()->size()};
  }
  if (from.scores() != nullptr) to.scores = {from.scores()->data(), from.scores()->size()};
  to.pre = view(from.pre());
  to.bos = from.bos();
  to.eos = from.eos();
  to.eot = from.eot();
  to.eom = from.eom();
  to.unknown = from.unknown();
  to.add_bos = from.add_bos();
  to.add_eos = from.add_eos();
  to.add_space_prefix = from.add_space_prefix();
  to.space_prefix = find_space_prefix(view(from.space_prefix())).value_or(SpacePrefix::controls);
  if (from.ends() != nullptr) to.ends.assign(from.ends()->begin(), from.ends()->end());
  to.nfc = from.nfc();
  to.remove_extra_whitespaces = from.remove_extra_whitespaces();
  if (from.charsmap() != nullptr) to.charsmap.assign(from.charsmap()->begin(), from.charsmap()->end());
  to.chat_template = model_.chat_template;
  return to;
}

Result<SpeechVocabulary> KvpFile::speech_vocabulary() const {
  if (!model_.speech) return bad_input(name_, "a speech model", "one that writes text");
  const fb::Vocabulary& from = *fb::GetModel(table_.data())->vocabulary();
  SpeechVocabulary to;
  to.source = name_;
  split(from.pieces(), from.piece_ends(), to.pieces);
  return to;
}

Status KvpFile::check_weights(ThreadPool& pool) const {
  std::vector<uint8_t> right(sections_.size());
  pool.run(static_cast<int64_t>(sections_.size()), [&](int64_t i, int) {
    const KvpSection& section = sections_[static_cast<size_t>(i)];
    right[static_cast<size_t>(i)] = hash_bytes(bytes_.subspan(section.offset, section.bytes)) == section.hash;
  });
  KVASS_RETURN_IF_ERROR(check());
  const auto bad = std::find(right.begin(), right.end(), 0);
  if (bad == right.end()) return {};
  return bad_input(name_ + ": section " + std::to_string(bad - right.begin()), "bytes of the hash that the table has",
                   "others");
}

WeightStore KvpFile::take_weights() && {
  WeightStore store;
  store.file_bytes = section_bytes();
  store.matrices = std::move(matrices_);
  store.vectors = std::move(vectors_);
  store.file = std::move(map_);
  return store;
}

Status check_kvp_path(const std::string& path) { return check_replaceable(path, kKvpMagic, "a .kvp file"); }

bool is_kvp(std::span<const uint8_t> bytes) {
  constexpr std::string_view kMagic = kKvpMagic;
  return bytes.size() >= kMagic.size() && std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) == 0;
}

}  // namespace kvass
