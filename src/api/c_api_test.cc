// The C API: what it gives is what the library gives, every mistake is a code, and threads do not meet.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "kvass/generate.h"
#include "kvass/kvass.h"
#include "test_c_api.h"

namespace kvass {
namespace {

using testing::some_tokens;
using testing::temporary_file;

using CApi = testing::CApi;

TEST_F(CApi, MethodsGiveTheSameBitsAndStreamsGoOnAfterSaving) {
  const std::vector<int32_t> tokens = some_tokens(12);
  kvass_sequence *one = sequence(), *other = sequence();
  ASSERT_EQ(kvass_run(one, "prefill", tokens.data(), 12), KVASS_OK) << kvass_message();
  for (int32_t token : tokens) ASSERT_EQ(kvass_run(other, "decode", &token, 1), KVASS_OK) << kvass_message();
  EXPECT_EQ(logits(one), logits(other));
  EXPECT_EQ(kvass_length(one), 12);
  ASSERT_EQ(kvass_save(one, snapshot_.c_str()), KVASS_OK) << kvass_message();
  kvass_sequence* third = sequence();
  kvass_free(model_);  // sequences keep what they need
  ASSERT_EQ(kvass_load(path_.c_str(), nullptr, &model_), KVASS_OK);
  ASSERT_EQ(kvass_resume(third, snapshot_.c_str()), KVASS_OK) << kvass_message();
  const int32_t next = 7;
  ASSERT_EQ(kvass_run(one, nullptr, &next, 1), KVASS_OK);
  ASSERT_EQ(kvass_run(third, nullptr, &next, 1), KVASS_OK);
  EXPECT_EQ(logits(one), logits(third));
  ASSERT_EQ(kvass_rewind(one, 12), KVASS_OK);
  const float* row = nullptr;
  EXPECT_EQ(kvass_logits(one, &row), KVASS_BAD_INPUT);
  ASSERT_EQ(kvass_run(one, nullptr, &next, 1), KVASS_OK);
  EXPECT_EQ(logits(one), logits(third));
  for (kvass_sequence* made : {one, other, third}) kvass_sequence_free(made);
}

TEST_F(CApi, TextBecomesTokensAndTokensText) {
  size_t count = 0;
  ASSERT_EQ(kvass_tokenize(model_, "the end", 7, nullptr, 0, &count), KVASS_OK) << "asks for the number";
  ASSERT_GT(count, 1u);
  int32_t one = -7;
  size_t wanted = 0;
  EXPECT_EQ(kvass_tokenize(model_, "the end", 7, &one, 1, &wanted), KVASS_BAD_INPUT);
  EXPECT_EQ(wanted, count);
  EXPECT_EQ(one, -7) << "nothing is written";
  std::vector<int32_t> tokens(count);
  ASSERT_EQ(kvass_tokenize(model_, "the end", 7, tokens.data(), count, &count), KVASS_OK);
  std::string text;
  for (int32_t token : tokens) {
    const char* bytes = nullptr;
    size_t size = 0;
    ASSERT_EQ(kvass_piece(model_, token, &bytes, &size), KVASS_OK);
    text.append(bytes, size);
  }
  EXPECT_NE(text.find("the end"), std::string::npos) << text;
}

TEST_F(CApi, SequencesOfDifferentThreadsDoNotMeet) {
  std::vector<std::vector<float>> results(4);
  std::vector<std::thread> threads;
  for (std::vector<float>& result : results) {
    threads.emplace_back([&] {
      kvass_sequence* own = sequence();
      for (int32_t token : some_tokens(40)) ASSERT_EQ(kvass_run(own, nullptr, &token, 1), KVASS_OK);
      result = logits(own);
      kvass_sequence_free(own);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::vector<float>& result : results) EXPECT_EQ(result, results[0]);
}

TEST_F(CApi, GenerateGivesWholeCharactersAndStops) {
  const std::vector<int32_t> prompt = some_tokens(6);
  kvass_sequence *first = sequence(), *second = sequence();
  kvass_sampling sampling{};
  sampling.struct_size = sizeof sampling;
  sampling.temperature = 1.2f;
  sampling.seed = 9;
  kvass_generate_options options{};
  options.struct_size = sizeof options;
  options.sampling = &sampling;
  options.ignore_eos = 1;
  options.max_tokens = 30;
  std::vector<int32_t> ids(30, -1);
  options.ids = ids.data();
  options.ids_capacity = ids.size();
  std::string text;
  const kvass_on_text append = [](void* user, const char* bytes, size_t count) {
    static_cast<std::string*>(user)->append(bytes, count);
    return 1;
  };
  kvass_generate_result result{};
  result.struct_size = sizeof result;
  ASSERT_EQ(kvass_generate(first, prompt.data(), prompt.size(), &options, append, &text, &result), KVASS_OK)
      << kvass_message();
  EXPECT_EQ(result.tokens, 30);
  EXPECT_EQ(result.prompt_tokens, 6);
  EXPECT_EQ(result.reason, KVASS_STOP_MAX_TOKENS);
  // The same from C++.
  LoadOptions load;
  load.threads = 1;
  const Model model = Model::load(path_, load).value();
  Stream stream = Stream::open(model).value();
  GenerateOptions same;
  same.sampling.temperature = 1.2f;
  same.sampling.seed = 9;
  same.ignore_eos = true;
  same.max_tokens = 30;
  const GenerateResult expected = generate(stream, prompt, same).value();
  EXPECT_EQ(ids, expected.ids);
  EXPECT_EQ(text, expected.text);

  const std::string stop = text.substr(text.size() / 2, 2);
  const char* stops[] = {stop.c_str()};
  options.stops = stops;
  options.stop_count = 1;
  std::string stopped;
  ASSERT_EQ(kvass_generate(second, prompt.data(), prompt.size(), &options, append, &stopped, &result), KVASS_OK);
  EXPECT_EQ(result.reason, KVASS_STOP_TEXT);
  EXPECT_EQ(stopped, text.substr(0, text.find(stop)));
  const kvass_on_text enough = [](void*, const char*, size_t) { return 0; };
  ASSERT_EQ(kvass_clear(second), KVASS_OK);
  options.stop_count = 0;
  ASSERT_EQ(kvass_generate(second, prompt.data(), prompt.size(), &options, enough, nullptr, &result), KVASS_OK);
  EXPECT_EQ(result.reason, KVASS_STOP_CANCELLED);
  const kvass_on_text cancels = [](void* user, const char*, size_t) {
    kvass_cancel(static_cast<kvass_sequence*>(user));
    return 1;
  };
  ASSERT_EQ(kvass_generate(second, nullptr, 0, &options, cancels, second, &result), KVASS_OK) << kvass_message();
  EXPECT_EQ(result.reason, KVASS_STOP_CANCELLED);
  options.max_tokens = -1;
  EXPECT_EQ(kvass_generate(second, nullptr, 0, &options, nullptr, nullptr, nullptr), KVASS_BAD_INPUT);
  for (kvass_sequence* made : {first, second}) kvass_sequence_free(made);
}

TEST_F(CApi, EveryStreamOptionIsHonouredOrRefusedByName) {
  const auto open = [&](const std::function<void(kvass_stream_options&)>& change, kvass_sequence** made) {
    kvass_stream_options options{};
    options.struct_size = sizeof options;
    change(options);
    return kvass_sequence_open(model_, &options, made);
  };
  const auto bytes = [&](const std::function<void(kvass_stream_options&)>& change) {
    kvass_sequence* made = nullptr;
    EXPECT_EQ(open(change, &made), KVASS_OK) << kvass_message();
    const size_t size = kvass_sequence_bytes(made);
    kvass_sequence_free(made);
    return size;
  };
  const auto refused = [&](const char* word, const std::function<void(kvass_stream_options&)>& change) {
    kvass_sequence* made = nullptr;
    EXPECT_NE(open(change, &made), KVASS_OK) << word;
    EXPECT_NE(std::strstr(kvass_message(), word), nullptr) << kvass_message();
    EXPECT_EQ(made, nullptr);
  };
  const size_t plain = bytes([](auto&) {});
  EXPECT_GT(bytes([](auto& o) { o.max_context_len = 1024; }), plain);
  EXPECT_GT(bytes([](auto& o) { o.input_len = 64; }), plain);
  EXPECT_GT(bytes([](auto& o) { o.kv = KVASS_KV_F32; }), plain);
  EXPECT_GT(bytes([](auto& o) {
              o.max_context_len = 1024;
              o.checkpoints = 2;
            }),
            bytes([](auto& o) { o.max_context_len = 1024; }));
  EXPECT_GT(bytes([](auto& o) { o.logit_rows = 64; }), plain);
  EXPECT_GT(bytes([](auto& o) { o.threads = 3; }), 0u);
  EXPECT_GT(bytes([](auto& o) { o.pin = 1; }), 0u);
  EXPECT_GT(bytes([](auto& o) { o.memory_limit = uint64_t{1} << 40; }), 0u);
  const auto endless = [&](const std::function<void(kvass_stream_options&)>& change) {
    kvass_sequence* made = nullptr;
    EXPECT_EQ(open(change, &made), KVASS_OK) << kvass_message();
    const std::vector<int32_t> tokens = some_tokens(200);
    EXPECT_EQ(kvass_append(made, tokens.data(), tokens.size()), KVASS_OK) << kvass_message();
    const std::vector<float> row = logits(made);
    kvass_sequence_free(made);
    return row;
  };
  const auto sinks = [](kvass_stream_options& o) {
    o.sink_tokens = 4;
    o.sink_window = 44;
  };
  const std::vector<float> in_cache = endless(sinks);
  EXPECT_EQ(endless([&](auto& o) {
              sinks(o);
              o.sink_positions = KVASS_SINKS_IN_CACHE;
            }),
            in_cache);
  for (const int32_t mode : {KVASS_SINKS_ORIGINAL, KVASS_SINKS_WRAPPED}) {
    EXPECT_NE(endless([&](auto& o) {
                sinks(o);
                o.sink_positions = mode;
              }),
              in_cache);
  }
  EXPECT_NE(endless([](auto& o) { o.endless = 1; }), endless([](auto& o) {
              o.endless = 1;
              o.endless_sink_tokens = 20;
            }));
  refused("context", [](auto& o) { o.max_context_len = -1; });
  refused("1 token, got -1", [](auto& o) { o.input_len = -1; });
  refused("sink_window", [](auto& o) { o.sink_tokens = 3; });
  refused("sink_positions", [](auto& o) { o.sink_positions = 9; });
  refused("kv", [](auto& o) { o.kv = 9; });
  refused("math", [](auto& o) { o.math = KVASS_MATH_F32; });
  refused("math", [](auto& o) { o.math = 9; });
  refused("threads", [](auto& o) { o.threads = -1; });
  refused("checkpoints", [](auto& o) { o.checkpoints = -1; });
  refused("sequences", [](auto& o) { o.sequences = 2; });
  refused("logit_rows", [](auto& o) { o.logit_rows = -1; });
  refused("limit", [](auto& o) { o.memory_limit = 1000; });
  refused("struct_size", [](auto& o) { o.struct_size = 3; });
  // A caller that knows the first fields alone.
  kvass_sequence* made = nullptr;
  EXPECT_EQ(open(
                [](auto& o) {
                  o.struct_size = offsetof(kvass_stream_options, kv);
                  o.kv = 9;
                },
                &made),
            KVASS_OK);
  kvass_sequence_free(made);
}

TEST_F(CApi, GroupsStepTogetherAndStreamsForkAndRewind) {
  kvass_stream_options options{};
  options.struct_size = sizeof options;
  options.sequences = 2;
  options.checkpoints = 1;
  kvass_sequence* pair[2] = {};
  ASSERT_EQ(kvass_sequence_open_group(model_, &options, pair), KVASS_OK) << kvass_message();
  const std::vector<int32_t> tokens = some_tokens(9);
  const kvass_part parts[] = {{pair[0], tokens.data(), 9}, {pair[1], tokens.data(), 1}};
  ASSERT_EQ(kvass_step(parts, 2), KVASS_OK) << kvass_message();
  kvass_sequence* alone = sequence();
  ASSERT_EQ(kvass_append(alone, tokens.data(), 9), KVASS_OK);
  const std::vector<float> row = logits(alone);
  EXPECT_EQ(logits(pair[0]), row);
  EXPECT_EQ(kvass_length(pair[1]), 1);
  ASSERT_EQ(kvass_checkpoint(pair[0]), KVASS_OK);
  EXPECT_EQ(kvass_checkpoint(alone), KVASS_BAD_INPUT);
  kvass_sequence* fork = nullptr;
  ASSERT_EQ(kvass_fork(pair[0], 0, &fork), KVASS_OK) << kvass_message();
  EXPECT_EQ(logits(fork), row);
  int32_t largest = -1;
  ASSERT_EQ(kvass_argmax(fork, &largest), KVASS_OK);
  EXPECT_EQ(row[static_cast<size_t>(largest)], *std::max_element(row.begin(), row.end()));
  ASSERT_EQ(kvass_append(pair[0], tokens.data(), 9), KVASS_OK);
  ASSERT_EQ(kvass_rewind(pair[0], 9), KVASS_OK) << kvass_message();
  EXPECT_LE(kvass_rewind_floor(pair[0]), 9);
  ASSERT_EQ(kvass_clear(pair[0]), KVASS_OK);
  double nll[8] = {};
  ASSERT_EQ(kvass_score(pair[0], tokens.data(), 9, nll), KVASS_OK) << kvass_message();
  EXPECT_GT(nll[7], 0.0);
  EXPECT_EQ(logits(pair[0]), row);
  EXPECT_EQ(kvass_score(pair[0], tokens.data(), 1, nll), KVASS_BAD_INPUT);
  EXPECT_EQ(kvass_append(alone, some_tokens(96).data(), 96), KVASS_CACHE_FULL);
  for (kvass_sequence* made : {pair[0], pair[1], alone, fork}) kvass_sequence_free(made);
}

TEST_F(CApi, PlansAreWhatIsMapped) {
  kvass_memory_plan plan{};
  plan.struct_size = sizeof plan;
  std::vector<kvass_layer_plan> layers(16);
  for (kvass_layer_plan& layer : layers) layer.struct_size = sizeof layer;
  kvass_load_options load{};
  load.struct_size = sizeof load;
  load.threads = 1;
  ASSERT_EQ(kvass_plan(path_.c_str(), &load, nullptr, &plan, layers.data(), layers.size()), KVASS_OK)
      << kvass_message();
  EXPECT_EQ(plan.layers, 7);
  EXPECT_EQ(plan.weight_bytes, kvass_weight_bytes(model_));
  kvass_sequence* one = sequence();
  EXPECT_EQ(plan.cache_bytes + plan.arena_bytes, kvass_sequence_bytes(one));
  uint64_t bytes = 0;
  for (int64_t i = 0; i < plan.layers; ++i) bytes += layers[static_cast<size_t>(i)].bytes;
  EXPECT_EQ(bytes, plan.cache_bytes);
  EXPECT_EQ(layers[0].window, 16);
  EXPECT_EQ(layers[2].endless, 0);
  EXPECT_EQ(kvass_plan(path_.c_str(), nullptr, nullptr, &plan, layers.data(), 3), KVASS_BAD_INPUT);
  kvass_sequence_free(one);
}

TEST_F(CApi, ConversationsGoOnAfterSaving) {
  kvass_chat_options options{};
  options.struct_size = sizeof options;
  const char* const chat_ml =
      "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
      "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
  options.chat_template = chat_ml;
  options.system_text = "be short";
  options.max_tokens = 5;
  kvass_stream_options wide{};  // twice what the system text takes
  wide.struct_size = sizeof wide;
  wide.max_context_len = 160;
  kvass_chat* chat = nullptr;
  ASSERT_EQ(kvass_chat_open(model_, &options, &wide, &chat), KVASS_OK) << kvass_message();
  std::string said, again;
  const kvass_on_text append = [](void* user, const char* bytes, size_t count) {
    static_cast<std::string*>(user)->append(bytes, count);
    return 1;
  };
  ASSERT_EQ(kvass_chat_answer(chat, "hello", 5, nullptr, nullptr, nullptr), KVASS_OK) << kvass_message();
  ASSERT_EQ(kvass_chat_save(chat, snapshot_.c_str()), KVASS_OK);
  kvass_chat_options later{};
  later.struct_size = sizeof later;
  later.max_tokens = 5;
  kvass_chat* resumed = nullptr;
  ASSERT_EQ(kvass_chat_resume(model_, snapshot_.c_str(), &later, nullptr, &resumed), KVASS_OK) << kvass_message();
  EXPECT_EQ(kvass_chat_turns(resumed), 1);
  ASSERT_EQ(kvass_chat_answer(chat, "and", 3, append, &said, nullptr), KVASS_OK);
  ASSERT_EQ(kvass_chat_answer(resumed, "and", 3, append, &again, nullptr), KVASS_OK);
  EXPECT_EQ(said, again);
  EXPECT_EQ(kvass_chat_length(chat), kvass_chat_length(resumed));
  ASSERT_EQ(kvass_chat_clear(chat), KVASS_OK);
  EXPECT_EQ(kvass_chat_turns(chat), 0);
  options.chat_template = "{% no such";
  kvass_chat* none = nullptr;
  EXPECT_EQ(kvass_chat_open(model_, &options, nullptr, &none), KVASS_BAD_INPUT);
  options.chat_template = chat_ml;
  options.tools = "[";
  EXPECT_EQ(kvass_chat_open(model_, &options, nullptr, &none), KVASS_BAD_INPUT);
  options.tools = nullptr;
  options.variables = "[]";
  EXPECT_EQ(kvass_chat_open(model_, &options, nullptr, &none), KVASS_BAD_INPUT);
  options.variables = nullptr;
  options.bounded = 1;
  kvass_stream_options stream{};
  stream.struct_size = sizeof stream;
  stream.endless = 1;
  EXPECT_EQ(kvass_chat_open(model_, &options, &stream, &none), KVASS_BAD_INPUT);
  kvass_chat_free(chat);
  kvass_chat_free(resumed);
}

TEST(CSpeech, ATranscriptIsTheCommands) {
  const std::string path = testing::write_tiny_speech_model("c_speech");
  const std::string audio = testing::write_speech("c_speech.wav", 2.0);
  kvass_load_options load{};
  load.struct_size = sizeof load;
  load.threads = 1;
  kvass_model* model = nullptr;
  ASSERT_EQ(kvass_load(path.c_str(), &load, &model), KVASS_OK) << kvass_message();
  kvass_sequence* none = nullptr;
  EXPECT_EQ(kvass_sequence_new(model, &none), KVASS_BAD_INPUT);
  kvass_transcriber* transcriber = nullptr;
  ASSERT_EQ(kvass_transcriber_open(model, nullptr, &transcriber), KVASS_OK) << kvass_message();
  kvass_transcribe_options options{};
  options.struct_size = sizeof options;
  options.language = "English";
  options.seed = 4;
  int segments = 0;
  const kvass_on_segment counts = [](void* user, const kvass_segment* segment) {
    ++*static_cast<int*>(user);
    return segment->end >= segment->start ? 1 : 0;
  };
  ASSERT_EQ(kvass_transcribe_file(transcriber, audio.c_str(), &options, counts, &segments), KVASS_OK)
      << kvass_message();
  const char* text = nullptr;
  size_t bytes = 0;
  ASSERT_EQ(kvass_transcript(transcriber, "json", &text, &bytes), KVASS_OK);
  EXPECT_EQ(std::string(text, bytes), testing::transcribe_command(path, audio, "--language en --seed 4 -f json"));
  EXPECT_GT(segments, 0);
  EXPECT_EQ(kvass_transcript(transcriber, "doc", &text, &bytes), KVASS_BAD_INPUT);
  options.beam_size = 50;
  EXPECT_EQ(kvass_transcribe_file(transcriber, audio.c_str(), &options, nullptr, nullptr), KVASS_BAD_INPUT);
  options.beam_size = 0;
  options.language = "Klingon";
  EXPECT_EQ(kvass_transcribe_file(transcriber, audio.c_str(), &options, nullptr, nullptr), KVASS_BAD_INPUT);
  const std::vector<int16_t> silence(16000, 0);
  ASSERT_EQ(kvass_transcribe(transcriber, silence.data(), silence.size(), nullptr, nullptr, nullptr), KVASS_OK);
  kvass_transcriber_free(transcriber);
  kvass_free(model);
  std::filesystem::remove_all(path);
  std::filesystem::remove(audio);
}

}  // namespace
}  // namespace kvass
