// Conversations on a tiny model: what the caches hold after some turns is the whole conversation.
#include "app/chat.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "tiny_model.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

class Conversations : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    path_ =
        (std::filesystem::temp_directory_path() / ("kvass_chat_test_" + std::to_string(::getpid()) + ".gguf")).string();
    ASSERT_TRUE(TinyModel().writer().write(path_).ok());
    model_ = std::make_unique<OpenModel>(open_model(path_, Math::f32, 2).value());
  }
  static void TearDownTestSuite() {
    model_.reset();
    std::filesystem::remove(path_);
  }
  static OpenStream stream(int64_t chunk = 7) {
    StreamOptions options;
    options.attention_sink = AttentionSink{4, 60};
    options.chunk = chunk;
    return open_stream(*model_, options, 1).value();
  }
  static ChatOptions options(int64_t tokens) {
    ChatOptions options;
    options.chat_template =
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
    options.system = "the end";
    options.max_tokens = tokens;
    options.sampling.temperature = 1.5f;
    options.sampling.repeat_penalty = 1.3f;
    options.sampling.seed = 5;
    return options;
  }
  static DecodeResult answer(Conversation& chat, std::string_view user) {
    return chat
        .answer(
            chat.prompt(user).value(), [](std::string_view) { return true; }, never_)
        .value();
  }
  static void drop_end(std::vector<int32_t>& ids) {
    if (!ids.empty() && model_->tokenizer->is_end_of_generation(ids.back())) ids.pop_back();
  }

  static inline std::string path_;
  static inline std::unique_ptr<OpenModel> model_;
  static inline const std::atomic<bool> never_{false};
};

const char* const kUsers[] = {"and then?", " the\nthe", "<end_of_turn> an end", "and and and", "e"};

TEST_F(Conversations, TheHistoryIsTheWholeConversationFedAtOnce) {
  OpenStream stream = Conversations::stream();
  Conversation chat = Conversation::create(*model_, stream, options(25)).value();
  std::vector<int32_t> history;
  for (const char* user : kUsers) {
    const ChatTurn turn = chat.prompt(user).value();
    const std::vector<int32_t>& prompt = turn.ids;
    EXPECT_EQ(stream.sequence->length(), static_cast<int64_t>(history.size()));
    EXPECT_EQ(turn.keep, static_cast<int64_t>(history.size()));
    history.insert(history.end(), prompt.begin(), prompt.end());
    DecodeResult told = answer(chat, user);

    DecodeOptions whole;
    whole.prompt = history;
    whole.max_tokens = 25;
    whole.sampling = options(25).sampling;
    OpenStream fresh = Conversations::stream(256);
    const DecodeResult expected = generate(
                                      *model_, fresh, whole, [](std::string_view) { return true; }, never_)
                                      .value();
    EXPECT_EQ(told.ids, expected.ids) << user;
    EXPECT_EQ(told.text, expected.text);
    drop_end(told.ids);
    history.insert(history.end(), told.ids.begin(), told.ids.end());
  }
  EXPECT_EQ(chat.turns(), 5);
  EXPECT_GT(history.size(), 128u) << "past the context";
}

TEST_F(Conversations, TurnsAreTheTemplatesTextAndOnlyTheFirstBegins) {
  OpenStream stream = Conversations::stream();
  Conversation chat = Conversation::create(*model_, stream, options(3)).value();
  const Tokenizer& tokenizer = *model_->tokenizer;
  const std::vector<int32_t> first = chat.prompt("the").value().ids;
  EXPECT_EQ(first.front(), tokenizer.bos());
  EXPECT_EQ(tokenizer.decode(first),
            "<|im_start|>system\nthe end<|im_end|>\n<|im_start|>user\nthe<|im_end|>\n<|im_start|>assistant\n");
  answer(chat, "the");
  const std::vector<int32_t> next = chat.prompt("and").value().ids;
  EXPECT_NE(next.front(), tokenizer.bos());
  EXPECT_EQ(tokenizer.decode(next), "<|im_end|>\n<|im_start|>user\nand<|im_end|>\n<|im_start|>assistant\n");
  ASSERT_TRUE(chat.clear().ok());
  EXPECT_EQ(stream.sequence->length(), 0);
  EXPECT_EQ(chat.prompt("the").value().ids, first);
}

