// What cannot be is refused with the field that the caller filled in: values that an enum does not have, options that
// can take no effect, text that would be cut, files of another kind.
#include "kvass/ops.h"
#include "kvass/transcribe.h"
#include "test_api.h"

namespace {

using kvass::DType;
using kvass::Model;
using kvass::SinkPositions;
using kvass::Status;
using kvass::StatusCode;
using kvass::Stream;
using kvass::StreamOptions;

class Refusals : public kvass::testing::Api {
 protected:
  static Status opened(const std::function<void(StreamOptions&)>& change) {
    StreamOptions options = small();
    change(options);
    return Stream::open(*model_, options).status();
  }
  static void bad(const Status& status, const std::string& message) {
    EXPECT_EQ(status.code(), StatusCode::bad_input);
    EXPECT_NE(status.message().find(message), std::string::npos) << status.message() << "\nand not: " << message;
  }
};

constexpr int64_t kLargest = std::numeric_limits<int64_t>::max();

TEST_F(Refusals, ValuesThatAnEnumDoesNotHave) {
  bad(opened([](auto& o) { o.kv = static_cast<DType>(9); }),
      "StreamOptions.kv: expected one of f32, f16, bf16, q8, got the value 9");
  bad(opened([](auto& o) { o.math = static_cast<kvass::Math>(77); }), "StreamOptions.math: expected one of f32");
  bad(opened([](auto& o) {
        o.endless = true;
        o.sink_positions = static_cast<SinkPositions>(9);
      }),
      "StreamOptions.sink_positions: expected one of in-cache, original, wrapped, got the value 9");
  bad(Model::load(*gguf_, {.math = static_cast<kvass::Math>(77)}).status(), "LoadOptions.math: expected one of f32");
  bad(Model::load(*gguf_, {.pages = static_cast<kvass::Pages>(9)}).status(),
      "LoadOptions.pages: expected one of mapped, huge, got the value 9");
  bad(Model::load(*gguf_, {.device = static_cast<kvass::Device>(9)}).status(),
      "LoadOptions.device: expected one of cpu");
  const Model file = Model::open(*gguf_).value();
  bad(kvass::plan_memory(file, {}, {.math = static_cast<kvass::Math>(77)}).status(), "math: expected one of f32");
  bad(kvass::plan_caches({{1, 64, 0}}, {.dtype = static_cast<DType>(9)}).status(), "CacheOptions.dtype");
  bad(kvass::plan_caches({{1, 64, 0}}, {.sink_positions = static_cast<SinkPositions>(9)}).status(),
      "CacheOptions.sink_positions");
  bad(kvass::Layout::make(static_cast<kvass::LayoutKind>(9), {}).status(), "kind: expected one of full");
  EXPECT_EQ(kvass::layout_kind_name(static_cast<kvass::LayoutKind>(9)), "?");
  EXPECT_EQ(kvass::transcript_format_name(static_cast<kvass::TranscriptFormat>(9)), "?");
  float q[16] = {}, out[16] = {};
  kvass::OpContext context = kvass::OpContext::create({.threads = 1}).value();
  kvass::ConstTensor keys(q, DType::f32, {1, 1, 1, 16});
  const kvass::ConstTensor query = keys;
  keys.dtype = static_cast<DType>(9);
  bad(kvass::attention(context, query, keys, keys, {}, {out, DType::f32, {1, 1, 1, 16}}),
      "dtype: expected one of f32, f16, bf16, q8, got the value 9");
  keys = query;
  keys.device = static_cast<kvass::Device>(9);
  bad(kvass::attention(context, query, keys, keys, {}, {out, DType::f32, {1, 1, 1, 16}}),
      "device: expected one of cpu, cuda, rocm, got the value 9");
}

TEST_F(Refusals, ACallOnAContextThatWasMovedFrom) {
  kvass::OpContext moved = kvass::OpContext::create({.threads = 1}).value();
  const kvass::OpContext owner = std::move(moved);
  float q[16] = {}, out[16] = {}, lse[1] = {};
  const kvass::ConstTensor in(q, DType::f32, {1, 1, 1, 16});
  const kvass::Tensor to(out, DType::f32, {1, 1, 1, 16});
  const kvass::Tensor sums(lse, DType::f32, {1, 1, 1});
  const std::string message = "context: expected one that was created, got one that was moved from";
  bad(moved.set_stream(nullptr), message);  // NOLINT: that is what is tested
  bad(kvass::attention(moved, in, in, in, {}, to), message);
  bad(kvass::attention_fp32(moved, in, in, in, {}, to), message);
  bad(kvass::attention_with_lse(moved, in, in, in, {}, to, sums), message);
  bad(kvass::kv_cache_attention(moved, in, {{q, DType::f32, {1, 1, 0, 16}}, {q, DType::f32, {1, 1, 0, 16}}, in, in}, {},
                                to),
      message);
  float dq[16], dk[16], dv[16];
  bad(kvass::attention_backward(
          moved, in, in, in, in, {},
          {{dq, DType::f32, {1, 1, 1, 16}}, {dk, DType::f32, {1, 1, 1, 16}}, {dv, DType::f32, {1, 1, 1, 16}}}),
      message);
  const kvass::ConstTensor sum(lse, DType::f32, {1, 1, 1});
  float merged[16], total[1];
  bad(kvass::merge_attention(moved, std::span(&in, 1), std::span(&sum, 1), {merged, DType::f32, {1, 1, 1, 16}},
                             {total, DType::f32, {1, 1, 1}}),
      message);
  bad(kvass::update_cross_attn_cache(moved, in, to).status(), message);
}

TEST_F(Refusals, OptionsThatCanTakeNoEffect) {
  bad(opened([](auto& o) { o.sink_positions = SinkPositions::original; }),
      "StreamOptions.sink_positions: expected none without StreamOptions.attention_sink or StreamOptions.endless");
  bad(opened([](auto& o) { o.endless_sink_tokens = 7; }), "StreamOptions.endless_sink_tokens: expected none but with");
  bad(opened([](auto& o) {
        o.endless = true;
        o.endless_sink_tokens = -3;
      }),
      "StreamOptions.endless_sink_tokens: expected 0 to 48, half of StreamOptions.context, got -3");
  bad(opened([](auto& o) {
        o.endless = true;
        o.endless_sink_tokens = 49;
      }),
      "got 49");
  kvass::GenerateOptions generation;
  generation.stops = {"a", ""};
  Stream stream = open();
  bad(kvass::generate(stream, "the end", generation).status(),
      "GenerateOptions.stops: expected texts that are not empty");
  EXPECT_EQ(stream.length(), 0);
  kvass::ChatOptions chat;
  chat.chat_template = "{{ messages[-1]['content'] }}";
  chat.stops = {""};
  bad(kvass::Chat::open(*model_, chat, small()).status(), "ChatOptions.stops: expected texts that are not empty");
  bad(kvass::plan_caches({{1, 0, 0}}, {}).status(), "CacheShape.head_dim: expected between 1 and");
  kvass::ExportOptions file;
  file.model = *gguf_;
  file.out = kvass::testing::temporary_file("refused.kvp");
  file.stream.memory_limit = 1 << 20;
  bad(kvass::export_program(file).status(), "StreamOptions.memory_limit: expected nothing in an export");
}

// What an offset moves, it moves without sinks too: the layers that see everything.
TEST_F(Refusals, ARotaryOffsetNeedsNoSinks) {
  const auto row = [](int64_t offset) {
    StreamOptions options = small();
    options.rotary_offset = offset;
    options.kv = DType::f32;
    Stream stream = open(options);
    EXPECT_TRUE(stream.step(tokens(40)).ok());
    return logits(stream);
  };
  EXPECT_NE(row(0), row(100001));
}

TEST_F(Refusals, NameTheFieldOfTheCallersStruct) {
  const std::string out = kvass::testing::temporary_file("refused.kvp");
  bad(Model::load(*gguf_, {.threads = -1}).status(), "LoadOptions.threads: expected 0 (all usable CPUs) to 1024");
  bad(Model::load(*gguf_, {.check = true}).status(), "LoadOptions.check: ");
  bad(Model::load(*gguf_, {.pages = kvass::Pages::mapped}).status(), "LoadOptions.pages: ");
#ifndef KVASS_CUDA
  EXPECT_NE(Model::load(*gguf_, {.device = kvass::Device::rocm}).status().message().find("LoadOptions.device rocm: "),
            std::string::npos);
#endif
  kvass::ExportOptions file;
  file.model = *gguf_;
  file.out = out;
  file.weights = "zz";
  bad(kvass::export_program(file).status(), "ExportOptions.weights: ");
  file.weights.clear();
  file.sliding_window = 0;
  bad(kvass::export_program(file).status(), "ExportOptions.sliding_window: ");
  bad(opened([](auto& o) { o.context = kLargest; }), "StreamOptions.context: ");
  bad(opened([](auto& o) { o.chunk = kLargest; }), "StreamOptions.chunk: ");
  bad(opened([](auto& o) { o.rotary_offset = -1; }), "StreamOptions.rotary_offset: ");
  bad(opened([](auto& o) { o.checkpoints = -1; }), "StreamOptions.checkpoints: ");
  bad(opened([](auto& o) { o.logit_rows = kLargest; }), "StreamOptions.logit_rows: expected 1 to 4096");
  bad(opened([](auto& o) { o.logit_rows = 1 << 20; }), "StreamOptions.logit_rows: expected 1 to 4096");
  bad(kvass::plan_memory(*model_, {.logit_rows = 1 << 20}).status(), "StreamOptions.logit_rows: ");
  for (const kvass::AttentionSink sink :
       {kvass::AttentionSink{}, kvass::AttentionSink{-1, 5}, kvass::AttentionSink{kLargest, kLargest},
        kvass::AttentionSink{4, kLargest}}) {
    bad(opened([&](auto& o) { o.attention_sink = sink; }),
        "StreamOptions.attention_sink: expected 0 to 2^40 sink tokens");
  }
  bad(kvass::plan_caches({{-1, 64, 0}}, {}).status(), "CacheShape.kv_heads: ");
  bad(kvass::plan_caches({{1, 64, 0}}, {.sinks = true}).status(), "CacheOptions.sink_window: ");
  bad(kvass::resolve_caches({}, 0).status(), "trained_context: ");
  Stream full = open();
  ASSERT_TRUE(full.step(tokens(96)).ok());
  const Status status = full.step(tokens(1));
  EXPECT_EQ(status.code(), StatusCode::cache_full);
  EXPECT_NE(status.message().find("raise StreamOptions.context, or stream without end with "
                                  "StreamOptions.attention_sink or StreamOptions.endless"),
            std::string::npos)
      << status.message();
  kvass::ChatOptions chat;
  chat.chat_template = "{{ messages[-1]['content'] }}";
  chat.tools = "{";
  bad(kvass::Chat::open(*model_, chat, small()).status(), "ChatOptions.tools: expected a JSON array");
  chat.tools.clear();
  chat.variables = "[]";
  bad(kvass::Chat::open(*model_, chat, small()).status(), "ChatOptions.variables: expected a JSON object");
}

TEST_F(Refusals, SpeechNamesItsOwnFieldsToo) {
  const std::string folder = kvass::testing::write_tiny_speech_model("refusals_speech");
  const Model model = Model::load(folder, {.threads = 1}).value();
  const auto opened = [&](const kvass::TranscriberOptions& options) {
    return kvass::Transcriber::open(model, options).status();
  };
  bad(opened({.threads = -1}), "TranscriberOptions.threads: ");
  bad(opened({.kv = static_cast<DType>(9)}), "TranscriberOptions.kv: expected one of f32");
  bad(opened({.sequences = 0}), "TranscriberOptions.sequences: ");
  const Status limited = opened({.memory_limit = 1000});
  bad(limited, "TranscriberOptions.memory_limit: expected at most 1000 bytes");
  EXPECT_EQ(limited.message().find("context"), std::string::npos) << "speech has none to choose: " << limited.message();
  kvass::Transcriber transcriber = kvass::Transcriber::open(model, {.threads = 1}).value();
  const std::vector<int16_t> silence(16000);
  kvass::TranscribeOptions options;
  options.task = static_cast<kvass::SpeechTask>(9);
  bad(transcriber.transcribe(silence, options).status(),
      "TranscribeOptions.task: expected one of transcribe, translate, got the value 9");
  options = {};
  options.initial_prompt = "\xff";
  bad(transcriber.transcribe(silence, options).status(), "TranscribeOptions.initial_prompt: expected UTF-8");
  options = {};
  options.search.temperature = 0.7f;
  bad(transcriber.transcribe(silence, options).status(), "SearchOptions.temperature: expected 0");
  bad(transcriber.transcribe_file("").status(), "path: expected ");
  std::filesystem::remove_all(folder);
}

TEST_F(Refusals, AnEmptyPathIsNamed) {
  bad(Model::load("").status(), "path: expected a readable file, got an empty name");
  Stream stream = open();
  ASSERT_TRUE(stream.step(tokens(3)).ok());
  bad(stream.save(""), "path: expected ");
  bad(stream.restore(""), "path: expected ");
  bad(Stream::resume(*model_, "").status(), "path: expected ");
}

TEST_F(Refusals, ASystemTextThatWouldNotStayInSight) {
  kvass::ChatOptions options;
  options.chat_template = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}";
  options.max_tokens = 2;
  for (int i = 0; i < 100; ++i) options.system += "the end ";
  const Status status = kvass::Chat::open(*model_, options, small()).status();
  bad(status,
      "ChatOptions.system: expected at most 48 tokens before the first user's text, half of "
      "StreamOptions.context, so that they stay in sight for ever, got ");
  const size_t raise = status.message().find("raise StreamOptions.context to ");
  ASSERT_NE(raise, std::string::npos) << status.message();
  StreamOptions stream = small();
  stream.context = std::stoll(status.message().substr(raise + std::string("raise StreamOptions.context to ").size()));
  const kvass::Chat chat = kvass::Chat::open(*model_, options, stream).value();
  int64_t sinks = 0;
  for (const kvass::LayerCache& layer : chat.plan().caches.layers) sinks = std::max(sinks, layer.layout.sink());
  EXPECT_EQ(sinks, *stream.context / 2) << "all of it, as the message says";
  stream = small();
  stream.context.reset();
  stream.attention_sink = kvass::AttentionSink{4, 60};
  EXPECT_TRUE(kvass::Chat::open(*model_, options, stream).ok()) << "the caller says what stays";
  // A file that was planned with fewer sinks than the text takes.
  kvass::ExportOptions file;
  file.model = *gguf_;
  file.out = kvass::testing::temporary_file("sinks.kvp");
  file.stream = stream;
  ASSERT_TRUE(kvass::export_program(file).ok());
  const Model planned = Model::load(file.out, {.threads = 1}).value();
  bad(kvass::Chat::open(planned, options).status(), "at most 4 tokens before the first user's text, the sinks of the");
  std::remove(file.out.c_str());
}

