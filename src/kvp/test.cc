// A .kvp comes back as it was written, and everything that is wrong with one is refused with a message.
#include <gtest/gtest.h>

#include <functional>

#include "damage.h"
#include "program/fields.h"
#include "program/op_spec.h"
#include "session/session.h"
#include "tiny_encoder.h"
#include "tiny_kvp.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

class Kvp : public ::testing::Test {
 protected:
  ~Kvp() override { std::filesystem::remove(path_); }

  std::vector<uint8_t> written(const KvpParts& parts) {
    const Status status = parts.write(path_);
    EXPECT_TRUE(status.ok()) << status.message();
    return bytes_of(path_);
  }
  // The message with which the parts are refused once `damage` has been at them; empty: they are taken.
  std::string refused(const std::function<void(KvpParts&)>& damage) {
    KvpParts parts;
    damage(parts);
    AlignedBytes bytes(written(parts));
    return parsed(bytes);
  }
  // … once every u64 of the table that is `from` is `to`.
  std::string replaced(uint64_t from, uint64_t to) {
    AlignedBytes bytes(written(KvpParts()));
    int found = 0;
    const size_t end = first_section(bytes);
    for (size_t at = kKvpHeaderBytes; at + 8 <= end; at += 4) {
      if (std::memcmp(bytes.data() + at, &from, 8) != 0) continue;
      std::memcpy(bytes.data() + at, &to, 8);
      ++found;
    }
    EXPECT_GT(found, 0);
    rehash_kvp(bytes.span());
    return parsed(bytes);
  }
  static size_t first_section(AlignedBytes& bytes) {
    return KvpFile::parse(bytes.span(), "file")->sections()[0].offset;
  }
  static std::string parsed(AlignedBytes& bytes) {
    const Result<KvpFile> file = KvpFile::parse(bytes.span(), "file");
    if (file.ok()) return "";
    EXPECT_EQ(file.status().message().find('\n'), std::string::npos);
    EXPECT_TRUE(file.status().message().starts_with("file: ")) << file.status().message();
    return file.status().message();
  }

  const std::string path_ = temporary_path("kvp_test.kvp");
};

template <class T>
void expect_same_fields(const std::vector<T>& a, const std::vector<T>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    for_each_field(a[i], b[i], [&](const Field& field, const auto& one, const auto& other) {
      EXPECT_TRUE(one == other) << field.name << " of " << i;
    });
  }
}
void expect_same_program(const Program& a, const Program& b) {
  static_assert(kProgramFields == 11, "each is compared here");
  expect_same_fields(a.values, b.values);
  expect_same_fields(a.weights, b.weights);
  expect_same_fields(a.states, b.states);
  expect_same_fields(a.rotaries, b.rotaries);
  expect_same_fields(a.crosses, b.crosses);
  expect_same_fields(a.ops, b.ops);
  expect_same_fields(a.branches, b.branches);
  expect_same_fields(a.parts, b.parts);
  EXPECT_EQ(a.source.rows, b.source.rows);
  EXPECT_EQ(a.source.width, b.source.width);
  EXPECT_EQ(a.source.frames, b.source.frames);
  EXPECT_EQ(a.hidden, b.hidden);
  EXPECT_EQ(a.logits, b.logits);
}

