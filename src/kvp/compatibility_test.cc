// Files of other versions: fields that this one does not know are passed over, what it must have and what it must know
// are asked for by name.
#include <flatbuffers/flatbuffers.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "damage.h"
#include "program/greedy.h"
#include "session/session.h"
#include "tiny_encoder.h"
#include "tiny_kvp.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests
using flatbuffers::Table;

// Fields of Model (schema.fbs), by their place.
enum Field {
  needs,
  producer,
  numerics,
  family,
  source,
  trained_context,
  chat_template,
  math,
  program,
  vocabulary,
  caches,
  methods,
  sections,
  speech
};
constexpr flatbuffers::voffset_t entry_of(int field) { return static_cast<flatbuffers::voffset_t>(4 + 2 * field); }

// A file whose table can be changed, and how it is read then.
class Editable {
 public:
  explicit Editable(const KvpParts& parts) {
    const std::string path = temporary_path("compatibility_test.kvp");
    EXPECT_EQ(parts.write(path).message(), "");
    bytes_ = std::make_unique<AlignedBytes>(bytes_of(path));
    std::filesystem::remove(path);
  }

  Table* root() { return flatbuffers::GetMutableRoot<Table>(bytes_->data() + kKvpHeaderBytes); }
  Table* child(Field field) { return root()->GetPointer<Table*>(entry_of(field)); }

  // As a writer that knows more fields would have written `table`: a longer vtable, at the end of the buffer.
  void add_fields(Table* table, int count) {
    uint64_t size = 0;
    std::memcpy(&size, bytes_->data() + 24, 8);
    size = (size + 7) / 8 * 8;
    const uint8_t* old = table->GetVTable();
    const auto old_bytes = flatbuffers::ReadScalar<uint16_t>(old);
    uint8_t* grown = bytes_->data() + kKvpHeaderBytes + size;
    std::memcpy(grown, old, old_bytes);
    // The fields of this version that the old one left out stay left out.
    constexpr int kMost = 40;
    uint16_t new_bytes = old_bytes;
    for (; new_bytes < 4 + 2 * kMost; new_bytes += 2) flatbuffers::WriteScalar<uint16_t>(grown + new_bytes, 0);
    for (int i = 0; i < count; ++i, new_bytes += 2) flatbuffers::WriteScalar<uint16_t>(grown + new_bytes, 4);
    flatbuffers::WriteScalar<uint16_t>(grown, new_bytes);
    auto* const at = reinterpret_cast<uint8_t*>(table);
    flatbuffers::WriteScalar<flatbuffers::soffset_t>(at, static_cast<int32_t>(at - grown));
    size += new_bytes;
    std::memcpy(bytes_->data() + 24, &size, 8);
  }
  // The field is not in the file.
  void drop(Field field) {
    const uint8_t* vtable = root()->GetVTable();
    if (flatbuffers::ReadScalar<uint16_t>(vtable) <= entry_of(field)) return;
    flatbuffers::WriteScalar<uint16_t>(const_cast<uint8_t*>(vtable) + entry_of(field), 0);
  }

  Result<KvpFile> parse() {
    rehash_kvp(bytes_->span());
    return KvpFile::parse(bytes_->span(), "file");
  }
  std::string refused() {
    const Result<KvpFile> file = parse();
    if (file.ok()) return "";
    EXPECT_TRUE(file.status().message().starts_with("file: ")) << file.status().message();
    return file.status().message();
  }

 private:
  std::unique_ptr<AlignedBytes> bytes_;
};

// A small model that hears.
KvpParts speech_parts() {
  const TinyEncoder tiny;
  const std::shared_ptr<const Engine> engine = tiny.engine(Isa::scalar);
  KvpParts parts;
  parts.model.program = engine->program();
  // The engine's weights go with it.
  static std::vector<std::shared_ptr<const Engine>> kept;
  kept.push_back(engine);
  parts.weights.matrices = engine->weights().matrices;
  parts.weights.vectors = engine->weights().vectors;
  parts.model.caches.context = parts.model.caches.chunk = 40;
  parts.model.speech = KvpSpeech{{{1, 0}, {0, 1}}};
  parts.vocabulary = {};
  for (int i = 0; i < 50; ++i) parts.vocabulary.pieces.push_back("piece " + std::to_string(i));
  SessionOptions options;
  options.rows = 40;
  parts.model.methods = plan_methods(parts.model.program, parts.model.math, options).value();
  parts.cache_lens = kept_tokens(parts.model.program, parts.model.caches).value();
  return parts;
}

// Files of versions before `greedy`: an engine adds it and plans its session anew.
TEST(KvpCompatibility, AProgramWithoutGreedyGivesTheSameTokens) {
  KvpParts parts;
  parts.model.program = without_greedy(parts.model.program);
  SessionOptions options;
  options.rows = 8;
  parts.model.methods = plan_methods(parts.model.program, parts.model.math, options).value();
  Editable editable(parts);
  const Result<KvpFile> file = editable.parse();
  ASSERT_TRUE(file.ok()) << file.status().message();
  EXPECT_EQ(file->model().program.argmax(), kNone);
  WeightStore weights;
  weights.matrices = file->matrices();
  weights.vectors = file->vectors();
  const std::shared_ptr<const Engine> engine =
      Engine::create(file->model().program, std::move(weights), {file->model().math, Isa::scalar}).value();
  const std::unique_ptr<Session> session = Session::create(engine, options, file->model().methods).value();
  const std::unique_ptr<Sequence> sequence = Sequence::create(engine, file->model().caches).value();
  const std::vector<int32_t> tokens = {3, 1, 4};
  const kvass::Run run{sequence.get(), 0, tokens};
  const int32_t last = 2;
  const StepResult result = session->step({.runs = {&run, 1}, .logits = {&last, 1}, .argmax = {&last, 1}}).value();
  const Argmax expected = argmax_for(Isa::scalar)(result.logits.data(), static_cast<int64_t>(result.logits.size()));
  EXPECT_EQ(result.argmax[0].index, expected.index);
  EXPECT_EQ(result.argmax[0].value, expected.value);
}

