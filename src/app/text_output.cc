#include "app/text_output.h"

namespace kvass {

std::optional<StopReason> TextOutput::take(int32_t token) {
  ++result_.tokens;
  if (options_.collect) result_.ids.push_back(token);
  if (!options_.ignore_eos && tokenizer_.is_end_of_generation(token)) return StopReason::end_of_generation;
  if (!show(stops_.push(decoder_.push(token)))) return StopReason::cancelled;
  if (stops_.matched()) return StopReason::stop_text;
  return std::nullopt;
}

void TextOutput::finish() {
  if (stops_.matched()) return;
  const std::string incomplete = decoder_.finish();
  show(stops_.finish());
  if (options_.collect) result_.text += incomplete;
}

void TextOutput::resume(const StreamState& state, bool ended) {
  if (ended) {
    StopMatcher stops(options_.stops);
    std::string text = stops.push(state.held);
    if (!stops.matched()) text += stops.finish() + state.undecoded;
    show(text);
    return;
  }
  decoder_.restore(state.undecoded);
  show(stops_.push(state.held));
}

void TextOutput::save(StreamState& state) const {
  if (!stops_.matched()) {
    state.undecoded = decoder_.pending();
    state.held = undelivered_ + stops_.held();
  } else if (owes()) {  // it ends once more with its stop text, after what was not delivered
    state.held = undelivered_ + options_.stops[static_cast<size_t>(stops_.matched_stop())];
  }  // otherwise what follows is a text of its own
}

bool TextOutput::show(const std::string& text) {
  if (text.empty()) return !refused_;
  if (options_.collect) result_.text += text;
  piece_ += text;
  if (refused_) {
    if (options_.undelivered) undelivered_ += text;
  } else if (on_text_ && !on_text_(text)) {
    refused_ = true;
    if (options_.undelivered) undelivered_ = options_.undelivered();
  }
  return !refused_;
}

}  // namespace kvass