TEST_F(Kvp, ComesBackAsItWasWrittenAndTheSameTwice) {
  KvpParts parts(TinyConfig{}, /*decode_method=*/true);
  parts.model.chat_template = "{{ <start_of_turn> }}";
  parts.model.source = "tiny.gguf";
  RotaryParams& rotary = parts.model.program.rotaries[0];
  const std::vector<float> divisors(static_cast<size_t>(rotary.head_dim / 2), 1.5f);
  rotary = {rotary.head_dim, 5000.0, 2.0, true, divisors, 0.75, {2048.0, 24.0, 2.0, 0.5}};
  const std::vector<uint8_t> first = written(parts);
  EXPECT_EQ(first, written(parts));
  const Result<KvpFile> file = KvpFile::open(path_);
  ASSERT_TRUE(file.ok()) << file.status().message();
  const KvpModel& model = file->model();
  EXPECT_EQ(model.chat_template, parts.model.chat_template);
  EXPECT_EQ(model.source, "tiny.gguf");
  EXPECT_EQ(model.trained_context, 32768);
  EXPECT_EQ(model.caches, parts.model.caches);
  expect_same_program(model.program, parts.model.program);
  ASSERT_EQ(model.methods.size(), 2u);
  EXPECT_EQ(model.methods[1].name, "decode");
  EXPECT_EQ(model.methods[1].rows, 1);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(model.methods[i].arena.values, parts.model.methods[i].arena.values);
    EXPECT_EQ(model.methods[i].workspace_bytes, parts.model.methods[i].workspace_bytes);
  }
  for (const KvpSection& section : file->sections()) EXPECT_EQ(section.offset % kKvpPage, 0u);
  for (size_t i = 0; i < model.program.weights.size(); ++i) {
    const PackedWeight &from = parts.weights.matrices[i], &to = file->matrices()[i];
    ASSERT_EQ(from.data == nullptr, to.data == nullptr);
    if (from.data == nullptr) {
      EXPECT_EQ(std::memcmp(parts.weights.vectors[i], file->vectors()[i],
                            static_cast<size_t>(model.program.weights[i].inputs) * sizeof(float)),
                0);
      continue;
    }
    EXPECT_EQ(from.type, to.type);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(to.data) % 64, 0u);
    EXPECT_EQ(std::memcmp(from.data, to.data, packed_bytes(from.type, from.n, from.k).value()), 0);
  }
  const Vocabulary vocabulary = vocabulary_as<Vocabulary>(file->vocabulary().value());
  EXPECT_EQ(vocabulary.pieces, parts.vocabulary.pieces);
  EXPECT_EQ(vocabulary.types, parts.vocabulary.types);
  EXPECT_EQ(vocabulary.scores, parts.vocabulary.scores);
  EXPECT_EQ(vocabulary.bos, parts.vocabulary.bos);
  ThreadPool pool(2);
  EXPECT_TRUE(file->check_weights(pool).ok());
}

TEST_F(Kvp, ByteLevelVocabulariesComeBack) {
  TinyConfig config = tiny_llama();
  config.byte_level = true;
  const KvpParts parts(config);
  AlignedBytes bytes(written(parts));
  const Result<KvpFile> file = KvpFile::parse(bytes.span(), "file");
  const Vocabulary vocabulary = vocabulary_as<Vocabulary>(file->vocabulary().value());
  EXPECT_EQ(vocabulary.kind, VocabularyKind::bpe);
  EXPECT_EQ(vocabulary.merges, parts.vocabulary.merges);
  EXPECT_EQ(vocabulary.pre, parts.vocabulary.pre);
  EXPECT_EQ(vocabulary.nfc, parts.vocabulary.nfc);
}

TEST_F(Kvp, WhatATokenizerDoesToTextComesBack) {
  KvpParts parts;
  parts.vocabulary.kind = VocabularyKind::unigram;
  parts.vocabulary.nfc = parts.vocabulary.remove_extra_whitespaces = true;
  parts.vocabulary.charsmap = std::string("a\0b", 3);
  parts.vocabulary.space_prefix = SpacePrefix::segments;
  AlignedBytes bytes(written(parts));
  const Result<KvpFile> file = KvpFile::parse(bytes.span(), "file");
  ASSERT_TRUE(file.ok()) << file.status().message();
  const Vocabulary vocabulary = vocabulary_as<Vocabulary>(file->vocabulary().value());
  EXPECT_EQ(vocabulary.kind, VocabularyKind::unigram);
  EXPECT_TRUE(vocabulary.nfc);
  EXPECT_TRUE(vocabulary.remove_extra_whitespaces);
  EXPECT_EQ(vocabulary.charsmap, parts.vocabulary.charsmap);
  EXPECT_EQ(vocabulary.space_prefix, SpacePrefix::segments);
}

