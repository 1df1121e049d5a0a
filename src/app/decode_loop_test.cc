// The decode loop: texts that join and leave between its steps give what they give alone, bit for bit.
#include "app/decode_loop.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>

#include "app/batch.h"
#include "app/test_jobs.h"
#include "effort.h"
#include "file/gguf.h"
#include "scratch.h"
#include "seed.h"
#include "text/utf8.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

constexpr int64_t kSequences = 4;

class Loops : public Jobs {
 protected:
  static StreamOptions options() {
    StreamOptions options;
    options.sequences = kSequences;
    options.context = 160;
    options.chunk = 24;
    options.threads = 2;
    return options;
  }
  // What text `i` is asked for with: each is another, some greedy, some sampled.
  static DecodeOptions request(size_t i) {
    DecodeOptions options;
    options.prompt = TinyModel().tokens(1 + i * 29 % 110, static_cast<uint32_t>(i));
    options.max_tokens = static_cast<int64_t>(i * 17 % 60);
    options.ignore_eos = i % 5 != 0;
    if (i % 3 != 0) {
      options.sampling.temperature = 1.0f + 0.1f * static_cast<float>(i);
      options.sampling.top_k = i % 2 == 0 ? 40 : 0;
      options.sampling.repeat_penalty = i % 4 == 1 ? 1.3f : 1.0f;
      options.sampling.seed = i;
    }
    if (i % 7 == 3) options.max_tokens = 1000;  // its caches are full before
    if (i % 4 == 2) options.stops = {alone(options).text.substr(0, 40).substr(12, 2)};
    return options;
  }
  static DecodeResult alone(DecodeOptions options) {
    StreamOptions one = Loops::options();
    one.sequences = 1;
    OpenStream stream = Jobs::stream(one);
    return generate(
               *model_, stream, std::move(options), [](std::string_view) { return true; }, never_)
        .value();
  }
  static DecodeRequest request(size_t i, Sequence& sequence) {
    DecodeRequest made;
    made.options = request(i);
    made.sequence = &sequence;
    return made;
  }
};

// What events said of a text.
struct Told {
  std::vector<int32_t> ids;
  std::string text;
};

// Of a text's end, which readers are not shown.
bool is_half_character_at_most(std::string_view text) {
  if (text.empty()) return true;
  const Utf8Step step = utf8_step(text);
  return step.state == Utf8Step::incomplete && step.length == text.size();
}

TEST_F(Loops, TextsThatJoinAtRandomStepsGiveWhatTheyGiveAlone) {
  constexpr size_t kTexts = 16;
  std::vector<DecodeResult> expected;
  std::vector<StopReason> reasons;
  for (size_t i = 0; i < kTexts; ++i) {
    expected.push_back(alone(request(i)));
    reasons.push_back(expected.back().reason);
  }
  for (const StopReason reason : {StopReason::max_tokens, StopReason::stop_text, StopReason::cache_full}) {
    EXPECT_NE(std::find(reasons.begin(), reasons.end(), reason), reasons.end()) << stop_reason_name(reason);
  }
  Random random;
  for (int round = 0; round < effort(4, 1); ++round) {
    StreamBatch batch = open_batch(*model_, options(), {}).value();
    DecodeLoop loop(*batch.session, *model_->tokenizer);
    ASSERT_EQ(loop.capacity(), kSequences);
    std::vector<Sequence*> free;
    for (const auto& sequence : batch.sequences) free.push_back(sequence.get());
    struct Live {
      size_t text;
      Sequence* sequence;
      Told told;
      int64_t cancel_at;  // tokens; -1: not
    };
    std::map<int64_t, Live> live;
    size_t next = 0;
    while (next < kTexts || loop.size() > 0) {
      if (next < kTexts && !free.empty() && random.integer(0, 3) == 0) {
        Sequence* sequence = free.back();
        free.pop_back();
        ASSERT_TRUE(sequence->clear().ok());
        const Result<int64_t> id = loop.add(request(next, *sequence));
        ASSERT_TRUE(id.ok()) << id.status().message();
        live[id.value()] = {next++, sequence, {}, random.integer(0, 4) == 0 ? random.integer(0, 8) : -1};
      }
      for (auto& [id, one] : live) {
        if (one.cancel_at == static_cast<int64_t>(one.told.ids.size())) loop.cancel(id);
      }
      const Result<std::span<const DecodeEvent>> events = loop.step();
      ASSERT_TRUE(events.ok()) << events.status().message();
      for (const DecodeEvent& event : events.value()) {
        Live& one = live.at(event.id);
        if (event.token >= 0) one.told.ids.push_back(event.token);
        one.told.text += event.text;
        EXPECT_EQ(loop.ended(event.id), event.ended);
        if (!event.ended) continue;
        const DecodeResult result = loop.remove(event.id).value();
        const DecodeResult& same = expected[one.text];
        EXPECT_EQ(result.ids, one.told.ids);
        ASSERT_TRUE(result.text.starts_with(one.told.text)) << one.told.text;
        EXPECT_TRUE(is_half_character_at_most(std::string_view(result.text).substr(one.told.text.size())));
        if (result.reason == StopReason::cancelled) {
          EXPECT_EQ(static_cast<int64_t>(result.ids.size()), one.cancel_at);
          ASSERT_LE(result.ids.size(), same.ids.size());
          EXPECT_TRUE(std::equal(result.ids.begin(), result.ids.end(), same.ids.begin())) << one.text;
        } else {
          EXPECT_EQ(result.ids, same.ids) << one.text;
          EXPECT_EQ(result.text, same.text) << one.text;
          EXPECT_EQ(result.reason, same.reason) << one.text;
          EXPECT_EQ(result.status.message(), same.status.message()) << one.text;
        }
        free.push_back(one.sequence);
        live.erase(event.id);
      }
    }
    EXPECT_TRUE(live.empty());
    EXPECT_FALSE(loop.running());
  }
}

