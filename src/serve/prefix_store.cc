#include "serve/prefix_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "app/text.h"
#include "text/utf8.h"

namespace kvass::serve {
namespace {

constexpr int64_t kWorthIt = 64;    // tokens: less is not waited for, and not copied for
constexpr size_t kShownTokens = 6;  // of a place where texts differ

int64_t common(std::span<const int32_t> a, std::span<const int32_t> b) {
  return std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin();
}

}  // namespace

PrefixStore::PrefixStore(std::vector<std::unique_ptr<Sequence>> sequences, int64_t most_taken,
                         std::shared_ptr<const Tokenizer> tokenizer)
    : most_taken_(most_taken), tokenizer_(std::move(tokenizer)) {
  for (std::unique_ptr<Sequence>& sequence : sequences) {
    Entry entry;
    entry.sequence = std::move(sequence);
    entries_.push_back(std::move(entry));
  }
}

bool PrefixStore::has_room() const {
  return std::count_if(entries_.begin(), entries_.end(), [](const Entry& entry) { return entry.taken; }) < most_taken_;
}

std::string PrefixStore::text_of(std::span<const int32_t> ids, size_t at) const {
  std::string text;
  for (size_t i = at; i < std::min(ids.size(), at + kShownTokens); ++i) {
    text += tokenizer_->piece(ids[i], /*show_control=*/true);
  }
  text = valid_utf8(text);
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, ' ');
  return text;
}

bool PrefixStore::worth_waiting(std::span<const int32_t> ids, const std::string& owner) const {
  int64_t now = 0, soon = 0;
  for (const Entry& entry : entries_) {
    if (entry.owner != owner) continue;
    const int64_t same = std::min<int64_t>(common(entry.ids, ids), static_cast<int64_t>(ids.size()) - 1);
    const int64_t there = std::min(same, entry.sequence->length());
    now = std::max(now, entry.sequence->rewind_place(there));
    if (entry.taken && entry.sequence->length() < same) soon = std::max(soon, same);
  }
  return soon - now >= kWorthIt;
}

Result<PrefixStore::Place> PrefixStore::take(std::span<const int32_t> ids, const std::string& owner, bool reuse) {
  const auto most = static_cast<int64_t>(ids.size()) - 1;
  Entry* best = nullptr;
  Entry* nearest = nullptr;  // the longest common prefix, whether it can be used or not
  int64_t reused = 0, longest = 0;
  for (Entry& entry : entries_) {
    if (entry.owner != owner) continue;
    const int64_t same = common(entry.ids, ids);
    if (same > longest) {
      longest = same;
      nearest = &entry;
    }
    const int64_t place = entry.sequence->rewind_place(std::min({same, most, entry.sequence->length()}));
    if (place > reused || (place == reused && place > 0 && !entry.taken && best != nullptr && best->taken)) {
      reused = place;
      best = &entry;
    }
  }
  if (!reuse || reused == 0) best = nullptr;
  // The oldest of those that are free, unless the best one is taken along: what it has beyond the prefix is little, or
  // there is no other.
  Entry* oldest = nullptr;
  for (Entry& entry : entries_) {
    if (!entry.taken && &entry != best && (oldest == nullptr || entry.used < oldest->used)) oldest = &entry;
  }
  Place place;
  Entry* chosen = oldest;
  if (best != nullptr) {
    const int64_t lost = best->sequence->length() - reused;
    const bool in_place = !best->taken && (lost < kWorthIt || oldest == nullptr);
    const bool too_little = best->taken && reused < kWorthIt;
    if (in_place) {
      chosen = best;
      KVASS_RETURN_IF_ERROR(best->sequence->rewind(reused));
    } else if (too_little) {
      best = nullptr;
    } else {
      KVASS_RETURN_IF_ERROR(oldest->sequence->copy_from(*best->sequence, reused));
    }
  }
  if (best == nullptr) {
    reused = 0;
    KVASS_RETURN_IF_ERROR(chosen->sequence->clear());
  }
  if (!reuse) {
    place.reason = "not asked for: every token of the prompt is to be computed";
  } else if (reused < most) {
    if (nearest == nullptr) {
      place.reason = "no earlier text begins so";
    } else if (longest > reused && longest < static_cast<int64_t>(nearest->ids.size()) && longest > reused + kWorthIt) {
      place.reason = fmt::format("the rings of an earlier text with {} tokens in common no longer hold them", longest);
    } else if (longest < static_cast<int64_t>(nearest->ids.size()) && longest < static_cast<int64_t>(ids.size())) {
      place.reason = fmt::format("differs from an earlier text at token {}", longest);
      place.detail = fmt::format("{}: \"{}\" was \"{}\"", place.reason, text_of(ids, static_cast<size_t>(longest)),
                                 text_of(nearest->ids, static_cast<size_t>(longest)));
    }
  }
  if (place.detail.empty()) place.detail = place.reason;
  chosen->ids.assign(ids.begin(), ids.end());
  chosen->owner = owner;
  chosen->taken = true;
  chosen->used = ++clock_;
  place.index = static_cast<size_t>(chosen - entries_.data());
  place.sequence = chosen->sequence.get();
  place.reused = reused;
  return place;
}

void PrefixStore::checkpoint(size_t index) {
  Sequence& sequence = *entries_[index].sequence;
  if (sequence.options().checkpoints > 0 && sequence.plan().checkpoint_bytes > 0) (void)sequence.checkpoint();
}

void PrefixStore::give_back(size_t index, std::span<const int32_t> generated) {
  Entry& entry = entries_[index];
  entry.ids.insert(entry.ids.end(), generated.begin(), generated.end());
  entry.ids.resize(std::min(entry.ids.size(), static_cast<size_t>(entry.sequence->length())));
  entry.taken = false;
  entry.used = ++clock_;
}

}  // namespace kvass::serve