TEST_F(Conversations, TheOpeningIsWhatStandsBeforeTheFirstUsersText) {
  OpenStream stream = Conversations::stream();
  const Conversation chat = Conversation::create(*model_, stream, options(3)).value();
  const int64_t opening = conversation_stream(*model_, options(3), {})->endless_sink_tokens.value();
  const std::vector<int32_t> one = chat.prompt("the").value().ids, other = chat.prompt("and").value().ids;
  EXPECT_GT(opening, 4);
  EXPECT_EQ(std::mismatch(one.begin(), one.end(), other.begin()).first - one.begin(), opening);
}

TEST_F(Conversations, AfterClearAnswersAreThoseOfANewConversation) {
  OpenStream stream = Conversations::stream();
  Conversation chat = Conversation::create(*model_, stream, options(20)).value();
  std::vector<std::vector<int32_t>> told;
  for (int round = 0; round < 2; ++round) {
    for (const char* user : kUsers) told.push_back(answer(chat, user).ids);
    ASSERT_TRUE(chat.clear().ok());
  }
  for (size_t i = 0; i < 5; ++i) EXPECT_EQ(told[i], told[i + 5]);
  EXPECT_NE(told[0], told[3]);
}

TEST_F(Conversations, AnInterruptedAnswerIsKeptAndTheNextTurnClosesIt) {
  OpenStream stream = Conversations::stream();
  Conversation chat = Conversation::create(*model_, stream, options(100)).value();
  std::atomic<bool> cancel{false};
  int pieces = 0;
  const std::vector<int32_t> prompt = chat.prompt("the").value().ids;
  const DecodeResult part = chat.answer(
                                    chat.prompt("the").value(),
                                    [&](std::string_view) {
                                      if (++pieces == 3) cancel = true;
                                      return true;
                                    },
                                    cancel)
                                .value();
  ASSERT_EQ(part.reason, StopReason::cancelled);
  EXPECT_EQ(stream.sequence->length(), static_cast<int64_t>(prompt.size() + part.ids.size()));
  const DecodeResult none = chat.answer(
                                    chat.prompt("and").value(), [](std::string_view) { return true; }, cancel)
                                .value();
  EXPECT_EQ(none.tokens, 0) << "Ctrl-C before the first token";
  EXPECT_EQ(none.unread, static_cast<int64_t>(chat.prompt("and").value().ids.size()));
  EXPECT_EQ(stream.sequence->length(), static_cast<int64_t>(prompt.size() + part.ids.size())) << "it is taken back";
  EXPECT_EQ(chat.turns(), 1);
}

TEST_F(Conversations, ASuspendedAnswerGoesOnFromItsStateToTheSameEnd) {
  const std::atomic<bool> never{false};
  const auto say = [](std::string_view) { return true; };
  OpenStream straight = Conversations::stream();
  Conversation whole = Conversation::create(*model_, straight, options(30)).value();
  const DecodeResult first = whole.answer(whole.prompt("the").value(), say, never).value();
  const ChatState after_first = whole.state().chat;
  const DecodeResult second = whole.answer(whole.prompt("and").value(), say, never).value();
  int pieces = 0;
  for (bool suspended = true; suspended; ++pieces) {
    SCOPED_TRACE(pieces);
    OpenStream stream = Conversations::stream();
    Conversation chat = Conversation::create(*model_, stream, options(30)).value();
    std::atomic<bool> suspend{pieces == 0}, cancel{pieces == 0};
    const auto until = [&, left = pieces](std::string_view) mutable {
      if (--left == 0) suspend = cancel = true;
      return true;
    };
    const DecodeResult part = chat.answer(chat.prompt("the").value(), until, cancel, {&suspend}).value();
    suspended = part.suspended;
    ASSERT_EQ(chat.suspended(), suspended);
    if (!suspended) break;  // the answer was at its end
    Conversation resumed = Conversation::resume(*model_, stream, options(30), chat.state(), "talk").value();
    const DecodeResult rest = resumed.go_on(say, never).value();
    EXPECT_EQ(part.text + rest.text, first.text);
    EXPECT_EQ(part.tokens + rest.tokens, first.tokens);
    EXPECT_FALSE(resumed.suspended());
    EXPECT_EQ(resumed.state().chat.messages, after_first.messages);
    EXPECT_EQ(resumed.state().chat.text, after_first.text);
    EXPECT_EQ(resumed.state().chat.ids, after_first.ids);
    EXPECT_EQ(resumed.state().chat.ends, after_first.ends);
    EXPECT_EQ(resumed.answer(resumed.prompt("and").value(), say, never).value().text, second.text);
    EXPECT_EQ(resumed.turns(), 2);
  }
  EXPECT_GT(pieces, 5);
}