TEST_F(Loops, ALongPromptDelaysAShortOneByAStep) {
  StreamBatch batch = open_batch(*model_, options(), {}).value();
  DecodeLoop loop(*batch.session, *model_->tokenizer);
  DecodeRequest request;
  request.options.prompt = TinyModel().tokens(140);  // steps have room for 27 tokens
  request.sequence = batch.sequences[0].get();
  const int64_t first = loop.add(request).value();
  request.sequence = batch.sequences[1].get();
  const int64_t second = loop.add(request).value();
  ASSERT_TRUE(loop.step().ok());
  request.options.prompt = TinyModel().tokens(5);
  request.sequence = batch.sequences[2].get();
  const int64_t late = loop.add(request).value();
  int steps = 0;
  while (loop.reading(late) && steps < 10) {
    ASSERT_TRUE(loop.step().ok());
    ++steps;
  }
  EXPECT_EQ(steps, 2) << "a turn of the second one comes before";
  EXPECT_TRUE(loop.reading(first));
  EXPECT_TRUE(loop.reading(second));
  EXPECT_GT(batch.sequences[1]->length(), 20) << "which is not left out either";
}

TEST_F(Loops, AWrongRequestIsRefusedAndTheOthersGoOn) {
  StreamBatch batch = open_batch(*model_, options(), {}).value();
  DecodeLoop loop(*batch.session, *model_->tokenizer);
  const int64_t good = loop.add(request(7, *batch.sequences[0])).value();
  ASSERT_TRUE(loop.step().ok());
  const auto refused = [&](auto&& change) {
    DecodeRequest wrong = request(1, *batch.sequences[1]);
    change(wrong);
    return refusal(loop.add(std::move(wrong)));
  };
  expect_words(refused([](DecodeRequest& r) { r.options.prompt = {}; }), {"prompt", "at least one token"});
  expect_words(refused([](DecodeRequest& r) { r.options.prompt = {3, 300}; }), {"token id", "0 to 299", "300"});
  expect_words(refused([](DecodeRequest& r) { r.options.prompt = {-1}; }), {"token id", "-1"});
  expect_words(refused([](DecodeRequest& r) { r.options.prompt = TinyModel().tokens(161); }), {"prompt", "160", "161"});
  expect_words(refused([](DecodeRequest& r) { r.options.sampling.top_p = 2.0f; }), {"top"});
  expect_words(refused([](DecodeRequest& r) { r.sequence = nullptr; }), {"sequence"});
  expect_words(refused([&](DecodeRequest& r) { r.sequence = batch.sequences[0].get(); }), {"sequence", "in use"});
  StreamOptions other = options();
  other.kv = DType::f32;
  StreamBatch another = open_batch(*model_, other, {}).value();
  expect_words(refused([&](DecodeRequest& r) { r.sequence = another.sequences[0].get(); }), {"sequence", "storage"});
  EXPECT_EQ(loop.size(), 1);
  for (size_t i = 1; i < kSequences; ++i) ASSERT_TRUE(loop.add(request(i, *batch.sequences[i])).ok());
  const std::unique_ptr<Sequence> fifth = batch.sequences[0]->fork().value();
  expect_words(refused([&](DecodeRequest& r) { r.sequence = fifth.get(); }), {"texts", "at most 4"});
  while (!loop.ended(good)) ASSERT_TRUE(loop.step().ok());
  EXPECT_EQ(loop.remove(good)->ids, alone(request(7)).ids);
  expect_words(refusal(loop.remove(good)), {"id of a text"});
}

TEST_F(Loops, AStepThatFailsLeavesEveryTextAsItWas) {
  StreamBatch batch = open_batch(*model_, options(), {}).value();
  DecodeLoop loop(*batch.session, *model_->tokenizer);
  std::vector<int64_t> ids;
  for (const size_t i : {7, 8}) ids.push_back(loop.add(request(i, *batch.sequences[i - 7])).value());
  for (int step = 0; loop.running(); ++step) {
    if (step % 3 == 1) {  // somebody else works with one of the sequences
      batch.sequences[1]->busy() = true;
      const bool needed = !loop.ended(ids[1]);
      EXPECT_EQ(loop.step().ok(), !needed);
      batch.sequences[1]->busy() = false;
    }
    ASSERT_TRUE(loop.step().ok());
  }
  for (const size_t i : {7, 8}) EXPECT_EQ(loop.remove(ids[i - 7])->ids, alone(request(i)).ids);
}

