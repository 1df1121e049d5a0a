// Every field of every option struct of the public C++ API: what is asked for is honoured, or refused by name.
#include "test_api.h"

namespace {

using kvass::GenerateOptions;
using kvass::Model;
using kvass::StatusCode;
using kvass::Stream;
using kvass::StreamOptions;

// A suite of its own in the report.
class Options : public kvass::testing::Api {};

TEST_F(Options, EveryStreamOptionIsHonouredOrRefusedByName) {
  const auto bytes = [](const Stream& stream) { return stream.plan().cache_bytes(); };
  const size_t plain = bytes(open());
  const auto with = [](const std::function<void(StreamOptions&)>& change) {
    StreamOptions options = small();
    change(options);
    return Stream::open(*model_, options);
  };
  EXPECT_GT(bytes(with([](auto& o) { o.context = 512; }).value()), plain);
  EXPECT_TRUE(with([](auto& o) { o.endless = true; }).value().endless());
  const Stream sinks = with([](auto& o) {
                         o.endless = true;
                         o.endless_sink_tokens = 9;
                       }).value();
  EXPECT_EQ(sinks.options().attention_sink, (kvass::AttentionSink{9, 87}));
  EXPECT_GT(with([](auto& o) { o.chunk = 64; }).value().plan().arena_bytes, open().plan().arena_bytes);
  EXPECT_GT(bytes(with([](auto& o) { o.kv = kvass::DType::f32; }).value()), plain);
  const auto checkpoints = [&](int64_t places) {  // rings need them
    return bytes(with([&](auto& o) {
                   o.context = 512;
                   o.checkpoints = places;
                 }).value());
  };
  EXPECT_GT(checkpoints(3), checkpoints(0));
  EXPECT_GT(with([](auto& o) { o.logit_rows = 64; }).value().plan().arena_bytes, open().plan().arena_bytes);
  EXPECT_EQ(with([](auto& o) { o.threads = 2; }).value().options().threads, 2);
  EXPECT_TRUE(with([](auto& o) { o.pin = true; }).ok());
  // What moves bits moves them.
  const auto endless_logits = [&](const std::function<void(StreamOptions&)>& change) {
    StreamOptions options = small();
    options.context.reset();
    options.attention_sink = kvass::AttentionSink{4, 28};
    change(options);
    Stream stream = open(options);
    EXPECT_TRUE(stream.step(tokens(90)).ok());
    return logits(stream);
  };
  const std::vector<float> in_cache = endless_logits([](auto&) {});
  EXPECT_NE(endless_logits([](auto& o) { o.sink_positions = kvass::SinkPositions::original; }), in_cache);
  EXPECT_NE(endless_logits([](auto& o) { o.sink_positions = kvass::SinkPositions::wrapped; }), in_cache);
  EXPECT_NE(endless_logits([](auto& o) {
              o.sink_positions = kvass::SinkPositions::original;
              o.rotary_offset = 1000;
            }),
            in_cache);
  EXPECT_NE(endless_logits([](auto& o) { o.kv = kvass::DType::q8; }), in_cache);
  // What cannot be is refused.
  refused(with([](auto& o) { o.context = 0; }).status(), StatusCode::bad_input, "context");
  refused(with([](auto& o) { o.chunk = 0; }).status(), StatusCode::bad_input, "chunk");
  refused(with([](auto& o) {
            o.attention_sink = kvass::AttentionSink{4, 500};
          }).status(),
          StatusCode::bad_input, "context");
  refused(with([](auto& o) { o.math = kvass::Math::f32; }).status(), StatusCode::bad_input, "StreamOptions.math");
  refused(with([](auto& o) { o.checkpoints = -1; }).status(), StatusCode::bad_input, "StreamOptions.checkpoints");
  refused(with([](auto& o) { o.logit_rows = 0; }).status(), StatusCode::bad_input, "StreamOptions.logit_rows");
  refused(with([](auto& o) { o.threads = -1; }).status(), StatusCode::bad_input, "threads");
  refused(with([](auto& o) { o.sequences = 2; }).status(), StatusCode::bad_input, "StreamOptions.sequences");
  refused(with([](auto& o) { o.memory_limit = 1000; }).status(), StatusCode::bad_input, "limit");
  // A snapshot decides what it has.
  Stream saved = open();
  ASSERT_TRUE(saved.step(tokens(3)).ok());
  ASSERT_TRUE(saved.save(snapshot_).ok());
  refused(Stream::resume(*model_, snapshot_, {.context = 128}).status(), StatusCode::bad_input,
          "StreamOptions.context");
  refused(Stream::resume(*model_, snapshot_, {.endless = true}).status(), StatusCode::bad_input,
          "StreamOptions.endless");
  refused(Stream::resume(*model_, snapshot_, {.kv = kvass::DType::f32}).status(), StatusCode::bad_input,
          "StreamOptions.kv");
  EXPECT_TRUE(Stream::resume(*model_, snapshot_, {.context = 96, .threads = 1}).ok());
}

TEST_F(Options, EveryLoadOptionIsHonouredOrRefusedByName) {
  const auto run = [](const Model& model) {
    Stream stream = Stream::open(model, small()).value();
    EXPECT_TRUE(stream.step(tokens(20)).ok());
    return logits(stream);
  };
  const std::vector<float> plain = run(*model_);
  const Model f32 = Model::load(*gguf_, {.math = kvass::Math::f32, .threads = 1}).value();
  EXPECT_NE(run(f32), plain);
  EXPECT_EQ(f32.info().streams.math, kvass::Math::f32);
  const Model q4 = Model::load(*gguf_, {.weights = "q4_0", .threads = 1}).value();
  EXPECT_NE(run(q4), plain);
  EXPECT_LT(q4.weight_bytes(), model_->weight_bytes());
  EXPECT_EQ(run(Model::load(*gguf_, {.pages = kvass::Pages::huge, .threads = 2}).value()), plain);
  refused(Model::load(*gguf_, {.weights = "q3"}).status(), StatusCode::bad_input, "LoadOptions.weights");
  EXPECT_FALSE(Model::load(*gguf_, {.pages = kvass::Pages::mapped}).ok());
  EXPECT_FALSE(Model::load(*gguf_, {.check = true}).ok());
  EXPECT_FALSE(Model::load(*gguf_, {.threads = -2}).ok());
  kvass::ExportOptions options;
  options.model = *gguf_;
  options.out = kvass::testing::temporary_file("api.kvp");
  options.stream = small();
  options.stream.kv = kvass::DType::f32;
  ASSERT_TRUE(kvass::export_program(options).ok());
  const Model program = Model::load(options.out, {.check = true, .threads = 1}).value();
  EXPECT_EQ(program.info().format, "kvp");
  Stream stream = Stream::open(program).value();
  EXPECT_EQ(stream.options().kv, kvass::DType::f32) << "as the file says where nothing is said";
  EXPECT_EQ(stream.options().chunk, 16);
  std::remove(options.out.c_str());
}

TEST_F(Options, EveryGenerateOptionIsHonouredOrRefusedByName) {
  const auto with = [](const std::function<void(GenerateOptions&)>& change) {
    GenerateOptions options;
    options.ignore_eos = true;
    options.max_tokens = 24;
    change(options);
    Stream stream = open();
    return kvass::generate(stream, "the end", options);
  };
  const kvass::GenerateResult plain = with([](auto&) {}).value();
  EXPECT_EQ(plain.tokens, 24);
  const std::string stop = plain.text.substr(plain.text.size() / 2, 3);
  const kvass::GenerateResult stopped = with([&](auto& o) { o.stops = {stop}; }).value();
  EXPECT_EQ(stopped.reason, kvass::StopReason::stop_text);
  EXPECT_EQ(stopped.text, plain.text.substr(0, plain.text.find(stop)));
  const kvass::GenerateResult uncollected = with([](auto& o) { o.collect = false; }).value();
  EXPECT_TRUE(uncollected.ids.empty() && uncollected.text.empty());
  EXPECT_EQ(uncollected.tokens, 24);
  const auto sampled = [&](const std::function<void(kvass::SampleOptions&)>& change) {
    return with([&](auto& o) {
             o.sampling.temperature = 1.5f;
             change(o.sampling);
           })
        .value()
        .ids;
  };
  const std::vector<int32_t> hot = sampled([](auto&) {});
  EXPECT_NE(hot, plain.ids);
  EXPECT_NE(sampled([](auto& s) { s.seed = 5; }), hot);
  EXPECT_NE(sampled([](auto& s) { s.repeat_penalty = 5.0f; }), hot);
  EXPECT_EQ(sampled([](auto& s) { s.top_k = 1; }), plain.ids);
  EXPECT_EQ(sampled([](auto& s) { s.top_p = 1e-6f; }), plain.ids);
  EXPECT_EQ(sampled([](auto& s) { s.min_p = 1.0f; }), plain.ids);
  std::vector<kvass::Status> saves;
  ASSERT_TRUE(with([&](auto& o) {
                o.save_every = 10;
                o.save_path = snapshot_;
                o.on_save = [&](const kvass::Status& status) { saves.push_back(status); };
              }).ok());
  ASSERT_EQ(saves.size(), 2u);
  EXPECT_TRUE(saves[1].ok()) << saves[1].message();
  Stream resumed = Stream::resume(*model_, snapshot_, {.threads = 1}).value();
  GenerateOptions rest = kvass::resumed_options(resumed).value();
  rest.max_tokens = 4;
  EXPECT_EQ(kvass::generate(resumed, std::span<const int32_t>(), rest).value().ids,
            std::vector<int32_t>(plain.ids.begin() + 20, plain.ids.end()));
  refused(with([](auto& o) { o.max_tokens = -1; }).status(), StatusCode::bad_input, "GenerateOptions.max_tokens");
  refused(with([](auto& o) { o.save_every = 5; }).status(), StatusCode::bad_input, "GenerateOptions.save_path");
  refused(with([](auto& o) { o.save_path = "x"; }).status(), StatusCode::bad_input, "GenerateOptions.save_every");
  EXPECT_FALSE(with([](auto& o) { o.sampling.temperature = -1.0f; }).ok());
  EXPECT_FALSE(with([](auto& o) { o.sampling.top_p = 2.0f; }).ok());
  GenerateOptions holding;
  holding.hold_text = true;
  refused(kvass::generate_batch(*model_, {}, small(), holding, {}).status(), StatusCode::unsupported, "hold_text");
}

TEST_F(Options, NamesAreThoseOfTheCommandLine) {
  EXPECT_EQ(kvass::parse_math("a8").value(), kvass::Math::a8);
  EXPECT_EQ(kvass::parse_dtype("q8").value(), kvass::DType::q8);
  EXPECT_EQ(kvass::parse_sink_positions("in-cache").value(), kvass::SinkPositions::in_cache);
  refused(kvass::parse_math("f64").status(), StatusCode::bad_input, "StreamOptions.math: expected f32, a16 or a8");
  refused(kvass::parse_dtype("").status(), StatusCode::bad_input, "StreamOptions.kv");
  refused(kvass::parse_sink_positions("far").status(), StatusCode::bad_input, "StreamOptions.sink_positions");
}

TEST_F(Options, CachesAreResolvedAsStreamsResolveThem) {
  kvass::StreamOptions options;
  options.endless = true;
  const kvass::CacheOptions caches = kvass::resolve_caches(options, model_->info().trained_context).value();
  EXPECT_TRUE(caches.sinks);
  EXPECT_EQ(caches.sink_tokens + caches.sink_window, kvass::StreamOptions::kDefaultContext);
  EXPECT_EQ(kvass::resolve_caches({}, 100).value().context, 100);
  options = small();
  EXPECT_EQ(kvass::resolve_caches(options, 100).value().context, open(options).options().context);
  options.context = 0;
  refused(kvass::resolve_caches(options, 100).status(), StatusCode::bad_input, "StreamOptions.context");
}

}  // namespace
