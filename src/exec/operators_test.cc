// Every operator of the list, run alone on random values: the instruction sets and devices of this machine give the
// bits of the scalar reference, and an op changes nothing but what its OpSpec says. Made from what each operator says
// of itself, so a new one is covered by being there.
#include "exec/operators.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "base/float_env.h"
#include "device_memory.h"
#include "exec/backend.h"
#include "exec/device/op_view.h"
#include "one_op.h"
#include "ops/linear/requantise.h"
#include "seed.h"
#include "session/cache_memory.h"
#include "streams.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

constexpr RowLimits kLimits = {20, 4, 2};
constexpr int64_t kFrames = 17, kSourceRows = 9;
constexpr uint8_t kUntouched = 0xA5;

std::vector<float> random_floats(Random& random, int64_t count) {
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = static_cast<float>(random.integer(-4000, 4000)) * 0x1p-11f;
  return values;
}

// The weights of the op, packed as `type` (matrices).
WeightStore random_weights(const Program& program, WeightType type, Random& random) {
  WeightStore store;
  std::vector<size_t> offsets;
  size_t bytes = 0;
  for (const Weight& weight : program.weights) {
    offsets.push_back(bytes);
    bytes += weight.outputs == 0 ? static_cast<size_t>(weight.inputs) * 4 + 64
                                 : packed_bytes(type, weight.outputs, weight.inputs).value();
    bytes = (bytes + 63) / 64 * 64;
  }
  store.block = Block::map(bytes + 64).value();
  const WeightType source = whole_type(type);
  for (size_t i = 0; i < program.weights.size(); ++i) {
    const Weight& weight = program.weights[i];
    uint8_t* out = store.block.data() + offsets[i];
    store.vectors.push_back(weight.outputs == 0 ? reinterpret_cast<const float*>(out) : nullptr);
    store.matrices.push_back(weight.outputs == 0 ? PackedWeight()
                                                 : PackedWeight{type, weight.outputs, weight.inputs, out});
    std::vector<uint8_t> rows;
    for (int64_t row = 0; row < std::max<int64_t>(1, weight.outputs); ++row) {
      const std::vector<float> values = random_floats(random, weight.inputs);
      if (weight.outputs == 0) {
        std::memcpy(out, values.data(), values.size() * sizeof(float));
        continue;
      }
      const size_t row_bytes = source_row_bytes(source, weight.inputs);
      rows.resize(rows.size() + row_bytes);
      quantise_row(source, values.data(), weight.inputs, rows.data() + rows.size() - row_bytes);
    }
    if (weight.outputs > 0) {
      pack_panels(type, rows.data(), weight.outputs, weight.inputs, 0, panel_count(weight.outputs), out);
    }
  }
  return store;
}

// What an op may have changed, as bytes.
struct Outcome {
  std::vector<std::vector<uint8_t>> inputs, outputs, caches;
  std::vector<uint8_t> source, cross;
  std::vector<bool> initialised;
};

struct Setting {
  Extent rows = Extent::chunk;
  WeightType weights = WeightType::F32;
  Math math = Math::a16;
  DType dtype = DType::f16;
  int64_t head_rows = 3;
  bool one_run = false;   // of two, as in a branch
  bool in_place = false;  // the first output lies where the first input does
};

// One op on one backend: all that it works on has the same random values whichever backend that is.
class Bench {
 public:
  Bench(OpKind kind, const Setting& setting, const DeviceKernels* device, Isa isa, int threads, const Random& random)
      : one_(kind, setting.rows), setting_(setting), device_(device), random_(random), pool_(threads) {
    const Program& program = one_.program;
    weights_ = random_weights(program, setting.weights, random_);
    std::vector<int64_t> widths;
    for (const Weight& weight : program.weights) widths.push_back(weight.inputs);
    if (device) device_weights_ = DeviceWeights::upload(*device, weights_, widths).value();
    RotaryParams params;
    params.head_dim = 16;
    rotaries_.push_back(make_rotary(params).value());
    model_.emplace(ExecModel{program, weights_, rotaries_, setting.math, isa, device_weights_.get()});
    place_values();
    backend_ = ExecBackend::create(*model_, {kLimits, 64}, plan_.bytes).value();
    frame_ = std::make_unique<Frame>(program, kLimits, backend_->frame_memory());
  }