TEST_F(Refusals, SnapshotsOfTheOtherKind) {
  kvass::ChatOptions options;
  options.chat_template = "{{ messages[-1]['content'] }}";
  options.max_tokens = 2;
  kvass::Chat chat = kvass::Chat::open(*model_, options, small()).value();
  ASSERT_TRUE(chat.answer("the end").ok());
  ASSERT_TRUE(chat.save(snapshot_).ok());
  bad(Stream::resume(*model_, snapshot_, {.threads = 1}).status(),
      "expected a text, as a stream saves it, got a conversation of a chat");
  StreamOptions same = small();
  same.attention_sink = kvass::AttentionSink{4, 92};
  Stream stream = open(same);
  bad(stream.restore(snapshot_), "expected a text, as a stream saves it, got a conversation of a chat");
  ASSERT_TRUE(stream.step(tokens(3)).ok());
  ASSERT_TRUE(stream.save(snapshot_).ok());
  bad(kvass::Chat::resume(*model_, snapshot_, {}, {.threads = 1}).status(),
      "expected a conversation, as a chat saves it, got a text of a stream");
  bad(Stream::resume(*model_, snapshot_, {.context = 1024}).status(),
      "StreamOptions.context: expected 96 as in the snapshot, got 1024");
}

TEST_F(Refusals, AStepThatNamesAStreamTwice) {
  Stream stream = open();
  const std::vector<int32_t> ids = tokens(1);
  const kvass::StreamTokens twice[] = {{&stream, ids}, {&stream, ids}};
  bad(Stream::step(twice), "streams of a step: expected each stream once, got one of them twice");
  Stream fork = stream.fork({.share_arena = true}).value();
  const kvass::StreamTokens more[] = {{&stream, ids}, {&fork, ids}};
  bad(Stream::step(more), "streams of a step: expected at most 1 (StreamOptions.sequences), got 2");
}

