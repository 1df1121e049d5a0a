// include/kvass/kvass.h: text and conversations.
#include <limits>

#include "api/c_common.h"

struct kvass_chat {
  explicit kvass_chat(kvass::Chat opened) : chat(std::move(opened)) {}

  kvass::Chat chat;
  std::atomic<bool> cancel{false};
};

namespace kvass::c_api {

kvass_generate_result result_of(const GenerateResult& result) {
  kvass_generate_result made{};
  made.prompt_tokens = result.prompt_tokens;
  made.tokens = result.tokens;
  made.prefill_seconds = result.prefill_seconds;
  made.decode_seconds = result.decode_seconds;
  switch (result.reason) {
    case StopReason::max_tokens:
      made.reason = KVASS_STOP_MAX_TOKENS;
      break;
    case StopReason::end_of_generation:
      made.reason = KVASS_STOP_END;
      break;
    case StopReason::stop_text:
      made.reason = KVASS_STOP_TEXT;
      break;
    case StopReason::cancelled:
      made.reason = KVASS_STOP_CANCELLED;
      break;
    case StopReason::cache_full:
      made.reason = KVASS_STOP_CACHE_FULL;
      break;
    case StopReason::failed:
      made.reason = KVASS_STOP_FAILED;
      break;
  }
  return made;
}

}  // namespace kvass::c_api

using namespace kvass;         // NOLINT: this file is the C API
using namespace kvass::c_api;  // NOLINT

namespace {

int64_t limit_of(int64_t max_tokens) { return max_tokens == 0 ? std::numeric_limits<int64_t>::max() : max_tokens; }

Result<std::vector<std::string>> stops_of(const char* const* stops, size_t count) {
  std::vector<std::string> texts;
  KVASS_ASSIGN_OR_RETURN(const auto all, array_of(stops, count, "stops"));
  for (const char* stop : all) {
    KVASS_RETURN_IF_ERROR(given(stop, "stops"));
    texts.emplace_back(stop);
  }
  return texts;
}

Result<GenerateOptions> generate_options(const kvass_generate_options& all) {
  GenerateOptions options;
  options.max_tokens = limit_of(all.max_tokens);
  KVASS_ASSIGN_OR_RETURN(options.sampling, sampling(all.sampling));
  KVASS_ASSIGN_OR_RETURN(options.stops, stops_of(all.stops, all.stop_count));
  options.ignore_eos = all.ignore_eos != 0;
  options.hold_text = all.hold_text != 0;
  options.save_every = all.save_every;
  if (all.save_path != nullptr) options.save_path = all.save_path;
  options.collect = all.ids != nullptr;
  if (all.ids_capacity > 0) KVASS_RETURN_IF_ERROR(given(all.ids, "ids"));
  return options;
}

Result<ChatOptions> chat_options(const kvass_chat_options* options) {
  KVASS_ASSIGN_OR_RETURN(const kvass_chat_options all, options_of(options, "kvass_chat_options"));
  ChatOptions chat;
  if (all.system_text != nullptr) chat.system = all.system_text;
  if (all.chat_template != nullptr) chat.chat_template = all.chat_template;
  if (all.tools != nullptr) chat.tools = all.tools;
  if (all.variables != nullptr) chat.variables = all.variables;
  KVASS_ASSIGN_OR_RETURN(chat.stops, stops_of(all.stops, all.stop_count));
  chat.max_tokens = limit_of(all.max_tokens);
  KVASS_ASSIGN_OR_RETURN(chat.sampling, sampling(all.sampling));
  chat.endless = all.bounded == 0;
  chat.collect = false;
  return chat;
}

}  // namespace