  // What there is after the op has run; with `idle`, what there was before.
  Outcome run(bool idle = false) {
    FloatEnvironment environment;
    std::vector<std::vector<float>> inputs;
    for (const Value& value : one_.program.values)
      inputs.push_back(random_floats(random_, most_rows(value) * value.width));
    make_sequences();
    begin();
    Op& op = one_.op();
    for (ValueId id : op.outputs) {
      const Value& value = value_of(id);
      const std::vector<uint8_t> untouched(bytes_of(value), kUntouched);
      if (value.view == View::none) write(id, untouched.data(), untouched.size());
    }
    for (ValueId id : op.inputs) {
      const std::vector<float>& values = inputs[static_cast<size_t>(id)];
      if (value_of(id).view == View::none) write(id, values.data(), values.size() * sizeof(float));
    }
    const EncoderInput input{inputs[0].data(), DType::f32, {}, 0};
    const ExecContext context{*model_, *frame_, plan_, backend_->arena(), pool_, &input, {}, kLimits.chunk};
    if (!idle) backend_->run(context, op, 0);
    const Status status = backend_->finish();
    EXPECT_EQ(status.message(), "");
    return outcome();
  }

  // Bytes [first, second) of output i that the op writes.
  std::pair<size_t, size_t> written(size_t i) const {
    const Value& value = value_of(one_.program.ops[0].outputs[i]);
    const auto row = static_cast<size_t>(value.width) * sizeof(float);
    const auto first = static_cast<size_t>(frame_->first_of(value.extent)) * row;
    return {first, first + static_cast<size_t>(frame_->rows_of(value.extent)) * row};
  }

 private:
  const Value& value_of(ValueId id) const { return one_.program.values[static_cast<size_t>(id)]; }
  int64_t most_rows(const Value& value) const { return kLimits.of(one_.program, value.extent); }
  size_t bytes_of(const Value& value) const {
    return static_cast<size_t>(most_rows(value) * value.width) * sizeof(float);
  }

  // Every value for itself, then the workspace.
  void place_values() {
    const Program& program = one_.program;
    size_t at = 0;
    for (const Value& value : program.values) {
      plan_.values.push_back(at);
      at += (bytes_of(value) + 63) / 64 * 64;
    }
    if (setting_.in_place) {
      plan_.values[static_cast<size_t>(one_.op().outputs[0])] = plan_.values[static_cast<size_t>(one_.op().inputs[0])];
    }
    plan_.workspace.push_back(at);
    plan_.bytes = at + workspace_bytes({program, one_.op(), setting_.math, kLimits, pool_.threads()}) + 64;
  }

  // Two sequences with keys in their caches, an encoder's output and filled cross caches.
  void make_sequences() {
    const Program& program = one_.program;
    cache_plan_ = plan_caches(cache_shapes(program), flat_caches(64, kLimits.chunk, setting_.dtype)).value();
    const TileShape cross_shape{setting_.dtype, 2, 16};
    for (size_t i = 0; i < 2; ++i) {
      caches_.push_back(CacheMemory::map(device_ ? device_->runtime : nullptr, cache_plan_.bytes).value());
      std::vector<uint8_t> filled(cache_plan_.bytes, 0);
      const LayerCache& layer = cache_plan_.layers[0];
      fill(layer.shape, layer.ring_segment(filled.data()), 64);
      EXPECT_TRUE(caches_[i].write(0, filled.data(), filled.size()).ok());
      source_.push_back(random_floats(random_, 12 * 32));
      cross_memory_.emplace_back(Block::map(cross_shape.segment_bytes(1)).value());
      const KeySegment segment{cross_memory_[i].data(), 1, 0};
      fill(cross_shape, segment, kSourceRows);
      const bool filled_cross = one_.spec.cross != Access::writes;
      crosses_.push_back({cross_shape, segment, filled_cross, filled_cross ? kSourceRows : 0});
    }
  }
  void fill(const TileShape& shape, const KeySegment& segment, int64_t keys) {
    ThreadPool one(1);
    const std::vector<float> k = random_floats(random_, keys * 32), v = random_floats(random_, keys * 32);
    CacheWriteArgs args;
    args.k = k.data();
    args.v = v.data();
    args.shape = shape;
    const CacheWriteRun run{0, keys, 0, {}, segment};
    args.runs = std::span(&run, 1);
    cache_write(args, one, Isa::scalar);
  }