TEST_F(Refusals, AFullCacheCountsTheCallersTokens) {
  Stream stream = open();
  kvass::GenerateOptions options;
  options.ignore_eos = true;
  ASSERT_EQ(kvass::generate(stream, tokens(60), options).value().reason, kvass::StopReason::cache_full);
  EXPECT_EQ(stream.length(), 97) << "the last token was chosen, and has no room";
  const auto says = [](const Status& status, const std::string& message) {
    EXPECT_EQ(status.code(), StatusCode::cache_full);
    EXPECT_NE(status.message().find(message), std::string::npos) << status.message();
  };
  says(stream.step(tokens(1)), "tokens: expected at most 0 tokens (StreamOptions.context), got 1;");
  says(kvass::generate(stream, std::span<const int32_t>(), options).status(),
       "cache full: expected room for 1 token, got 0 left of StreamOptions.context 96");
  says(stream.logits().status(), "tokens that were chosen before: expected at most 0 tokens");
  EXPECT_TRUE(stream.rewind(96).ok());
  EXPECT_EQ(stream.length(), 96);
}

TEST_F(Refusals, ThePromptThatACancelCutShortIsCountedAsFarAsItRan) {
  const std::vector<int32_t> ids = tokens(80);
  Stream stream = open();
  std::atomic<bool> cancel{false};
  kvass::GenerateOptions options;
  options.max_tokens = 4;
  options.on_progress = [&](int64_t done) { cancel = done >= 32; };
  const kvass::GenerateResult result = kvass::generate(stream, ids, options, {}, &cancel).value();
  EXPECT_EQ(result.reason, kvass::StopReason::cancelled);
  EXPECT_EQ(result.prompt_tokens, 32);
  EXPECT_EQ(stream.length(), 80) << "the rest is the stream's";
  EXPECT_EQ(stream.logits(&cancel).status().code(), StatusCode::cancelled) << "which does not have to be waited for";
  EXPECT_EQ(stream.argmax(&cancel).status().code(), StatusCode::cancelled);
  EXPECT_EQ(stream.logprob(5, &cancel).status().code(), StatusCode::cancelled);
  Stream whole = open();
  ASSERT_TRUE(whole.step(ids).ok());
  EXPECT_EQ(logits(stream), logits(whole));
  Stream dropped = open();
  cancel = false;
  ASSERT_TRUE(kvass::generate(dropped, ids, options, {}, &cancel).ok());
  ASSERT_TRUE(dropped.rewind(32).ok());
  ASSERT_TRUE(whole.rewind(32).ok());
  ASSERT_TRUE(dropped.step(tokens(3, 5)).ok() && whole.step(tokens(3, 5)).ok());
  EXPECT_EQ(logits(dropped), logits(whole));
}

