#include "file/ct2.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "base/float16.h"
#include "ct2_bytes.h"
#include "damage.h"
#include "seed.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

// A layer's fused projections in three types, an alias and a scalar.
Ct2Bytes small() {
  std::vector<float> fused(12);
  for (size_t i = 0; i < fused.size(); ++i) fused[i] = static_cast<float>(i);
  std::vector<uint16_t> halves;
  for (float value : {1.0f, -2.0f, 0.5f}) halves.push_back(float_to_f16(value));
  return Ct2Bytes()
      .integer("decoder/num_heads", 8)
      .values("decoder/embeddings/weight", {3, 1}, Ct2Type::f16, halves)
      .values("encoder/layer_0/self_attention/linear_0/weight", {6, 2}, Ct2Type::f32, fused)
      .values("encoder/layer_0/self_attention/linear_0/bias", {6}, Ct2Type::f32, std::vector<float>{1, 2, 0, 0, 3, 4})
      .values("encoder/layer_0/ffn/linear_0/weight", {2, 3}, Ct2Type::i8, std::vector<int8_t>{-127, 0, 64, 1, 2, 3})
      .values("encoder/layer_0/ffn/linear_0/weight_scale", {2}, Ct2Type::f32, std::vector<float>{254.0f, 2.0f})
      .values("encoder/layer_norm/gamma", {2}, Ct2Type::f32, std::vector<float>{1, 2})
      .alias("decoder/projection/weight", "decoder/embeddings/weight");
}

Result<Ct2Model> parsed(const std::vector<uint8_t>& bytes) { return Ct2Model::parse(bytes, "f"); }

std::vector<float> floats(const Ct2Model& model, const std::string& name) {
  const Result<SourceTensor> tensor = model.tensor(name);
  EXPECT_TRUE(tensor.ok()) << tensor.status().message();
  if (!tensor.ok()) return {};
  std::vector<float> values(static_cast<size_t>(tensor->elements()));
  EXPECT_TRUE(tensor->read_rows(0, tensor->rows(), values.data()));
  return values;
}

TEST(Ct2, TensorsHaveTheNamesOfHuggingFace) {
  const std::vector<uint8_t> bytes = small().bytes();
  const Result<Ct2Model> model = parsed(bytes);
  ASSERT_TRUE(model.ok()) << model.status().message();
  const std::string layer = "model.encoder.layers.0.";
  EXPECT_EQ(floats(model.value(), layer + "self_attn.q_proj.weight"), (std::vector<float>{0, 1, 2, 3}));
  EXPECT_EQ(floats(model.value(), layer + "self_attn.k_proj.weight"), (std::vector<float>{4, 5, 6, 7}));
  EXPECT_EQ(floats(model.value(), layer + "self_attn.v_proj.weight"), (std::vector<float>{8, 9, 10, 11}));
  EXPECT_EQ(floats(model.value(), layer + "self_attn.v_proj.bias"), (std::vector<float>{3, 4}));
  EXPECT_FALSE(model->has(layer + "self_attn.k_proj.bias"));
  EXPECT_EQ(floats(model.value(), layer + "fc1.weight"),
            (std::vector<float>{-0.5f, 0.0f, 64.0f / 254.0f, 0.5f, 1.0f, 1.5f}));
  EXPECT_EQ(floats(model.value(), "model.encoder.layer_norm.weight"), (std::vector<float>{1, 2}));
  EXPECT_EQ(floats(model.value(), "model.decoder.embed_tokens.weight"), (std::vector<float>{1.0f, -2.0f, 0.5f}));
  EXPECT_EQ(floats(model.value(), "proj_out.weight"), (std::vector<float>{1.0f, -2.0f, 0.5f}));
  EXPECT_EQ(model->integer("decoder/num_heads").value(), 8);
  EXPECT_EQ(model->layers("encoder"), 1);
  EXPECT_EQ(model->layers("decoder"), 0);
  for (const char* absent : {"model.encoder.layers.1.fc1.weight", "model.encoder.layers.0.fc3.weight", "fc1", "",
                             "model.encoder.layers.x.fc1.weight", "model.encoder.embed_positions.bias"}) {
    EXPECT_FALSE(model->has(absent)) << absent;
    expect_words(model->tensor(absent).status().message(), {"f: tensor"});
  }
  EXPECT_EQ(model->names().size(), 9u);
}

