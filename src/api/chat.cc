// include/kvass/chat.h.
#include "kvass/chat.h"

#include <optional>
#include <utility>

#include "api/stream_impl.h"
#include "app/chat.h"

namespace kvass {

struct Chat::Impl {
  Stream stream;
  std::optional<Conversation> conversation;
};

Chat::Chat(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Chat::Chat(Chat&&) noexcept = default;
Chat& Chat::operator=(Chat&&) noexcept = default;
Chat::~Chat() = default;

Result<Chat> Chat::open(const Model& model, const ChatOptions& options, const StreamOptions& stream) {
  return guarded({"ChatOptions", "StreamOptions"}, [&]() -> Result<Chat> {
    KVASS_ASSIGN_OR_RETURN(const std::shared_ptr<const Model::Impl> file, loaded_impl_of(model, ModelKind::text));
    if (!options.endless && (stream.endless || stream.attention_sink)) {
      return bad_input("ChatOptions.endless", "true beside StreamOptions.endless and attention_sink", "false");
    }
    KVASS_RETURN_IF_ERROR(validate(options.sampling));
    KVASS_ASSIGN_OR_RETURN(const StreamOptions asked, conversation_stream(*file->opened, options, stream));
    auto impl = std::make_unique<Impl>();
    KVASS_ASSIGN_OR_RETURN(impl->stream, Stream::open(model, asked));
    Stream::Impl& inner = *impl->stream.impl();
    KVASS_ASSIGN_OR_RETURN(impl->conversation, Conversation::create(*file->opened, inner.stream, options));
    return Chat(std::move(impl));
  });
}

Result<Chat> Chat::resume(const Model& model, const std::string& path, const ChatOptions& options,
                          const StreamOptions& machine) {
  return guarded({"ChatOptions", "StreamOptions"}, [&]() -> Result<Chat> {
    KVASS_ASSIGN_OR_RETURN(const std::shared_ptr<const Model::Impl> file, loaded_impl_of(model, ModelKind::text));
    for (const auto& [field, text] :
         {std::pair("system", &options.system), std::pair("chat_template", &options.chat_template),
          std::pair("tools", &options.tools), std::pair("variables", &options.variables),
          std::pair("now", &options.now)}) {
      if (!text->empty()) {
        return bad_input(std::string("ChatOptions.") + field, "none, for the snapshot has it", "'" + *text + "'");
      }
    }
    KVASS_ASSIGN_OR_RETURN(const Snapshot snapshot, Snapshot::open(path));
    KVASS_ASSIGN_OR_RETURN(const StreamOptions saved, saved_options(snapshot, machine));
    auto impl = std::make_unique<Impl>();
    KVASS_ASSIGN_OR_RETURN(impl->stream, Stream::open(model, saved));
    Stream::Impl& inner = *impl->stream.impl();
    KVASS_RETURN_IF_ERROR(inner.restore(snapshot));
    if (!options.endless && inner.sequence().endless()) {
      return bad_input("ChatOptions.endless", "true, as in the snapshot", "false");
    }
    KVASS_ASSIGN_OR_RETURN(impl->conversation,
                           Conversation::resume(*file->opened, inner.stream, options, inner.text, path));
    if (impl->conversation->suspended()) {
      return bad_input(path, "a conversation at the end of an answer", "one that was saved in the middle of an answer");
    }
    inner.forget_text();
    inner.publish();
    return Chat(std::move(impl));
  });
}

Result<GenerateResult> Chat::answer(std::string_view user, const OnText& on_text, const std::atomic<bool>* cancel) {
  return alone(impl_ ? impl_->stream.impl() : nullptr, [&](Stream::Impl&) -> Result<GenerateResult> {
    static const std::atomic<bool> never{false};
    std::exception_ptr thrown;  // comes out once the turn is closed
    const auto show = [&](std::string_view text) {
      try {
        return !on_text || on_text(text);
      } catch (...) {
        thrown = std::current_exception();
        return false;
      }
    };
    Conversation& conversation = *impl_->conversation;
    KVASS_ASSIGN_OR_RETURN(ChatTurn turn, conversation.prompt(user));
    KVASS_ASSIGN_OR_RETURN(DecodeResult result,
                           conversation.answer(std::move(turn), show, cancel != nullptr ? *cancel : never));
    if (thrown) std::rethrow_exception(thrown);
    return GenerateResult(std::move(result));
  });
}

Result<std::vector<int32_t>> Chat::prompt(std::string_view user) const {
  return alone(impl_ ? impl_->stream.impl() : nullptr, [&](Stream::Impl&) -> Result<std::vector<int32_t>> {
    KVASS_ASSIGN_OR_RETURN(ChatTurn turn, impl_->conversation->prompt(user));
    return std::move(turn.ids);
  });
}

Status Chat::clear() {
  return alone(impl_ ? impl_->stream.impl() : nullptr, [&](Stream::Impl&) { return impl_->conversation->clear(); });
}

Status Chat::save(const std::string& path) const {
  return alone(impl_ ? impl_->stream.impl() : nullptr, [&](Stream::Impl& stream) {
    return save_snapshot(stream.sequence(), impl_->conversation->state(), path);
  });
}

int64_t Chat::turns() const { return impl_ ? impl_->conversation->turns() : 0; }
std::string_view Chat::chat_template() const {
  return impl_ ? impl_->conversation->chat_template() : std::string_view();
}
int64_t Chat::length() const { return impl_ ? impl_->stream.length() : 0; }
const MemoryPlan& Chat::plan() const {
  static const Stream none;
  return impl_ ? impl_->stream.plan() : none.plan();
}

}  // namespace kvass