TEST_F(Refusals, TheLargestContextIsThatOfTheModelWhereNothingIsSaid) {
  const int64_t trained = model_->info().trained_context;
  ASSERT_GT(trained, 0);
  EXPECT_EQ(kvass::largest_context(*model_, SIZE_MAX).value(), trained);
  EXPECT_EQ(kvass::largest_context(*model_, SIZE_MAX, {.context = 64}).value(), 64);
  EXPECT_EQ(kvass::largest_context(*model_, SIZE_MAX, {.attention_sink = kvass::AttentionSink{4, 28}}).value(), 28);
}

TEST_F(Refusals, APlanThatCannotBeMadeSmallEnoughSaysWhatTakesTheRest) {
  StreamOptions options = small();
  options.memory_limit = 1000;
  const std::string message = Stream::open(*model_, options).status().message();
  EXPECT_NE(message.find("no context fits, one of 1 token takes "), std::string::npos) << message;
  EXPECT_NE(message.find("a smaller StreamOptions.chunk takes less"), std::string::npos) << message;
}

TEST(Layouts, WithoutSlotsNothingFits) {
  const kvass::Layout none;
  EXPECT_EQ(none.slot(3), -1);
  EXPECT_TRUE(none.write_runs(0, 5).empty());
  EXPECT_TRUE(none.read_runs(0, 5).empty());
  EXPECT_TRUE(none.filled_positions(5).empty());
  EXPECT_EQ(none.check_extend(0, 0, 1).code(), StatusCode::cache_full);
}

}  // namespace