TEST_F(Loops, ATextThatIsRemovedGoesOnFromItsState) {
  for (const size_t i : {7, 8, 10}) {
    DecodeOptions whole = request(i);
    whole.max_tokens = 30;
    whole.stops = {};
    const DecodeResult expected = alone(whole);
    whole.keep_state = true;
    for (const int steps : {0, 1, 3, 5, 12}) {
      StreamBatch batch = open_batch(*model_, options(), {}).value();
      DecodeLoop loop(*batch.session, *model_->tokenizer);
      DecodeRequest request;
      request.options = whole;
      request.sequence = batch.sequences[0].get();
      const int64_t id = loop.add(request).value();
      for (int step = 0; step < steps; ++step) ASSERT_TRUE(loop.step().ok());
      DecodeResult result = loop.remove(id).value();
      EXPECT_EQ(result.reason, StopReason::cancelled);
      request.options.prompt = {};
      request.options.resume = &result.state;
      request.options.max_tokens = 30 - result.tokens;
      const int64_t rest = loop.add(request).value();
      while (loop.running()) ASSERT_TRUE(loop.step().ok());
      const DecodeResult more = loop.remove(rest).value();
      result.ids.insert(result.ids.end(), more.ids.begin(), more.ids.end());
      EXPECT_EQ(result.ids, expected.ids) << i << ", " << steps;
      EXPECT_EQ(result.text + more.text, expected.text.substr(0, (result.text + more.text).size()));
    }
  }
}

TEST_F(Loops, ATextMayBeRemovedBetweenItsStepAndItsToken) {
  StreamBatch batch = open_batch(*model_, options(), {}).value();
  DecodeLoop loop(*batch.session, *model_->tokenizer);
  const int64_t gone = loop.add(request(7, *batch.sequences[0])).value();
  const int64_t stays = loop.add(request(8, *batch.sequences[1])).value();
  while (loop.reading(stays)) ASSERT_TRUE(loop.step().ok());
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(loop.advance().ok());
  ASSERT_TRUE(loop.remove(gone).ok());
  const std::span<const DecodeEvent> events = loop.sample();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].id, stays);
  while (loop.running()) ASSERT_TRUE(loop.step().ok());
  EXPECT_EQ(loop.remove(stays)->ids, alone(request(8)).ids);
}

// The embedding of one token is no number, so that a text with it has no logits.
TEST_F(Loops, ATextWithoutLogitsFailsAlone) {
  constexpr int32_t kWrong = 77;
  std::vector<uint8_t> bytes = TinyModel().gguf();
  const Gguf parsed = Gguf::parse(bytes, "tiny.gguf").value();
  const auto tensor = std::find_if(parsed.tensors().begin(), parsed.tensors().end(),
                                   [](const GgufTensor& t) { return t.name == "token_embd.weight"; });
  ASSERT_NE(tensor, parsed.tensors().end());
  const size_t row = tensor->bytes / 300;
  for (size_t block = 0; block < row; block += 34) {  // of Q8_0: a scale, 32 integers
    uint8_t* at = bytes.data() + (tensor->data - bytes.data()) + kWrong * row + block;
    at[0] = 0x00;
    at[1] = 0x7e;
  }
  const Scratch scratch;
  std::ofstream(scratch.file("nan.gguf"), std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  const OpenModel model = open_model(scratch.file("nan.gguf"), Math::f32, 2).value();
  for (const float temperature : {0.0f, 1.0f}) {
    StreamBatch batch = open_batch(model, options(), {}).value();
    DecodeLoop loop(*batch.session, *model.tokenizer);
    DecodeRequest request;
    request.options.max_tokens = 5;
    request.options.ignore_eos = true;
    request.options.sampling.temperature = temperature;
    request.options.prompt = {2, kWrong, 9};
    request.sequence = batch.sequences[0].get();
    const int64_t bad = loop.add(request).value();
    request.options.prompt = {2, 9};
    request.sequence = batch.sequences[1].get();
    const int64_t good = loop.add(request).value();
    while (loop.running()) ASSERT_TRUE(loop.step().ok());
    const DecodeResult failed = loop.remove(bad).value(), fine = loop.remove(good).value();
    EXPECT_EQ(failed.reason, StopReason::failed);
    expect_words(failed.status.message(), {"logits", "NaN"});
    EXPECT_EQ(failed.tokens, 0);
    EXPECT_EQ(fine.reason, StopReason::max_tokens);
    EXPECT_EQ(fine.tokens, 5);
    OpenStream stream = open_stream(model, StreamOptions(), 1).value();
    request.options.prompt = {2, kWrong, 9};
    expect_words(refusal(generate(
                     model, stream, request.options, [](std::string_view) { return true; }, never_)),
                 {"logits", "NaN"});
  }
}

}  // namespace
}  // namespace kvass
