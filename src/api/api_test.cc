// The public C++ API from outside: nothing but kvass/ headers, and a file of a tiny model. What it gives is what the
// command line gives.
#include "test_api.h"

namespace {

using kvass::GenerateOptions;
using kvass::Model;
using kvass::StatusCode;
using kvass::Stream;
using kvass::StreamOptions;

using kvass::testing::Api;

TEST_F(Api, AnOpenFileSaysWhatItIsBeforeAnythingIsLoaded) {
  const Model file = Model::open(*gguf_).value();
  EXPECT_FALSE(file.loaded());
  EXPECT_EQ(file.info().format, "GGUF");
  EXPECT_EQ(file.info().family, "gemma3");
  EXPECT_EQ(file.info().vocabulary, 300);
  EXPECT_EQ(file.info().trained_context, 32768);
  const kvass::MemoryPlan plan = kvass::plan_memory(file, small()).value();
  EXPECT_EQ(plan.caches.layers.size(), 7u);
  const Model loaded = file.load({.threads = 1}).value();
  EXPECT_TRUE(loaded.loaded());
  EXPECT_EQ(plan.weight_bytes, loaded.weight_bytes());
  const Stream stream = Stream::open(loaded, small()).value();
  EXPECT_EQ(stream.bytes(), plan.arena_bytes + plan.cache_bytes());
  EXPECT_EQ(stream.plan().total_bytes(), plan.total_bytes());
  refused(Stream::open(file, small()).status(), StatusCode::bad_input, "loaded");
  EXPECT_TRUE(file.load({.threads = 1}).ok()) << "a second time, from the file again";
}

TEST_F(Api, ALimitIsHeldAndSaysWhatFits) {
  StreamOptions options = small();
  const size_t bytes = kvass::plan_memory(*model_, options).value().total_bytes();
  options.memory_limit = bytes;
  EXPECT_TRUE(Stream::open(*model_, options).ok());
  options.context = 4096;
  const kvass::Status status = Stream::open(*model_, options).status();
  EXPECT_FALSE(status.ok());
  const int64_t fits = kvass::largest_context(*model_, bytes, options).value();
  EXPECT_NE(status.message().find(std::to_string(fits)), std::string::npos) << status.message();
  options.context = fits;
  EXPECT_TRUE(Stream::open(*model_, options).ok());
}

TEST_F(Api, TextBecomesTokensAndTextAgain) {
  const std::string text = "the end is the beginning";
  const std::vector<int32_t> ids = model_->encode(text, {.bos = false}).value();
  EXPECT_EQ(model_->decode(ids).value(), text);
  const std::vector<int32_t> begun = model_->encode(text).value();
  EXPECT_EQ(begun.front(), model_->bos());
  kvass::TextDecoder decoder = kvass::TextDecoder::create(*model_).value();
  std::string pieces;
  for (const int32_t id : ids) pieces += decoder.push(id).value();
  EXPECT_NE((pieces + decoder.finish().value()).find(text), std::string::npos) << pieces;
  refused(model_->decode(std::vector<int32_t>{300}).status(), StatusCode::bad_input, "299");
}

TEST_F(Api, StepsInAnyChunksGiveTheSameBits) {
  Stream whole = open(), single = open();
  const std::vector<int32_t> ids = tokens(40);
  ASSERT_TRUE(whole.step(ids).ok());
  for (const int32_t id : ids) ASSERT_TRUE(single.step(std::span(&id, 1)).ok());
  EXPECT_EQ(whole.length(), 40);
  const std::vector<float> row = logits(whole);
  EXPECT_EQ(row, logits(single));
  const auto largest = std::max_element(row.begin(), row.end()) - row.begin();
  EXPECT_EQ(whole.argmax().value(), largest);
  EXPECT_EQ(kvass::top_tokens(row, 3).value()[0].id, largest);
  const double logprob = whole.logprob(11).value();
  std::vector<int32_t> scored = ids;
  scored.push_back(11);
  Stream scores = open();
  EXPECT_EQ(-kvass::score(scores, scored).value().nll.back(), logprob);
}

TEST_F(Api, ForkRewindCheckpointSaveAndResumeGoOnWithTheSameBits) {
  StreamOptions options = small();
  options.context.reset();
  options.attention_sink = kvass::AttentionSink{4, 28};
  options.checkpoints = 2;
  Stream stream = open(options);
  ASSERT_TRUE(stream.endless());
  ASSERT_TRUE(stream.step(tokens(100)).ok());
  const std::vector<float> at_100 = logits(stream);
  ASSERT_TRUE(stream.checkpoint().ok());
  EXPECT_EQ(stream.checkpoints(), std::vector<int64_t>{100});
  ASSERT_TRUE(stream.save(snapshot_).ok());
  EXPECT_EQ(stream.checkpoints(), std::vector<int64_t>{100}) << "saving changes nothing";
  EXPECT_EQ(logits(stream), at_100);
  EXPECT_EQ(stream.length(), 100);

  for (const bool share : {false, true}) {
    Stream fork = stream.fork({.share_arena = share}).value();
    EXPECT_EQ(fork.length(), 100);
    EXPECT_EQ(logits(fork), at_100);
    Stream other = stream.fork({.share_arena = share}).value();
    ASSERT_TRUE(other.step(tokens(1, 3)).ok());
    EXPECT_EQ(logits(fork), at_100) << "the fork's own, whoever stepped since";
  }
  Stream resumed = Stream::resume(*model_, snapshot_, {.threads = 1}).value();
  EXPECT_EQ(resumed.length(), 100);
  EXPECT_EQ(resumed.options().attention_sink, options.attention_sink);
  EXPECT_EQ(logits(resumed), at_100);

  ASSERT_TRUE(stream.step(tokens(300, 9)).ok());
  const std::vector<float> at_400 = logits(stream);
  EXPECT_NE(at_400, at_100);
  ASSERT_TRUE(resumed.step(tokens(300, 9)).ok());
  EXPECT_EQ(logits(resumed), at_400);
  refused(resumed.rewind(100), StatusCode::bad_input, "rewind");
  EXPECT_EQ(resumed.length(), 400);
  ASSERT_TRUE(stream.rewind(100).ok()) << "by the checkpoint";
  ASSERT_TRUE(stream.step(tokens(300, 9)).ok());
  EXPECT_EQ(logits(stream), at_400);
  const int64_t floor = stream.rewind_floor();
  EXPECT_LT(floor, 400);
  EXPECT_TRUE(stream.rewind(floor).ok());
  ASSERT_TRUE(stream.clear().ok());
  EXPECT_EQ(stream.length(), 0);
  ASSERT_TRUE(stream.restore(snapshot_).ok());
  EXPECT_EQ(logits(stream), at_100);
}

TEST_F(Api, StreamsOfAGroupStepTogetherAndAlone) {
  StreamOptions options = small();
  options.sequences = 3;
  std::vector<Stream> group = Stream::open_group(*model_, options).value();
  ASSERT_EQ(group.size(), 3u);
  std::vector<std::vector<float>> alone;
  for (size_t i = 0; i < 3; ++i) {
    Stream one = open();
    ASSERT_TRUE(one.step(tokens(5 + i, static_cast<int32_t>(i))).ok());
    alone.push_back(logits(one));
  }
  std::vector<std::vector<int32_t>> ids;
  std::vector<kvass::StreamTokens> parts;
  for (size_t i = 0; i < 3; ++i) ids.push_back(tokens(5 + i, static_cast<int32_t>(i)));
  for (size_t i = 0; i < 3; ++i) parts.push_back({&group[i], ids[i]});
  ASSERT_TRUE(Stream::step(parts).ok());
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(logits(group[i]), alone[i]) << i;
  ASSERT_TRUE(group[1].step(tokens(2)).ok());
  EXPECT_EQ(logits(group[0]), alone[0]) << "runs its last token again, with the same bits";
  Stream other = open();
  const std::vector<int32_t> one = tokens(1);
  const kvass::StreamTokens apart[] = {{&group[0], one}, {&other, one}};
  refused(Stream::step(apart), StatusCode::bad_input, "one group");
  const kvass::StreamTokens twice[] = {{&group[0], one}, {&group[0], one}};
  EXPECT_EQ(Stream::step(twice).code(), StatusCode::bad_input);
  EXPECT_EQ(group[0].length(), 5);
}

TEST_F(Api, GenerateIsTheCommandsResult) {
  for (const float temperature : {0.0f, 0.9f}) {
    const std::string flags = temperature > 0.0f ? "--temp 0.9 --seed 3" : "";
    const kvass::testing::CommandResult command =
        kvass::testing::run_command(*gguf_, "the end", "--context 96 --chunk 16 -n 30 --ignore-eos " + flags);
    GenerateOptions options;
    options.max_tokens = 30;
    options.ignore_eos = true;
    options.sampling.temperature = temperature;
    options.sampling.seed = 3;
    Stream stream = open();
    std::string shown;
    const kvass::GenerateResult result = kvass::generate(stream, "the end", options, [&](std::string_view text) {
                                           shown += text;
                                           return true;
                                         }).value();
    EXPECT_EQ(result.ids, command.ids);
    EXPECT_EQ(result.text, shown);
    EXPECT_EQ(kvass::testing::as_json_text(result.text), command.text);
    EXPECT_EQ(result.reason, kvass::StopReason::max_tokens);

    Stream pulled = open();
    kvass::Generation generation = kvass::Generation::begin(pulled, model_->encode("the end").value(), options).value();
    std::string text;
    std::vector<int32_t> ids;
    while (generation.next().value()) {
      ids.push_back(generation.token());
      text += generation.text();
    }
    EXPECT_EQ(generation.end().value().ids, command.ids);
    EXPECT_EQ(ids, command.ids);
    EXPECT_EQ(text + generation.text(), result.text);
    EXPECT_EQ(pulled.length(), stream.length());
  }
}

TEST_F(Api, AGenerationGoesOnWhereTheLastOneEnded) {
  GenerateOptions options;
  options.ignore_eos = true;
  options.sampling.temperature = 0.8f;
  options.sampling.repeat_penalty = 1.2f;
  options.max_tokens = 20;
  Stream whole = open(), parts = open();
  const std::vector<int32_t> ids = kvass::generate(whole, "the end", options).value().ids;
  options.max_tokens = 12;
  std::vector<int32_t> first = kvass::generate(parts, "the end", options).value().ids;
  ASSERT_TRUE(parts.save(snapshot_).ok());
  options.max_tokens = 8;
  Stream resumed = Stream::resume(*model_, snapshot_, {.threads = 1}).value();
  GenerateOptions saved = kvass::resumed_options(resumed).value();
  EXPECT_EQ(saved.sampling.temperature, 0.8f);
  EXPECT_TRUE(saved.ignore_eos);
  saved.max_tokens = 8;
  for (Stream* stream : {&parts, &resumed}) {
    std::vector<int32_t> all = first;
    const std::vector<int32_t> rest =
        kvass::generate(*stream, std::span<const int32_t>(), stream == &parts ? options : saved).value().ids;
    all.insert(all.end(), rest.begin(), rest.end());
    EXPECT_EQ(all, ids);
  }
}

TEST_F(Api, LeavingAGenerationLeavesTheStreamAtItsLastToken) {
  Stream stream = open();
  {
    kvass::Generation generation = kvass::Generation::begin(stream, tokens(5)).value();
    ASSERT_TRUE(generation.next().value());
    ASSERT_TRUE(generation.next().value());
    Stream moved = std::move(stream);
    stream = std::move(moved);
  }
  EXPECT_EQ(stream.length(), 7);
  kvass::Generation generation = kvass::Generation::begin(stream, {}).value();
  ASSERT_TRUE(stream.rewind(3).ok());
  refused(generation.next().status(), StatusCode::bad_input, "nobody else");
  EXPECT_EQ(stream.length(), 3);
}

TEST_F(Api, WhatACallbackThrowsIsAnErrorAndTheStreamGoesOn) {
  Stream stream = open();
  GenerateOptions options;
  options.ignore_eos = true;
  options.max_tokens = 50;
  const kvass::Status status = kvass::generate(stream, tokens(5), options, [](std::string_view) -> bool {
                                 throw std::runtime_error("mine");
                               }).status();
  refused(status, StatusCode::internal, "mine");
  EXPECT_GE(stream.length(), 6);
  EXPECT_TRUE(stream.logits().ok());
  const std::atomic<bool> cancel{true};
  Stream other = open();
  EXPECT_EQ(kvass::generate(other, tokens(5), options, {}, &cancel).value().reason, kvass::StopReason::cancelled);
  EXPECT_EQ(other.step(tokens(5), &cancel).code(), StatusCode::cancelled);
}

TEST_F(Api, ABatchGivesWhatEachPromptGivesAlone) {
  StreamOptions streams = small();
  streams.sequences = 3;
  GenerateOptions options;
  options.max_tokens = 12;
  options.ignore_eos = true;
  options.sampling.temperature = 0.7f;
  options.sampling.seed = 40;
  std::vector<std::vector<int32_t>> prompts;
  for (size_t i = 0; i < 7; ++i) prompts.push_back(tokens(3 + 5 * i, static_cast<int32_t>(i)));
  size_t next = 0;
  const kvass::BatchSummary summary =
      kvass::generate_batch(*model_, prompts, streams, options, [&](size_t i, const kvass::GenerateResult& result) {
        EXPECT_EQ(i, next++);
        GenerateOptions own = options;
        own.sampling.seed += i;
        Stream alone = open();
        EXPECT_EQ(result.ids, kvass::generate(alone, prompts[i], own).value().ids) << i;
        return true;
      }).value();
  EXPECT_EQ(summary.complete, 7);
  EXPECT_EQ(next, 7u);
}

TEST_F(Api, ScoresAreOneTextInAnyChunks) {
  const std::vector<int32_t> ids = tokens(60);
  Stream stream = open();
  int64_t done = 0;
  kvass::ScoreOptions options;
  options.top = 4;
  options.on_progress = [&](int64_t tokens) { done = tokens; };
  const kvass::ScoreResult result = kvass::score(stream, ids, options).value();
  EXPECT_EQ(done, 60);
  ASSERT_EQ(result.nll.size(), 59u);
  EXPECT_EQ(result.top.size(), 4u);
  EXPECT_EQ(result.top[0].first, stream.argmax().value());
  StreamOptions wide = small();
  wide.logit_rows = 16;
  wide.chunk = 7;
  Stream other = open(wide);
  EXPECT_EQ(kvass::score(other, ids).value().nll, result.nll);
  const std::vector<kvass::ScoreBucket> buckets = kvass::score_buckets(result, 25);
  ASSERT_EQ(buckets.size(), 3u);
  EXPECT_EQ(buckets[2].end, 59);
  EXPECT_EQ(buckets[0].nll, result.mean_nll(0, 25));
  EXPECT_GT(result.perplexity(), 1.0);
  refused(kvass::score(other, tokens(60)).status(), StatusCode::cache_full, "expected at most 36 tokens");
}

TEST_F(Api, ChatsKeepTheirHistoryAndGoOnAfterSaving) {
  kvass::ChatOptions options;
  options.system = "be short";
  options.chat_template =
      "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
      "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
  options.max_tokens = 6;
  StreamOptions streams = small();
  streams.context = 160;  // twice what the system text takes
  kvass::Chat chat = kvass::Chat::open(*model_, options, streams).value();
  EXPECT_EQ(chat.chat_template(), options.chat_template);
  const std::vector<int32_t> opening = chat.prompt("hello").value();
  ASSERT_TRUE(chat.answer("hello").ok());
  EXPECT_EQ(chat.turns(), 1);
  EXPECT_GT(chat.length(), static_cast<int64_t>(opening.size()));
  ASSERT_TRUE(chat.save(snapshot_).ok());
  kvass::ChatOptions later;
  later.max_tokens = 6;
  kvass::Chat resumed = kvass::Chat::resume(*model_, snapshot_, later, {.threads = 1}).value();
  EXPECT_EQ(resumed.turns(), 1);
  for (int turn = 0; turn < 8; ++turn) {  // past the context
    EXPECT_EQ(resumed.answer("and then").value().ids, chat.answer("and then").value().ids) << turn;
  }
  EXPECT_GT(chat.length(), 160);
  ASSERT_TRUE(chat.clear().ok());
  EXPECT_EQ(chat.turns(), 0);
  EXPECT_EQ(chat.prompt("hello").value(), opening);
  refused(kvass::Chat::resume(*model_, snapshot_, options).status(), StatusCode::bad_input, "ChatOptions.system");
  options.endless = false;
  streams.endless = true;
  refused(kvass::Chat::open(*model_, options, streams).status(), StatusCode::bad_input, "ChatOptions.endless");
}

TEST_F(Api, HeldTextComesWithWhatGoesOn) {
  GenerateOptions options;
  options.ignore_eos = true;
  options.max_tokens = 24;
  Stream whole = open();
  const std::string text = kvass::generate(whole, "the end", options).value().text;
  options.hold_text = true;
  options.max_tokens = 1;
  // A stop text that begins as the text does, and never ends: what may be its beginning is held back.
  options.stops = {text.substr(0, 12) + "\x01"};
  Stream parts = open();
  std::string together = kvass::generate(parts, "the end", options).value().text;
  for (int i = 1; i < 23; ++i) together += kvass::generate(parts, std::span<const int32_t>(), options).value().text;
  options.hold_text = false;
  together += kvass::generate(parts, std::span<const int32_t>(), options).value().text;
  EXPECT_EQ(together, text);
}

TEST_F(Api, AFullCacheSaysSoAndLosesNothing) {
  Stream stream = open();
  refused(stream.step(tokens(97)), StatusCode::cache_full, "96");
  EXPECT_EQ(stream.length(), 0);
  GenerateOptions options;
  options.ignore_eos = true;
  const kvass::GenerateResult result = kvass::generate(stream, tokens(90), options).value();
  EXPECT_EQ(result.reason, kvass::StopReason::cache_full);
  EXPECT_EQ(result.status.code(), StatusCode::cache_full);
  Stream full = open();
  EXPECT_EQ(kvass::generate(full, tokens(100), options).status().code(), StatusCode::cache_full);
  EXPECT_EQ(full.length(), 0);
}

TEST_F(Api, ErrorsHaveCodesAndChangeNothing) {
  EXPECT_NE(Model::load("/no/such/model.gguf").status().message().find("/no/such/model.gguf"), std::string::npos);
  EXPECT_EQ(Model().load().status().code(), StatusCode::bad_input);
  EXPECT_FALSE(Model().encode("x").ok());
  Stream stream = open();
  EXPECT_EQ(stream.step(std::span<const int32_t>()).code(), StatusCode::bad_input);
  EXPECT_EQ(stream.step(std::vector<int32_t>{5, 300}).code(), StatusCode::bad_input);
  EXPECT_EQ(stream.logits().status().code(), StatusCode::bad_input);
  EXPECT_EQ(stream.checkpoint().code(), StatusCode::bad_input);
  EXPECT_EQ(stream.rewind(1).code(), StatusCode::bad_input);
  EXPECT_EQ(stream.restore(*gguf_).code(), StatusCode::bad_input);
  EXPECT_FALSE(stream.save("/no/such/folder/s").ok());
  EXPECT_EQ(kvass::generate(stream, std::span<const int32_t>()).status().code(), StatusCode::bad_input);
  EXPECT_EQ(stream.length(), 0);
  Stream moved = std::move(stream);
  EXPECT_EQ(stream.step(tokens(1)).code(), StatusCode::bad_input);  // NOLINT: what a moved-from one says
  EXPECT_EQ(stream.length(), 0);
  EXPECT_EQ(stream.fork().status().code(), StatusCode::bad_input);
  EXPECT_TRUE(moved.step(tokens(1)).ok());
}

TEST_F(Api, ASecondCallerIsToldToWait) {
  Stream stream = open();
  kvass::Status second;
  GenerateOptions options;
  options.ignore_eos = true;
  options.max_tokens = 2;
  ASSERT_TRUE(kvass::generate(stream, tokens(3), options, [&](std::string_view) {
                std::thread([&] { second = stream.step(tokens(1)); }).join();
                EXPECT_EQ(stream.fork().status().code(), StatusCode::busy);
                EXPECT_GE(stream.length(), 0) << "may be asked at any time";
                return true;
              }).ok());
  EXPECT_EQ(second.code(), StatusCode::busy) << second.message();
  EXPECT_TRUE(stream.step(tokens(1)).ok());
  std::vector<std::vector<float>> rows(3);
  std::vector<std::thread> threads;
  for (std::vector<float>& row : rows) {
    threads.emplace_back([&] {
      Stream own = open();
      ASSERT_TRUE(own.step(tokens(30)).ok());
      row = logits(own);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(rows[0], rows[1]);
  EXPECT_EQ(rows[0], rows[2]);
}

TEST_F(Api, ASamplerOfOnesOwnChoosesWhatGenerateChooses) {
  GenerateOptions options;
  options.ignore_eos = true;
  options.max_tokens = 10;
  options.sampling.temperature = 0.9f;
  options.sampling.repeat_penalty = 1.3f;
  Stream generated = open(), stepped = open();
  const std::vector<int32_t> prompt = tokens(6);
  const std::vector<int32_t> ids = kvass::generate(generated, prompt, options).value().ids;
  kvass::TokenSampler sampler = kvass::TokenSampler::create(*model_, options.sampling).value();
  ASSERT_TRUE(sampler.accept(prompt).ok());
  ASSERT_TRUE(stepped.step(prompt).ok());
  for (const int32_t id : ids) {
    const int32_t token = sampler.sample(stepped.logits().value(), stepped.length()).value();
    EXPECT_EQ(token, id);
    ASSERT_TRUE(sampler.accept(std::span(&token, 1)).ok());
    ASSERT_TRUE(stepped.step(std::span(&token, 1)).ok());
  }
  EXPECT_EQ(sampler.accept(std::vector<int32_t>{-1}).code(), StatusCode::bad_input);
  EXPECT_EQ(sampler.sample(std::vector<float>(3), 0).status().code(), StatusCode::bad_input);
}

}  // namespace
