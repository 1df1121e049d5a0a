// kvass transcribe as a script meets it, on a small random model: its text means nothing, but it is the same every
// time.
#include <sndfile.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "cli/test_files.h"
#include "tiny_speech.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests
using nlohmann::json;

struct Models {
  std::string ct2 = path_of("speech_ct2"), int8 = path_of("speech_int8"), hugging_face = path_of("speech_hf"),
              ggml = path_of("speech.bin");
};

const Models& models() {
  static const Models written = [] {
    Models paths;
    const TinySpeech model;
    model.write_ct2(paths.ct2);
    model.write_ct2(paths.int8, /*int8=*/true);
    model.write_hugging_face(paths.hugging_face);
    model.write_ggml(paths.ggml);
    return paths;
  }();
  return written;
}

// A WAV file of a sweep.
std::string audio(const char* name, double seconds, int rate = 16000, int channels = 1) {
  const std::string path = path_of(name);
  SF_INFO info{};
  info.samplerate = rate;
  info.channels = channels;
  info.format = SF_FORMAT_WAV | SF_FORMAT_PCM_16;
  SNDFILE* const file = sf_open(path.c_str(), SFM_WRITE, &info);
  const auto frames = static_cast<sf_count_t>(seconds * rate);
  std::vector<float> samples(static_cast<size_t>(frames * channels));
  for (size_t i = 0; i < samples.size(); ++i) {
    const double t = static_cast<double>(i / static_cast<size_t>(channels)) / rate;
    samples[i] = static_cast<float>(0.4 * std::sin(6.28 * (200.0 + 300.0 * t) * t));
  }
  sf_writef_float(file, samples.data(), frames);
  sf_close(file);
  return path;
}

Arguments transcribe(const std::string& file, const std::string& model, const Arguments& more = {}) {
  return with({"transcribe", file, "--model", model, "--temperature-increment-on-fallback", "0", "-t", "2",
               "--no-speech-threshold", "none"},
              more);
}

TEST(TranscribeCommand, EveryFormatOfAModelGivesTheSameTranscript) {
  const std::string file = audio("sweep.wav", 2.5);
  json first;
  for (const std::string& model : {models().ct2, models().hugging_face, models().ggml}) {
    json result = parsed(kvass(transcribe(file, model, {"-f", "json", "--beam-size", "1", "-q", "--word-timestamps"})));
    EXPECT_EQ(result["file"], file);
    EXPECT_NEAR(result["duration"].get<double>(), 2.5, 1e-9);
    for (const char* key : {"language", "segments"}) EXPECT_TRUE(result.contains(key)) << key;
    for (const json& segment : result["segments"]) {
      for (const char* key : {"start", "end", "text", "tokens", "avg_logprob", "no_speech_prob", "temperature",
                              "compression_ratio", "words"}) {
        EXPECT_TRUE(segment.contains(key)) << key;
      }
    }
    if (first.is_null()) first = result;
    EXPECT_EQ(result, first) << model;
  }
  const Finished int8 = kvass(transcribe(file, models().int8, {"-f", "json", "--beam-size", "1"}));
  EXPECT_EQ(int8.code, 0) << int8.err;
}

TEST(TranscribeCommand, ADamagedRecordingIsAFailureThatScriptsSee) {
  const std::string path = path_of("damaged.flac");
  SF_INFO info{};
  info.samplerate = 16000;
  info.channels = 1;
  info.format = SF_FORMAT_FLAC | SF_FORMAT_PCM_16;
  SNDFILE* const file = sf_open(path.c_str(), SFM_WRITE, &info);
  std::vector<float> samples(64000);
  for (size_t i = 0; i < samples.size(); ++i) samples[i] = static_cast<float>(i * i * 7919 % 1000) / 2000.0f;
  sf_writef_float(file, samples.data(), 64000);
  sf_close(file);
  std::fstream bytes(path, std::ios::in | std::ios::out | std::ios::binary);
  bytes.seekp(static_cast<std::streamoff>(std::filesystem::file_size(path) / 2));
  bytes.write("damage", 6);
  bytes.close();
  const Finished done = kvass(transcribe(path, models().ct2, {"-f", "json", "-q"}));
  EXPECT_EQ(done.code, 1);
  EXPECT_EQ(done.out, "");
  EXPECT_NE(done.err.find("damaged.flac: expected audio that can be decoded to its end, got damage at "),
            std::string::npos)
      << done.err;
}