  void begin() {
    for (int32_t i = 0; i < 17; ++i) tokens_.push_back(static_cast<int32_t>(random_.integer(0, 39)));
    std::vector<FrameRun> runs;
    for (size_t i = 0; i < 2; ++i) {
      FrameRun run;
      run.tokens = i == 0 ? std::span(tokens_).first(6) : std::span(tokens_).subspan(6);
      run.start = i == 0 ? 20 : 3;
      run.plan = &cache_plan_;
      run.caches = caches_[i].data();
      run.source = source_[i].data();
      run.source_rows = kSourceRows;
      run.crosses = std::span(&crosses_[i], 1);
      runs.push_back(run);
    }
    if (one_.place == Place::encode) {
      frame_->begin_encode(runs[1], kFrames);
    } else {
      frame_->begin(runs, rotaries_, pool_);
    }
    EXPECT_EQ(backend_->begin(*frame_).message(), "");
    const std::vector<int32_t> selected = {16, 2, 7};
    frame_->select(std::span(selected).first(static_cast<size_t>(setting_.head_rows)));
    EXPECT_EQ(backend_->select(*frame_).message(), "");
    if (one_.place == Place::encode) return;  // one sequence has begun
    if (one_.place == Place::one_sequence || setting_.one_run) frame_->set_active(frame_->narrow(1, 1));
  }

  void write(ValueId id, const void* from, size_t bytes) {
    uint8_t* to = backend_->arena() + plan_.values[static_cast<size_t>(id)];
    if (!device_) {
      std::memcpy(to, from, bytes);
      return;
    }
    EXPECT_TRUE(device_->runtime->copy(to, from, bytes, CopyKind::to_device, nullptr).ok());
    EXPECT_TRUE(device_->runtime->synchronise(nullptr).ok());
  }
  std::vector<uint8_t> read(ValueId id) {
    if (value_of(id).view != View::none) return {};
    const uint8_t* from = backend_->arena() + plan_.values[static_cast<size_t>(id)];
    const size_t bytes = bytes_of(value_of(id));
    const float* data =
        backend_->read(reinterpret_cast<const float*>(from), static_cast<int64_t>(bytes / sizeof(float))).value();
    const auto* begin = reinterpret_cast<const uint8_t*>(data);
    return {begin, begin + bytes};
  }

  Outcome outcome() {
    Outcome outcome;
    for (ValueId id : one_.op().inputs) outcome.inputs.push_back(read(id));
    for (ValueId id : one_.op().outputs) outcome.outputs.push_back(read(id));
    for (size_t i = 0; i < 2; ++i) {
      const std::span<const uint8_t> bytes = caches_[i].read(0, cache_plan_.bytes).value();
      outcome.caches.emplace_back(bytes.begin(), bytes.end());
      const auto* source = reinterpret_cast<const uint8_t*>(source_[i].data());
      outcome.source.insert(outcome.source.end(), source, source + source_[i].size() * sizeof(float));
      outcome.cross.insert(outcome.cross.end(), cross_memory_[i].data(),
                           cross_memory_[i].data() + cross_memory_[i].bytes());
      outcome.initialised.push_back(crosses_[i].initialised);
    }
    return outcome;
  }

  OneOp one_;
  const Setting setting_;
  const DeviceKernels* device_;
  Random random_;
  ThreadPool pool_;
  WeightStore weights_;
  std::shared_ptr<const DeviceWeights> device_weights_;
  std::vector<Rotary> rotaries_;
  std::optional<ExecModel> model_;
  ArenaPlan plan_;
  std::unique_ptr<ExecBackend> backend_;
  std::unique_ptr<Frame> frame_;
  CachePlan cache_plan_;
  std::vector<CacheMemory> caches_;
  std::vector<std::vector<float>> source_;
  std::vector<Block> cross_memory_;
  std::vector<CrossView> crosses_;
  std::vector<int32_t> tokens_;
};

class EveryOperator : public ::testing::TestWithParam<OpKind> {
 protected:
  const Random random_;  // every bench draws the same

  const OpSpec& spec() const { return op_spec(GetParam()); }

  // Whatever may make a difference to the op.
  void for_each_setting(const std::function<void(const Setting&)>& body) {
    const bool matrix = spec().weight_form == WeightForm::matrix && spec().weights.most > 0;
    for (const Extent rows : example_rows(GetParam())) {
      std::vector<Setting> settings(1);
      settings[0].rows = rows;
      // Each of these on top of all before.
      const auto also = [&](auto&& change) {
        for (size_t i = 0, count = settings.size(); i < count; ++i) {
          settings.push_back(settings[i]);
          change(settings.back());
        }
      };
      also([](Setting& s) { s.one_run = true; });
      if (spec().in_place) also([](Setting& s) { s.in_place = true; });
      if (rows == Extent::head) also([](Setting& s) { s.head_rows = 1; });
      if (matrix) {
        const std::vector<Setting> plain = settings;
        for (const WeightType type : {WeightType::Q8_0, WeightType::Q4_0, WeightType::Q8_0_split}) {
          for (const Math math : {Math::f32, Math::a16, Math::a8}) {
            for (Setting one : plain) {
              one.weights = type;
              one.math = math;
              settings.push_back(one);
            }
          }
        }
      }
      if (spec().state != Access::none || spec().cross != Access::none) {
        const std::vector<Setting> plain = settings;
        for (const DType dtype : {DType::f32, DType::bf16, DType::q8}) {
          for (Setting one : plain) {
            one.dtype = dtype;
            settings.push_back(one);
          }
        }
      }
      for (const Setting& setting : settings) {
        SCOPED_TRACE(::testing::Message()
                     << extent_name(rows) << ", " << weight_type_name(setting.weights) << ", "
                     << math_name(setting.math) << ", " << dtype_name(setting.dtype) << ", " << setting.head_rows
                     << " head rows" << (setting.one_run ? ", one run" : "") << (setting.in_place ? ", in place" : ""));
        body(setting);
      }
    }
  }

