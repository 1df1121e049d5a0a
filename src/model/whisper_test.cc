// The Whisper family: what is refused of a source of tensors.
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "damage.h"
#include "file/ct2.h"
#include "model/speech.h"
#include "scratch.h"
#include "streams.h"
#include "tiny_speech.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

// A source that has one more name.
class WithOneMore final : public TensorSource {
 public:
  WithOneMore(const TensorSource& source, std::string name) : source_(source), extra_(std::move(name)) {}
  const std::string& name() const override { return source_.name(); }
  bool has(std::string_view tensor) const override { return tensor == extra_ || source_.has(tensor); }
  Result<SourceTensor> tensor(std::string_view tensor) const override { return source_.tensor(tensor); }
  std::vector<std::string> names() const override {
    std::vector<std::string> names = source_.names();
    names.push_back(extra_);
    return names;
  }
  Status check() const override { return source_.check(); }
  void release(std::span<const uint8_t> bytes) const override { source_.release(bytes); }

 private:
  const TensorSource& source_;
  std::string extra_;
};

TEST(Whisper, TensorsOfAnotherModelAreRefusedByTheirName) {
  const Scratch scratch;
  TinySpeech().write_ct2(scratch.file("model"));
  const Ct2Model source = Ct2Model::open(scratch.file("model") + "/model.bin").value();
  const auto with = [&](const std::string& name) {
    const Result<SpeechProgram> program = build_speech_program(WithOneMore(source, name));
    return program.ok() ? "" : program.status().message();
  };
  EXPECT_EQ(with("proj_out.weight"), "");
  EXPECT_EQ(with("model.decoder.layers.0.self_attn.k_proj.bias"), "") << "changes no softmax";
  expect_words(with("model.encoder.layers.0.adapter.weight"),
               {"model.bin", "Whisper", "also 'model.encoder.layers.0.adapter.weight'"});
  expect_words(with("decoder.layers.9.fc2.weight"), {"also 'decoder.layers.9.fc2.weight'"});
  expect_words(with("model.decoder.layernorm_embedding.weight"), {"layernorm_embedding"});
}

}  // namespace
}  // namespace kvass