TEST(TranscribeCommand, AnExportedModelGivesTheSameBytes) {
  const std::string file = audio("exported.wav", 2.5), kvp = path_of("speech.kvp"), again = path_of("again.kvp");
  const Arguments how = {"-f", "json", "-q", "--word-timestamps", "--initial-prompt", "so"};
  for (const std::string& model : {models().ct2, models().int8, models().hugging_face, models().ggml}) {
    SCOPED_TRACE(model);
    const std::string expected = kvass(transcribe(file, model, how)).out;
    ASSERT_FALSE(expected.empty());
    Finished done = kvass({"export", model, "-o", kvp});
    ASSERT_EQ(done.code, 0) << done.err;
    EXPECT_EQ(kvass(transcribe(file, kvp, how)).out, expected);
    EXPECT_EQ(kvass(transcribe(file, kvp, with(how, {"--pages", "huge", "--check"}))).out, expected);
    // Other weights and another arithmetic at load, as of the model itself, or at export.
    const Arguments small = with(how, {"--weights", "q8_0", "--math", "a16", "--kv", "f16"});
    const std::string smaller = kvass(transcribe(file, model, small)).out;
    EXPECT_EQ(kvass(transcribe(file, kvp, small)).out, smaller);
    for (const std::string& from : {model, kvp}) {
      done =
          kvass({"export", from, "-o", again, "--weights", "q8_0", "--math", "a16", "--kv", "f16", "--multifunction"});
      ASSERT_EQ(done.code, 0) << done.err;
      EXPECT_EQ(kvass(transcribe(file, again, how)).out, smaller) << from;
    }
  }
}

TEST(TranscribeCommand, AnExportedModelSaysWhatIsInIt) {
  const std::string kvp = path_of("said.kvp");
  ASSERT_EQ(kvass({"export", models().ct2, "-o", kvp, "-t", "1"}).code, 0);
  const json file = parsed(kvass({"inspect", kvp, "--json"}));
  EXPECT_EQ(file["metadata"]["speech.mel_channels"], TinySpeech::kMels);
  EXPECT_EQ(file["metadata"]["speech.frames"], 2 * TinySpeech::kSource);
  EXPECT_EQ(file["metadata"]["speech.languages"], 3);
  EXPECT_EQ(file["metadata"]["speech.alignment_heads"], "1.0");
  EXPECT_EQ(file["metadata"]["kv"], "f32");
  EXPECT_EQ(file["cross_caches"].size(), static_cast<size_t>(TinySpeech::kLayers));
  EXPECT_EQ(file["states"][0]["cache_len"], TinySpeech::kContext);
  const json plan = parsed(kvass({"plan", kvp, "--json"}));
  EXPECT_EQ(plan["layers"].size(), static_cast<size_t>(TinySpeech::kLayers));
  EXPECT_EQ(plan["sequences"], 5);
  EXPECT_GT(plan["cross_bytes"], 0);
  EXPECT_GE(plan["arena_peak_bytes"], plan["arena_bound_bytes"]);
  EXPECT_LE(plan["arena_peak_bytes"].get<double>(), 1.1 * plan["arena_bound_bytes"].get<double>());
  EXPECT_EQ(plan["total_bytes"].get<size_t>(), plan["weight_bytes"].get<size_t>() + plan["arena_bytes"].get<size_t>() +
                                                   plan["allocated_bytes"].get<size_t>() +
                                                   plan["cross_bytes"].get<size_t>());
}

TEST(TranscribeCommand, ExportRefusesWhatSpeechHasNoPlaceFor) {
  const std::string kvp = path_of("refused.kvp");
  const auto refused = [&](const Arguments& more, const std::vector<std::string>& words) {
    expect_refused(kvass(with({"export", models().hugging_face, "-o", kvp}, more)), 1, words);
    EXPECT_FALSE(std::filesystem::exists(kvp));
  };
  refused({"--attention-sink", "4,32"}, {"--attention-sink", "speech model", "4,32"});
  refused({"--endless"}, {"--endless", "speech model"});
  refused({"--sink-positions", "wrapped"}, {"--sink-positions", "wrapped"});
  refused({"--sliding-window", "32"}, {"--sliding-window", "32"});
  refused({"--sliding-window-pattern", "2"}, {"--sliding-window-pattern", "2"});
  refused({"--max-context-len", "32"}, {"--max-context-len", "64", "32"});
  refused({"--input-len", "8"}, {"--input-len", "64", "8"});
  expect_refused(kvass({"export", path_of("."), "-o", kvp}), 1);
  ASSERT_EQ(kvass({"export", models().ct2, "-o", kvp, "--max-context-len", "64", "-t", "1"}).code, 0);
  // Each kind of file where the other belongs.
  expect_refused(kvass({"run", kvp, "-p", "x"}), 1, {"a model that writes text", "kvass transcribe"});
  expect_refused(kvass({"tokenize", kvp}), 1, {"a model that writes text"});
  expect_refused(kvass({"run", models().ct2, "-p", "x"}), 1, {"a GGUF or .kvp file", "a speech model"});
  const std::string text = path_of("text.kvp");
  ASSERT_EQ(kvass({"export", tiny(), "-o", text, "--context", "64", "--chunk", "8", "-t", "1"}).code, 0);
  const std::string file = audio("kind.wav", 0.5);
  expect_refused(kvass(transcribe(file, text)), 1, {"a speech model", "writes text"});
  expect_refused(kvass(transcribe(file, kvp, {"--pages", "mapped", "--weights", "q8_0"})), 1, {"--pages"});
  expect_refused(kvass(transcribe(file, models().ct2, {"--pages", "mapped"})), 1, {"--pages"});
  expect_refused(kvass(transcribe(file, models().ct2, {"--check"})), 1, {"--check"});
}