TEST_F(Kvp, ProgramsWithConditionsAndAnEncoderComeBack) {
  const TinyEncoder tiny;
  const std::shared_ptr<const Engine> engine = tiny.engine(Isa::scalar);
  KvpParts parts;
  parts.model.program = engine->program();
  parts.weights.matrices = engine->weights().matrices;
  parts.weights.vectors = engine->weights().vectors;
  parts.model.caches.context = 40;
  parts.vocabulary.pieces.resize(40);
  parts.plan(true);
  AlignedBytes bytes(written(parts));
  const Result<KvpFile> file = KvpFile::parse(bytes.span(), "file");
  ASSERT_TRUE(file.ok()) << file.status().message();
  const Program& program = file->model().program;
  expect_same_program(program, engine->program());
  EXPECT_FALSE(program.branches.empty());
}

TEST_F(Kvp, DamageIsFoundWhereverItIs) {
  AlignedBytes bytes(written(KvpParts()));
  ASSERT_EQ(parsed(bytes), "");
  const size_t table = first_section(bytes);
  for (size_t at = 0; at < table; at += at < 80 ? 1 : 97) {
    if (at >= 12 && at < 16) continue;  // reserved
    if (at >= 56 && at < 64) continue;
    uint8_t& byte = bytes.data()[at];
    byte ^= 0x40;
    // What lies after the table, up to the first section, is nothing.
    const bool behind = at >= kKvpHeaderBytes + static_cast<size_t>(bytes.span()[24] | bytes.span()[25] << 8 |
                                                                    bytes.span()[26] << 16 | bytes.span()[27] << 24);
    if (!behind) {
      EXPECT_NE(parsed(bytes), "") << at;
    }
    byte ^= 0x40;
  }
  bytes.data()[bytes.span().size() - kKvpPage] ^= 1;  // in the last section
  ASSERT_EQ(parsed(bytes), "") << "weights are read on demand";
  ThreadPool pool(1);
  expect_words(KvpFile::parse(bytes.span(), "file")->check_weights(pool).message(), {"file: section", "hash"});
}

TEST_F(Kvp, CutFilesAreRefused) {
  const std::vector<uint8_t> whole = written(KvpParts());
  for (size_t size : {size_t{0}, size_t{7}, size_t{63}, size_t{64}, size_t{500}, whole.size() / 2, whole.size() - 1}) {
    AlignedBytes bytes(std::span<const uint8_t>(whole).first(size));
    EXPECT_NE(parsed(bytes), "") << size;
  }
}

TEST_F(Kvp, WrongProgramsAreRefused) {
  EXPECT_EQ(refused([](KvpParts&) {}), "");
  const auto op = [](KvpParts& parts, OpKind kind) -> Op& {
    for (Op& one : parts.model.program.ops) {
      if (one.kind == kind) return one;
    }
    return parts.model.program.ops[0];
  };
  expect_words(refused([&](KvpParts& p) { op(p, op_kind("add")).inputs.pop_back(); }), {"arity"});
  expect_words(refused([&](KvpParts& p) { op(p, op_kind("add")).inputs[0] = 1 << 20; }), {"inputs"});
  expect_words(refused([&](KvpParts& p) { op(p, op_kind("add")).inputs[0] = op(p, op_kind("add")).outputs[0]; }),
               {"written before"});  // a cycle
  expect_words(refused([&](KvpParts& p) { op(p, op_kind("linear")).weights[0] = -5; }), {"weights"});
  expect_words(refused([&](KvpParts& p) { op(p, op_kind("attention")).heads = 3; }), {"heads"});
  expect_words(refused([&](KvpParts& p) { op(p, op_kind("attention")).state = 99; }), {"state"});
  expect_words(refused([](KvpParts& p) { p.model.program.values[3].width += 1; }), {"width"});
  expect_words(refused([](KvpParts& p) { p.model.program.hidden = 1; }), {"file"});
  expect_words(refused([](KvpParts& p) { p.model.program.parts[1].begin += 1; }), {"part"});
  expect_words(refused([](KvpParts& p) { p.model.program.ops[0].name = std::string(300, 'x'); }), {"name of an op"});
  expect_words(refused([](KvpParts& p) { p.model.program.values.back().width = 200; }), {"width"});
  expect_words(refused([](KvpParts& p) { p.vocabulary.pieces.resize(301); }), {"vocabulary", "300"});
}

