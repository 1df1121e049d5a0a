#include "text/unigram_merger.h"

#include <algorithm>
#include <limits>
#include <string>

#include "text/utf8.h"

namespace kvass {
namespace {

constexpr std::string_view kSpaceMark = "\u2581";
constexpr float kUnknownPenalty = 10.0f;

size_t character_length(std::string_view text) {
  const Utf8Step step = utf8_step(text);
  return step.state == Utf8Step::valid ? step.length : 1;
}

}  // namespace

Result<UnigramMerger> UnigramMerger::create(const VocabularyView& vocabulary, std::span<const TokenType> types,
                                            const PieceTable& pieces) {
  auto tables = std::make_shared<Tables>();
  KVASS_ASSIGN_OR_RETURN(
      tables->charsmap,
      Charsmap::parse(vocabulary.charsmap, vocabulary_field(vocabulary.source, "tokenizer.ggml.precompiled_charsmap")));
  tables->remove_extra_whitespaces = vocabulary.remove_extra_whitespaces;
  tables->scores.assign(vocabulary.scores.begin(), vocabulary.scores.end());
  tables->unknown = vocabulary.unknown;
  tables->byte_ids.fill(-1);
  float least = std::numeric_limits<float>::max();
  for (int32_t id = 0; id < pieces.size(); ++id) {
    const auto i = static_cast<size_t>(id);
    if (types[i] == TokenType::normal && !pieces[id].empty()) {
      tables->order.push_back(id);
      least = std::min(least, tables->scores[i]);
    }
    if (types[i] != TokenType::byte) continue;
    int32_t& byte_id = tables->byte_ids[static_cast<uint8_t>(pieces[id][0])];
    if (byte_id < 0) byte_id = id;
  }
  tables->unknown_score = (tables->order.empty() ? 0.0f : least) - kUnknownPenalty;
  // Of equal pieces the first counts.
  std::stable_sort(tables->order.begin(), tables->order.end(),
                   [&](int32_t a, int32_t b) { return pieces[a] < pieces[b]; });
  tables->order.erase(std::unique(tables->order.begin(), tables->order.end(),
                                  [&](int32_t a, int32_t b) { return pieces[a] == pieces[b]; }),
                      tables->order.end());
  for (const int32_t id : tables->order) ++tables->first_byte[static_cast<uint8_t>(pieces[id][0]) + size_t{1}];
  for (size_t byte = 0; byte < 256; ++byte) tables->first_byte[byte + 1] += tables->first_byte[byte];
  UnigramMerger merger;
  merger.tables_ = std::move(tables);
  return merger;
}

std::string UnigramMerger::normalized(std::string_view text, bool space_prefix) const {
  const std::string table = tables_->charsmap.apply(text);
  std::string mapped;
  mapped.reserve(table.size());
  for (std::string_view rest = table; !rest.empty();) {
    const size_t mark = std::min(rest.find(kSpaceMark), rest.size());
    mapped.append(rest.substr(0, mark));
    if (mark < rest.size()) mapped += ' ';
    rest.remove_prefix(std::min(mark + kSpaceMark.size(), rest.size()));
  }
  if (tables_->remove_extra_whitespaces) {
    mapped.erase(std::unique(mapped.begin(), mapped.end(), [](char a, char b) { return a == ' ' && b == ' '; }),
                 mapped.end());
    if (mapped.ends_with(' ')) mapped.pop_back();
    if (mapped.starts_with(' ')) mapped.erase(0, 1);
  }
  // The prefix stands before a text of which nothing is left as well, unless it is one of the spaces to remove.
  if (space_prefix && !(tables_->remove_extra_whitespaces ? mapped : text).empty()) mapped.insert(mapped.begin(), ' ');
  return mapped;
}

std::vector<UnigramMerger::Step> UnigramMerger::best_steps(const PieceTable& pieces, std::string_view text) const {
  const Tables& tables = *tables_;
  std::vector<Step> steps(text.size() + 1);
  const auto offer = [&](size_t begin, size_t end, int32_t id, float score) {
    const float sum = steps[begin].score + score;
    if (!steps[end].reached || sum > steps[end].score) steps[end] = {sum, begin, id, true};
  };
  for (size_t begin = 0; begin < text.size();) {
    const size_t character = character_length(text.substr(begin));
    bool whole = false;  // a piece is the character
    // [low, high): the pieces that begin with text[begin, begin + length)
    const auto first = static_cast<uint8_t>(text[begin]);
    auto low = tables.order.begin() + tables.first_byte[first];
    auto high = tables.order.begin() + tables.first_byte[size_t{first} + 1];
    for (size_t length = 1; low != high; ++length) {
      if (pieces[*low].size() == length) {  // the shortest is the first
        offer(begin, begin + length, *low, tables.scores[static_cast<size_t>(*low)]);
        whole = whole || length == character;
        ++low;
      }
      if (begin + length == text.size()) break;
      const auto next = static_cast<uint8_t>(text[begin + length]);
      const auto byte_of = [&](int32_t id) { return static_cast<uint8_t>(pieces[id][length]); };
      low = std::partition_point(low, high, [&](int32_t id) { return byte_of(id) < next; });
      high = std::partition_point(low, high, [&](int32_t id) { return byte_of(id) == next; });
    }
    if (!whole) offer(begin, begin + character, -1, tables.unknown_score);
    begin += character;
  }
  return steps;
}

void UnigramMerger::emit_unknown(std::string_view text, std::vector<int32_t>& ids) const {
  const auto id_of = [&](char c) { return tables_->byte_ids[static_cast<uint8_t>(c)]; };
  if (std::all_of(text.begin(), text.end(), [&](char c) { return id_of(c) >= 0; })) {
    for (const char c : text) ids.push_back(id_of(c));
  } else {
    ids.push_back(tables_->unknown);
  }
}

void UnigramMerger::encode(const PieceTable& pieces, std::string_view text, bool space_prefix,
                           std::vector<int32_t>& ids) const {
  const std::string normal = normalized(text, space_prefix);
  const std::vector<Step> steps = best_steps(pieces, normal);
  std::vector<size_t> ends;  // from the last to the first
  for (size_t end = normal.size(); end > 0; end = steps[end].begin) ends.push_back(end);
  std::reverse(ends.begin(), ends.end());
  const std::string_view all = normal;
  for (size_t i = 0; i < ends.size(); ++i) {
    const Step& step = steps[ends[i]];
    if (step.id >= 0) {
      ids.push_back(step.id);
      continue;
    }
    while (i + 1 < ends.size() && steps[ends[i + 1]].id < 0) ++i;  // neighbours are one
    emit_unknown(all.substr(step.begin, ends[i] - step.begin), ids);
  }
}

}  // namespace kvass