  static void expect_same(const Outcome& expected, const Outcome& got) {
    EXPECT_TRUE(expected.outputs == got.outputs) << "outputs";
    EXPECT_TRUE(expected.inputs == got.inputs) << "inputs";
    EXPECT_TRUE(expected.caches == got.caches) << "caches";
    EXPECT_TRUE(expected.source == got.source) << "source";
    EXPECT_TRUE(expected.cross == got.cross) << "cross caches";
    EXPECT_EQ(expected.initialised, got.initialised);
  }
};

TEST_P(EveryOperator, GivesTheBitsOfTheScalarReferenceOnEveryInstructionSet) {
  for_each_setting([&](const Setting& setting) {
    const Outcome expected = Bench(GetParam(), setting, nullptr, Isa::scalar, 1, random_).run();
    for (const Isa isa : available_isas()) {
      for (const int threads : {1, 3}) {
        SCOPED_TRACE(::testing::Message() << isa_name(isa) << ", " << threads << " threads");
        expect_same(expected, Bench(GetParam(), setting, nullptr, isa, threads, random_).run());
      }
    }
  });
}

TEST_P(EveryOperator, GivesTheBitsOfTheCpuOnDevicesThatHaveIt) {
  EXPECT_EQ(device_op(GetParam()) != nullptr, op_on_devices(GetParam()));
  if (!op_on_devices(GetParam())) return;
  for (const DeviceKernels* device : test_devices()) {
    for_each_setting([&](const Setting& setting) {
      // Devices have whole types, and run the rows of all runs.
      if (setting.weights == WeightType::Q8_0_split || setting.one_run) return;
      SCOPED_TRACE(name_of(device));
      expect_same(Bench(GetParam(), setting, nullptr, Isa::scalar, 1, random_).run(),
                  Bench(GetParam(), setting, device, Isa::scalar, 1, random_).run());
    });
  }
}

// So two readers of a value see the same, and a branch writes no rows of other sequences.
TEST_P(EveryOperator, ChangesNothingButWhatItSaysItWrites) {
  for_each_setting([&](const Setting& setting) {
    Bench bench(GetParam(), setting, nullptr, best_isa(), 1, random_);
    const Outcome before = Bench(GetParam(), setting, nullptr, best_isa(), 1, random_).run(true);
    const Outcome after = bench.run();
    if (!setting.in_place) {
      EXPECT_TRUE(before.inputs == after.inputs) << "inputs";
      for (size_t i = 0; i < after.outputs.size(); ++i) {
        const std::vector<uint8_t>& output = after.outputs[i];
        if (output.empty()) continue;  // a view
        const auto [first, end] = bench.written(i);
        const auto untouched = [&](size_t begin, size_t length) {
          const auto from = output.begin() + static_cast<std::ptrdiff_t>(begin);
          return std::all_of(from, from + static_cast<std::ptrdiff_t>(length),
                             [](uint8_t byte) { return byte == kUntouched; });
        };
        EXPECT_TRUE(untouched(0, first) && untouched(end, output.size() - end)) << "output " << i;
        const size_t element = std::min(end - first, size_t{8});  // of an argmax, its index: the rest has a gap
        for (size_t at = first; at < end; at += 2 * element) EXPECT_FALSE(untouched(at, element)) << "byte " << at;
      }
    }
    EXPECT_EQ(before.caches != after.caches, spec().state == Access::writes);
    EXPECT_EQ(before.source != after.source, spec().source == Access::writes);
    EXPECT_EQ(before.cross != after.cross, spec().cross == Access::writes);
    EXPECT_EQ(before.initialised != after.initialised, spec().cross == Access::writes);
  });
}

std::string name_of_kind(const ::testing::TestParamInfo<OpKind>& info) { return std::string(op_kind_name(info.param)); }
INSTANTIATE_TEST_SUITE_P(Ops, EveryOperator, ::testing::ValuesIn(all_op_kinds()), name_of_kind);

}  // namespace
}  // namespace kvass