TEST(TranscribeCommand, ThreadsAndRepetitionChangeNothing) {
  const std::string file = audio("again.wav", 1.7);
  const Arguments beams = transcribe(file, models().ct2, {"-f", "json", "-q"});
  const Finished two = kvass(beams);
  EXPECT_EQ(two.code, 0) << two.err;
  EXPECT_EQ(kvass(beams).out, two.out);
  EXPECT_EQ(kvass(with(beams, {"--threads", "1"})).code, 2);  // given twice
  Arguments one = beams;
  *std::find(one.begin(), one.end(), "-t") = "--threads";
  *(std::find(one.begin(), one.end(), "--threads") + 1) = "1";
  EXPECT_EQ(kvass(one).out, two.out);
}

TEST(TranscribeCommand, OddAudioIsTranscribedAllTheSame) {
  for (const std::string& file :
       {audio("rate8.wav", 1.2, 8000), audio("seven.wav", 0.5, 44100, 7), audio("scrap.wav", 0.1)}) {
    const Finished done = kvass(transcribe(file, models().ct2, {"-f", "json"}));
    EXPECT_EQ(done.code, 0) << file << done.err;
  }
  const Finished none = kvass(transcribe(audio("nothing.wav", 0.0), models().ct2, {"-f", "srt"}));
  EXPECT_EQ(none.code, 0) << none.err;
  EXPECT_EQ(none.out, "");
  EXPECT_TRUE(has(none.err, "0.00 s of audio")) << none.err;
  // The same through stdin.
  const std::string file = audio("pipe.wav", 1.0);
  EXPECT_EQ(kvass(transcribe("-", models().ct2, {"-q"}), read_file(file)).out,
            kvass(transcribe(file, models().ct2, {"-q"})).out);
}

TEST(TranscribeCommand, TheOtherFilesAreStillDone) {
  const std::string good = audio("good.wav", 1.0), out = path_of("out");
  const std::string bad = path_of("bad.wav");
  write_file(bad, "this is no audio");
  const Finished done = kvass(
      {"transcribe", bad, good, "/nowhere.flac", "--model", models().ct2, "-o", out, "-f", "all", "--beam-size", "2"});
  EXPECT_EQ(done.code, 1);
  EXPECT_TRUE(has(done.err, "bad.wav: expected an audio file")) << done.err;
  EXPECT_TRUE(has(done.err, "/nowhere.flac: expected an audio file")) << done.err;
  EXPECT_TRUE(has(done.err, "got 2 that cannot")) << done.err;
  for (const char* format : {"txt", "srt", "vtt", "tsv", "json"}) {
    EXPECT_TRUE(std::filesystem::exists(out + "/good." + format)) << format;
    EXPECT_FALSE(std::filesystem::exists(out + "/bad." + format)) << format;
  }
}

TEST(TranscribeCommand, RefusesWhatItCannotDo) {
  const std::string file = audio("refused.wav", 0.5);
  expect_refused(kvass({"transcribe", file}), 2);
  expect_refused(kvass({"transcribe", "--model", models().ct2}), 2);
  const auto refused = [&](const Arguments& more, const std::vector<std::string>& words) {
    expect_refused(kvass(transcribe(file, models().ct2, more)), 1, words);
  };
  refused({"--language", "klingon"}, {"--language", "klingon"});
  refused({"--language", "fr"}, {"--language", "3 that this model knows"});
  refused({"--task", "sing"}, {"--task", "sing"});
  refused({"-f", "doc"}, {"--output-format", "doc"});
  refused({"-f", "all"}, {"--output-dir"});
  refused({"--beam-size", "0"}, {"--beam-size"});
  expect_refused(kvass({"transcribe", "a.wav", "--logprob-threshold", "low"}), 2, {"--logprob-threshold", "'low'"});
  refused({"--suppress-tokens", "1,x"}, {"--suppress-tokens"});
  refused({"--weights", "q9"}, {"q9"});
  expect_refused(kvass(transcribe("/nowhere.wav", models().ct2)), 1, {"/nowhere.wav"});
  expect_refused(kvass(transcribe(file, "/nowhere")), 1, {"/nowhere"});
  expect_refused(kvass(transcribe(file, tiny())), 1, {"a speech model"});
  expect_refused(kvass(transcribe(file, std::filesystem::path(models().ct2).parent_path().string())), 1, {"model.bin"});
}

}  // namespace
}  // namespace kvass