TEST(Ct2, RefusesWhatIsNotAModelByField) {
  const auto message = [](const std::vector<uint8_t>& bytes) { return parsed(bytes).status().message(); };
  expect_words(message(small().bytes(5)), {"f: binary version: expected 6, got 5"});
  std::vector<uint8_t> longer = small().bytes();
  longer.push_back(0);
  expect_words(message(longer), {"f: end of file", "1 bytes"});
  expect_words(message(Ct2Bytes().variable("a", {2, 2}, Ct2Type::f32, {0, 0, 0, 0}).bytes()),
               {"variable 'a'", "expected 16 bytes", "got 4"});
  expect_words(message(Ct2Bytes().variable("a", {65536, 65536, 65536}, Ct2Type::f32, {}).bytes()), {"variable 'a'"});
  expect_words(message(Ct2Bytes().variable("a", {0, 4}, Ct2Type::f32, {}).bytes()), {"'a'", "at least one element"});
  expect_words(message(Ct2Bytes().variable("a", {1}, static_cast<Ct2Type>(6), {0}).bytes()), {"'a' type", "got 6"});
  expect_words(message(Ct2Bytes().integer("a", 1).integer("a", 2).bytes()), {"'a'", "each name once"});
  expect_words(message(Ct2Bytes().alias("a", "b").bytes()), {"alias 'a'", "got 'b'"});
  expect_words(message(Ct2Bytes().integer(std::string("a\nb"), 1).integer("a\nb", 1).bytes()), {"'a?b'"});
  expect_words(message(Ct2Bytes().integer(std::string("a\0b", 3), 1).bytes()), {"only NUL"});
}

TEST(Ct2, TensorsOfTheWrongFormAreErrorsOfTheirOwn) {
  const auto message = [](const Ct2Bytes& file, const std::string& tensor) {
    const std::vector<uint8_t> bytes = file.bytes();
    const Result<Ct2Model> model = parsed(bytes);
    return model.ok() ? model->tensor(tensor).status().message() : model.status().message();
  };
  const std::string q = "model.encoder.layers.0.self_attn.q_proj.weight";
  const std::string fused = "encoder/layer_0/self_attention/linear_0/weight";
  expect_words(message(Ct2Bytes().values(fused, {4}, Ct2Type::f32, std::vector<float>(4)), q), {"3 projections"});
  expect_words(message(Ct2Bytes().values(fused, {3}, Ct2Type::i8, std::vector<int8_t>(3)), q), {"scales", "none"});
  expect_words(message(Ct2Bytes()
                           .values(fused, {3}, Ct2Type::i8, std::vector<int8_t>(3))
                           .values(fused + "_scale", {2}, Ct2Type::f32, std::vector<float>(2)),
                       q),
               {"3 float32", "8 bytes"});
  expect_words(message(Ct2Bytes().values(fused, {3}, Ct2Type::i32, std::vector<int32_t>(3)), q), {"int32"});
  expect_words(message(Ct2Bytes().integer(fused, 1), q), {"a scalar"});
}

TEST(Ct2, RefusesEveryTruncationAndSurvivesMutations) {
  const std::vector<uint8_t> original = small().bytes();
  for (size_t length = 0; length < original.size(); ++length) {
    const std::vector<uint8_t> cut(original.begin(), original.begin() + static_cast<ptrdiff_t>(length));
    ASSERT_FALSE(parsed(cut).ok()) << length;
  }
  Random random;
  for (int round = 0; round < 3000; ++round) {
    std::vector<uint8_t> bytes = original;
    bytes[random.bits() % bytes.size()] = static_cast<uint8_t>(random.bits());
    const Result<Ct2Model> model = parsed(bytes);
    if (!model.ok()) continue;
    for (const std::string& name : model->names()) {
      if (const Result<SourceTensor> tensor = model->tensor(name); tensor.ok()) {
        std::vector<float> values(static_cast<size_t>(tensor->elements()));
        EXPECT_TRUE(tensor->read_rows(0, tensor->rows(), values.data()));
      }
    }
  }
}

TEST(Ct2, ReadsTheRealModel) {
  const char* const folder = std::getenv("KVASS_SPEECH_MODEL");
  if (folder == nullptr) GTEST_SKIP() << "KVASS_SPEECH_MODEL is not set";
  const Result<Ct2Model> model = Ct2Model::open(std::string(folder) + "/model.bin");
  ASSERT_TRUE(model.ok()) << model.status().message();
  EXPECT_EQ(model->specification(), "WhisperSpec");
  EXPECT_EQ(model->layers("encoder"), model->layers("decoder"));
  int64_t elements = 0;
  for (const std::string& name : model->names()) {
    const Result<SourceTensor> tensor = model->tensor(name);
    ASSERT_TRUE(tensor.ok()) << tensor.status().message();
    if (name != "proj_out.weight") elements += tensor->elements();
  }
  // The published number of elements, without the biases of keys.
  EXPECT_EQ(elements, 72603136 - 512 * 6 * 3);
}

}  // namespace
}  // namespace kvass