TEST(KvpCompatibility, FieldsOfANewerVersionArePassedOver) {
  const KvpParts parts;
  const std::string expected = print_program(parts.model.program);
  for (const Field field : {program, vocabulary, caches}) {
    Editable file(parts);
    file.add_fields(file.root(), 3);
    file.add_fields(file.child(field), 2);
    const Result<KvpFile> read = file.parse();
    ASSERT_TRUE(read.ok()) << read.status().message();
    EXPECT_EQ(print_program(read->model().program), expected);
    EXPECT_EQ(read->model().caches, parts.model.caches);
    EXPECT_EQ(vocabulary_as<Vocabulary>(read->vocabulary().value()).pieces, parts.vocabulary.pieces);
    EXPECT_FALSE(read->model().speech);
  }
  // In the tables of lists too: the first operator, the first method.
  Editable file(parts);
  auto* ops = file.child(program)->GetPointer<flatbuffers::Vector<flatbuffers::Offset<Table>>*>(entry_of(5));
  file.add_fields(ops->GetMutableObject(0), 5);
  auto* methods_list = file.root()->GetPointer<flatbuffers::Vector<flatbuffers::Offset<Table>>*>(entry_of(methods));
  file.add_fields(methods_list->GetMutableObject(0), 1);
  EXPECT_EQ(file.refused(), "");
}

TEST(KvpCompatibility, FieldsThatAFileLacksAreAskedForByName) {
  const std::pair<Field, const char*> required[] = {{numerics, "numerics version"},
                                                    {trained_context, "trained context"},
                                                    {math, "math"},
                                                    {program, "program"},
                                                    {vocabulary, "vocabulary"},
                                                    {caches, "caches"},
                                                    {methods, "methods"},
                                                    {sections, "section"}};
  const KvpParts parts;
  for (const auto& [field, name] : required) {
    Editable file(parts);
    file.drop(field);
    expect_words(file.refused(), {name, "expected", "got"});
  }
  for (const Field field : {needs, producer, family, source, chat_template, speech}) {
    Editable file(parts);
    file.drop(field);
    EXPECT_EQ(file.refused(), "") << field;
  }
}

TEST(KvpCompatibility, WhatAFileNeedsMustBeKnown) {
  const KvpParts parts = speech_parts();
  Editable good(parts);
  const Result<KvpFile> read = good.parse();
  ASSERT_TRUE(read.ok()) << read.status().message();
  EXPECT_EQ(read->model().speech->alignment_heads, parts.model.speech->alignment_heads);
  EXPECT_EQ(read->speech_vocabulary()->pieces, parts.vocabulary.pieces);
  expect_words(read->vocabulary().status().message(), {"a model that writes text", "kvass transcribe"});
  EXPECT_FALSE(Editable(KvpParts()).parse()->speech_vocabulary().ok());

  Editable newer(parts);
  auto* names =
      newer.root()->GetPointer<flatbuffers::Vector<flatbuffers::Offset<flatbuffers::String>>*>(entry_of(needs));
  ASSERT_NE(names, nullptr);
  auto* name = const_cast<char*>(names->Get(0)->c_str());
  ASSERT_EQ(std::string(name), "speech");
  std::copy_n("future", 6, name);
  expect_words(newer.refused(), {"needs", "nothing that this version does not know", "future"});

  Editable without(parts);
  without.drop(speech);
  expect_words(without.refused(), {"speech", "what the file needs", "none"});
  Editable text(parts);  // a speech vocabulary where there is no speech
  text.drop(speech);
  text.drop(needs);
  expect_words(text.refused(), {"vocabulary", "spm or bpe", "speech"});
}

TEST(KvpCompatibility, WrongAlignmentHeadsAreRefused) {
  for (const auto& head : {std::pair<int64_t, int64_t>{2, 0}, {-1, 0}, {0, -1}}) {
    KvpParts parts = speech_parts();
    parts.model.speech->alignment_heads.push_back(head);
    expect_words(Editable(parts).refused(), {"alignment heads"});
  }
}

TEST(KvpCompatibility, ManyBranchesAreVerifiedAllTheSame) {
  constexpr int kConds = 8000;
  ProgramBuilder builder;
  const WeightId table = builder.matrix("table", 300, 16);
  builder.encoder(4, 16, 8);
  const CrossId cross = builder.cross_cache("cross", 1, 16);
  builder.begin_part("encode");
  builder.store_source(builder.input(16, Extent::source));
  builder.begin_part("body");
  ValueId x = builder.embed(table, 1.0f);
  for (int i = 0; i < kConds; ++i) {
    x = builder.cond(
        "either", builder.is_initialised(cross), [&] { return builder.copy("then", x); },
        [&] { return builder.copy("else", x); });
  }
  builder.set_hidden(x);
  builder.begin_part("head");
  builder.set_logits(builder.linear("logits", builder.select_rows(x), table));
  const Program program = std::move(builder).finish();
  ASSERT_EQ(verify_program(program).message(), "");
  const std::vector<size_t> none(program.ops.size(), 0);
  ArenaPlan plan;
  plan.workspace.assign(program.ops.size(), 0);
  plan.values.assign(program.values.size(), 0);
  plan.bytes = 1 << 20;
  EXPECT_NE(check_arena(program, {1, 1, 1}, none, plan).message(), "") << "all at one place";
}

}  // namespace
}  // namespace kvass
