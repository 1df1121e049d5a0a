#include "session/engine.h"

#include <string>
#include <utility>

#include "exec/device/backend.h"
#include "ops/device_kernels.h"
#include "program/greedy.h"
#include "session/fingerprint.h"

namespace kvass {

std::vector<CacheShape> Engine::cache_shapes() const { return kvass::cache_shapes(program_); }

const Hash128& Engine::fingerprint() const {
  fingerprint_->computed.call([this] { fingerprint_->hash = fingerprint_of(without_greedy(program_), *weights_); });
  return fingerprint_->hash;
}

Result<std::shared_ptr<const Engine>> Engine::create(Program program, WeightStore weights, EngineOptions options) {
  KVASS_RETURN_IF_ERROR(verify_program(program));
  if (weights.matrices.size() != program.weights.size() || weights.vectors.size() != program.weights.size()) {
    return bad_input("weights", std::to_string(program.weights.size()), std::to_string(weights.matrices.size()));
  }
  for (size_t i = 0; i < program.weights.size(); ++i) {
    const Weight& weight = program.weights[i];
    const bool present = weight.outputs == 0
                             ? weights.vectors[i] != nullptr
                             : weights.matrices[i].data != nullptr && weights.matrices[i].n == weight.outputs &&
                                   weights.matrices[i].k == weight.inputs;
    if (!present) {
      return bad_input("weight '" + weight.name + "'",
                       std::to_string(weight.outputs) + " x " + std::to_string(weight.inputs),
                       "another shape, or none");
    }
  }
  std::shared_ptr<Engine> engine(new Engine());
  for (const RotaryParams& params : program.rotaries) {
    KVASS_ASSIGN_OR_RETURN(Rotary rotary, make_rotary(params));
    engine->rotaries_.push_back(std::move(rotary));
  }
  add_greedy(program);
  engine->program_ = std::move(program);
  engine->weights_ = std::make_shared<const WeightStore>(std::move(weights));
  engine->options_ = options;
  engine->fingerprint_ = std::make_shared<Fingerprint>();
  return std::shared_ptr<const Engine>(std::move(engine));
}

std::shared_ptr<const Engine> Engine::with_isa(Isa isa) const {
  std::shared_ptr<Engine> engine(new Engine(*this));
  engine->options_.isa = isa;
  engine->device_weights_ = nullptr;
  return engine;
}

const DeviceRuntime* Engine::device() const { return device_weights_ ? device_weights_->kernels->runtime : nullptr; }

Result<std::shared_ptr<const Engine>> Engine::on_device(const DeviceKernels& device) const {
  KVASS_RETURN_IF_ERROR(check_device_program(program_));
  std::vector<int64_t> widths;
  for (const Weight& weight : program_.weights) widths.push_back(weight.inputs);
  std::shared_ptr<Engine> engine(new Engine(*this));
  KVASS_ASSIGN_OR_RETURN(engine->device_weights_, DeviceWeights::upload(device, *weights_, widths));
  KVASS_RETURN_IF_ERROR(weights_->check());
  return std::shared_ptr<const Engine>(std::move(engine));
}

}  // namespace kvass
