#include "stream.h"

#include <nanobind/stl/string.h>

#include <limits>

#include "app/decode_loop.h"

namespace kvass::python {

Status StreamState::run(std::span<const int32_t> ids, Interrupt& interrupt) {
  std::vector<int32_t> tokens = text.pending;
  tokens.insert(tokens.end(), ids.begin(), ids.end());
  if (tokens.empty()) return bad_input("tokens", "at least one", "none");
  KVASS_RETURN_IF_ERROR(check_room(*stream.sequence, stream.sequence->length(), tokens.size(), "tokens"));
  // A chunk at a time, for Ctrl-C; what has been run stays run.
  const size_t chunk = static_cast<size_t>(stream.sequence->plan().chunk);
  for (size_t at = 0; at < tokens.size(); at += chunk) {
    const std::span<const int32_t> part = std::span(tokens).subspan(at, std::min(chunk, tokens.size() - at));
    const Run run{stream.sequence.get(), stream.sequence->length(), part};
    if (Status status = stream.session->step({std::span(&run, 1)}).status(); !status.ok()) {
      if (at == 0) return status;  // nothing has changed
      text = {};
      text.pending.assign(tokens.begin() + static_cast<std::ptrdiff_t>(at), tokens.end());
      return status;
    }
    last_row = static_cast<int32_t>(part.size()) - 1;
    last_token = part.back();
    ++changes;
    interrupt.poll();
    if (interrupt.flag().load()) {
      text = {};
      text.pending.assign(tokens.begin() + static_cast<std::ptrdiff_t>(at + part.size()), tokens.end());
      return {};
    }
  }
  text = {};
  return {};
}

Status StreamState::take_back_last() {
  if (last_row < 0) return bad_input("prompt", "at least one token", "none");
  KVASS_RETURN_IF_ERROR(stream.sequence->rewind(stream.sequence->length() - 1));
  text.pending.assign(1, last_token);
  last_row = last_token = -1;
  return {};
}

Result<SharedStream> open_shared(std::shared_ptr<const LoadedModel> loaded, const StreamOptions& options) {
  auto state = std::make_shared<StreamState>();
  KVASS_ASSIGN_OR_RETURN(state->stream, open_stream(loaded->model, options, kScoreHeadRows));
  state->loaded = std::move(loaded);
  state->options = options;
  return state;
}

Result<SharedStream> fork_shared(StreamState& from) {
  KVASS_ASSIGN_OR_RETURN(const SharedStream state, open_shared(from.loaded, from.options));
  KVASS_RETURN_IF_ERROR(state->stream.sequence->copy_from(*from.stream.sequence));
  state->text = from.text;
  if (from.last_row >= 0) {  // the logits are the other session's: the last token runs again
    state->last_row = 0;
    state->last_token = from.last_token;
    KVASS_RETURN_IF_ERROR(state->take_back_last());
  }
  return state;
}

TokenArgument::TokenArgument(nb::handle from, bool special) : special_(special) {
  if (from.is_none()) return;
  if (nb::isinstance<nb::str>(from)) {
    text_ = nb::cast<std::string>(from);
    return;
  }
  for (const int64_t id : integers(from, "tokens")) {
    if (id < 0 || id > std::numeric_limits<int32_t>::max()) {
      check(bad_input("token", "an id of the vocabulary", std::to_string(id)));
    }
    ids_.push_back(static_cast<int32_t>(id));
  }
}

std::vector<int32_t> TokenArgument::ids(const LoadedModel& model, bool begin) const {
  if (!text_) return ids_;
  const Tokenizer& tokenizer = *model.model.tokenizer;
  const TextPart part{*text_, special_};
  return tokenizer.encode_parts(std::span(&part, 1), begin && tokenizer.add_bos(), /*continued=*/false);
}

}  // namespace kvass::python
