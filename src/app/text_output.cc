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
    show(state.held + state.undecoded);
    return;
  }
  decoder_.restore(state.undecoded);
  show(stops_.push(state.held));
}

void TextOutput::save(StreamState& state) const {
  if (stops_.matched()) return;  // what follows is a text of its own
  state.undecoded = decoder_.pending();
  state.held = stops_.held();
}

bool TextOutput::show(const std::string& text) {
  if (text.empty()) return true;
  if (options_.collect) result_.text += text;
  piece_ += text;
  return !on_text_ || on_text_(text);
}

}  // namespace kvass