TEST_F(Kvp, TokensWithoutARowOfTheEmbeddingAreRefused) {
  TinyConfig config;
  config.tied = false;
  KvpParts parts(config);
  Weight& table = parts.model.program.weights[static_cast<size_t>(parts.model.program.ops[0].weights[0])];
  table.outputs = 16;
  for (PackedWeight& matrix : parts.weights.matrices) {
    if (matrix.n == 300 && matrix.type == WeightType::Q8_0) matrix.n = 16;
  }
  AlignedBytes bytes(written(parts));
  expect_words(parsed(bytes), {"a row for each of 300 tokens", "16"});
}

TEST_F(Kvp, WrongPlansAreRefused) {
  const auto value = [](KvpParts& parts, size_t id) -> size_t& { return parts.model.methods[0].arena.values[id]; };
  const size_t arena = KvpParts().model.methods[0].arena.bytes;
  expect_words(refused([&](KvpParts& p) { value(p, 1) = arena; }), {"arena"});
  expect_words(refused([&](KvpParts& p) { value(p, 1) = ~size_t{63}; }), {"arena"});
  expect_words(refused([&](KvpParts& p) { value(p, 1) += 4; }), {"arena"});
  expect_words(refused([&](KvpParts& p) { value(p, 1) = value(p, 0); }), {"arena"});  // the residual, still read
  expect_words(refused([](KvpParts& p) { p.model.methods[0].arena.values.pop_back(); }), {"values"});
  expect_words(refused([](KvpParts& p) { p.model.methods[0].workspace_bytes[2] = ~size_t{0}; }), {"arena"});
  expect_words(refused([](KvpParts& p) { p.model.methods[0].arena.bytes = 64; }), {"arena"});
  expect_words(refused([](KvpParts& p) { p.model.methods[0].rows = int64_t{1} << 40; }), {"rows"});
  expect_words(refused([](KvpParts& p) { p.model.methods[0].rows = 0; }), {"rows"});
  expect_words(refused([](KvpParts& p) { p.model.methods[0].rows = 100; }), {"arena"});  // values that are larger
  expect_words(refused([](KvpParts& p) { p.model.methods.clear(); }), {"methods"});
}

TEST_F(Kvp, WrongCachesAreRefused) {
  expect_words(refused([](KvpParts& p) { p.cache_lens[2] += 1; }), {"cache 2"});
  const size_t bytes = plan_caches({{2, 16, 0}}, KvpParts().model.caches)->bytes;  // of a full layer
  EXPECT_NE(replaced(bytes, bytes + 64), "");
}

TEST_F(Kvp, SectionsStayInsideTheFileAndApart) {
  AlignedBytes bytes(written(KvpParts()));
  const Result<KvpFile> file = KvpFile::parse(bytes.span(), "file");
  const uint64_t second = file->sections()[1].offset, third = file->sections()[2].offset;
  expect_words(replaced(second, second + 64), {"section 1", "pages"});
  expect_words(replaced(third, second), {"section 2"});
  expect_words(replaced(second, ~uint64_t{4095}), {"section 1"});
  expect_words(replaced(second, 0), {"section 1"});
  expect_words(replaced(file->sections()[1].bytes, uint64_t{1} << 40), {"section 1"});
  expect_words(replaced(file->sections()[1].bytes, 64), {"weight"});
}

TEST_F(Kvp, OtherVersionsAreRefused) {
  AlignedBytes bytes(written(KvpParts()));
  bytes.data()[8] = 2;
  expect_words(parsed(bytes), {"version", "1", "2"});
}

TEST_F(Kvp, AFileThatCannotBeWrittenLeavesTheOldOne) {
  const std::vector<uint8_t> before = written(KvpParts());
  EXPECT_FALSE(KvpParts().write("/nowhere/model.kvp").ok());
  KvpParts other;
  other.model.caches.sinks = true;
  other.model.caches.sink_window = 100;  // more than the context
  EXPECT_FALSE(other.write(path_).ok());
  EXPECT_EQ(bytes_of(path_), before);
}

}  // namespace
}  // namespace kvass