extern "C" {

kvass_code kvass_generate(kvass_sequence* sequence, const int32_t* tokens, size_t count,
                          const kvass_generate_options* options, kvass_on_text on_text, void* user,
                          kvass_generate_result* result) {
  return call([&]() -> Status {
    KVASS_RETURN_IF_ERROR(given(sequence, "sequence"));
    KVASS_ASSIGN_OR_RETURN(const auto ids, array_of(tokens, count, "tokens"));
    if (result != nullptr) KVASS_RETURN_IF_ERROR(check_size(*result, "kvass_generate_result"));
    KVASS_ASSIGN_OR_RETURN(const kvass_generate_options all, options_of(options, "kvass_generate_options"));
    KVASS_ASSIGN_OR_RETURN(const GenerateOptions generation, generate_options(all));
    sequence->cancel.store(false);
    KVASS_ASSIGN_OR_RETURN(const GenerateResult made, generate(sequence->stream, ids, generation,
                                                               text_callback(on_text, user), &sequence->cancel));
    if (all.ids != nullptr) std::copy_n(made.ids.begin(), std::min(all.ids_capacity, made.ids.size()), all.ids);
    if (result != nullptr) give(result_of(made), result);
    return {};
  });
}

kvass_code kvass_chat_open(const kvass_model* model, const kvass_chat_options* options,
                           const kvass_stream_options* stream, kvass_chat** chat) {
  return call([&]() -> Status {
    KVASS_RETURN_IF_ERROR(given(model, "model"));
    KVASS_RETURN_IF_ERROR(given(chat, "chat"));
    KVASS_ASSIGN_OR_RETURN(const ChatOptions conversation, chat_options(options));
    KVASS_ASSIGN_OR_RETURN(const StreamOptions streams, stream_options(stream, model->streams));
    KVASS_ASSIGN_OR_RETURN(Chat made, Chat::open(model->model, conversation, streams));
    *chat = new kvass_chat(std::move(made));
    return {};
  });
}

kvass_code kvass_chat_resume(const kvass_model* model, const char* path, const kvass_chat_options* options,
                             const kvass_stream_options* stream, kvass_chat** chat) {
  return call([&]() -> Status {
    KVASS_RETURN_IF_ERROR(given(model, "model"));
    KVASS_RETURN_IF_ERROR(given(path, "path"));
    KVASS_RETURN_IF_ERROR(given(chat, "chat"));
    KVASS_ASSIGN_OR_RETURN(const ChatOptions conversation, chat_options(options));
    StreamOptions machine;
    machine.threads = model->streams.threads;
    KVASS_ASSIGN_OR_RETURN(const StreamOptions streams, stream_options(stream, machine));
    KVASS_ASSIGN_OR_RETURN(Chat made, Chat::resume(model->model, path, conversation, streams));
    *chat = new kvass_chat(std::move(made));
    return {};
  });
}

void kvass_chat_free(kvass_chat* chat) { delete chat; }

kvass_code kvass_chat_answer(kvass_chat* chat, const char* text, size_t text_bytes, kvass_on_text on_text, void* user,
                             kvass_generate_result* result) {
  return call([&]() -> Status {
    KVASS_RETURN_IF_ERROR(given(chat, "chat"));
    KVASS_ASSIGN_OR_RETURN(const auto bytes, array_of(text, text_bytes, "text"));
    if (result != nullptr) KVASS_RETURN_IF_ERROR(check_size(*result, "kvass_generate_result"));
    chat->cancel.store(false);
    const std::string_view view(bytes.data(), bytes.size());
    KVASS_ASSIGN_OR_RETURN(const GenerateResult made,
                           chat->chat.answer(view, text_callback(on_text, user), &chat->cancel));
    if (result != nullptr) give(result_of(made), result);
    return {};
  });
}

kvass_code kvass_chat_clear(kvass_chat* chat) {
  return call([&]() -> Status {
    KVASS_RETURN_IF_ERROR(given(chat, "chat"));
    return chat->chat.clear();
  });
}

kvass_code kvass_chat_save(kvass_chat* chat, const char* path) {
  return call([&]() -> Status {
    KVASS_RETURN_IF_ERROR(given(chat, "chat"));
    KVASS_RETURN_IF_ERROR(given(path, "path"));
    return chat->chat.save(path);
  });
}

int64_t kvass_chat_turns(const kvass_chat* chat) { return chat == nullptr ? 0 : chat->chat.turns(); }
int64_t kvass_chat_length(const kvass_chat* chat) { return chat == nullptr ? 0 : chat->chat.length(); }
void kvass_chat_cancel(kvass_chat* chat) {
  if (chat != nullptr) chat->cancel.store(true);
}

}  // extern "C"