TEST_F(Conversations, ABaseModelAndNonsenseAreRefused) {
  OpenStream stream = Conversations::stream();
  ChatOptions none = options(5);
  none.chat_template = "";
  EXPECT_NE(Conversation::create(*model_, stream, none).status().message().find("base model"), std::string::npos);
  EXPECT_NE(Conversation::create(*model_, stream, options(0))
                .status()
                .message()
                .find("ChatOptions.max_tokens: expected 1 or more"),
            std::string::npos);
}

// Drops from the history all of an answer but its last character.
constexpr char kForgetful[] =
    "{% for m in messages %}[{{ m.content if m.role == 'user' else m.content[-1:] }}]{% endfor %}"
    "{% if add_generation_prompt %}[{% endif %}";

// A stream that goes back in its middle holds what one holds that was never told what the template forgets.
TEST_F(Conversations, WhatTheTemplateForgetsIsForgotten) {
  StreamOptions bounded;
  bounded.context = 400;
  OpenStream stream = open_stream(*model_, bounded, 1).value();
  ChatOptions forgetful = options(6);
  forgetful.chat_template = kForgetful;
  forgetful.system = "";
  forgetful.sampling.repeat_penalty = 1.2f;
  Conversation chat = Conversation::create(*model_, stream, forgetful).value();
  bool went_back = false;
  for (const char* user : kUsers) {
    const ChatTurn turn = chat.prompt(user).value();
    went_back = went_back || turn.keep < stream.sequence->length();
    std::vector<int32_t> whole = chat.state().chat.ids;
    whole.resize(static_cast<size_t>(turn.keep));
    whole.insert(whole.end(), turn.ids.begin(), turn.ids.end());
    const DecodeResult told = answer(chat, user);

    DecodeOptions again;
    again.prompt = whole;
    again.max_tokens = 6;
    again.sampling = forgetful.sampling;
    OpenStream fresh = open_stream(*model_, bounded, 1).value();
    const DecodeResult expected = generate(
                                      *model_, fresh, again, [](std::string_view) { return true; }, never_)
                                      .value();
    EXPECT_EQ(told.ids, expected.ids) << user;
  }
  EXPECT_TRUE(went_back);
}

TEST_F(Conversations, ATurnWithoutRoomChangesNothing) {
  StreamOptions bounded;
  bounded.context = 64;
  OpenStream stream = open_stream(*model_, bounded, 1).value();
  ChatOptions forgetful = options(6);
  forgetful.chat_template = kForgetful;
  Conversation chat = Conversation::create(*model_, stream, forgetful).value();
  answer(chat, "the");
  const int64_t length = stream.sequence->length();
  const StreamState before = chat.state();
  const Result<DecodeResult> full = chat.answer(
      chat.prompt(std::string(100, 'x')).value(), [](std::string_view) { return true; }, never_);
  EXPECT_EQ(full.status().code(), StatusCode::cache_full);
  EXPECT_EQ(stream.sequence->length(), length);
  EXPECT_EQ(chat.state().chat.ids, before.chat.ids);
  EXPECT_EQ(answer(chat, "and").reason, StopReason::max_tokens);
}

TEST_F(Conversations, TheModelsOwnTokenizerIsNotChangedByATemplate) {
  OpenStream stream = Conversations::stream();
  ChatOptions own = options(3);
  own.chat_template = "{% for m in messages %}{{ m.content }}<eos>{% endfor %}";
  Conversation chat = Conversation::create(*model_, stream, own).value();
  EXPECT_EQ(chat.chat_template(), own.chat_template);
  const std::vector<int32_t> ids = chat.prompt("the<eos>").value().ids;
  EXPECT_EQ(std::count(ids.begin(), ids.end(), model_->tokenizer->eos()), 2) << "of the system text and the user's";
}

}  // namespace
}  // namespace kvass
