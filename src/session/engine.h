// Engine: a program, its packed weights and the choices that hold for everybody who runs it. Immutable after creation
// and shared by sessions; it owns the weights. It knows no caches, no positions, no text.
#pragma once

#include <memory>
#include <vector>

#include "base/cpu.h"
#include "base/hash.h"
#include "base/once.h"
#include "exec/context.h"
#include "exec/device/weights.h"
#include "kernels/rotary/rotary.h"
#include "kvass/cache_plan.h"
#include "kvass/status.h"
#include "ops/linear/linear.h"
#include "ops/linear/weight_store.h"
#include "program/program.h"

namespace kvass {

struct EngineOptions {
  Math math = Math::a16;
  Isa isa = Isa::scalar;
};

class Engine {
 public:
  // Verifies the program and that the store has every weight in the program's shapes. A program without the method
  // `greedy` gets it.
  static Result<std::shared_ptr<const Engine>> create(Program program, WeightStore weights, EngineOptions options);

  // The same engine on this machine's CPU with the kernels of another instruction set, which it has. Shares the
  // weights: how they are packed does not depend on it.
  std::shared_ptr<const Engine> with_isa(Isa isa) const;
  // The same engine on a device: its weights are copied there, its sequences' caches and its sessions' values lie
  // there. An error where the program has an op that devices do not have.
  Result<std::shared_ptr<const Engine>> on_device(const DeviceKernels& device) const;

  const Program& program() const { return program_; }
  const WeightStore& weights() const { return *weights_; }                       // in this machine's memory
  const DeviceWeights* device_weights() const { return device_weights_.get(); }  // null: runs on the CPU
  const DeviceRuntime* device() const;
  // WeightStore::check() of the weights that steps read; those of a device are copies.
  Status check_weights() const { return device_weights_ ? Status() : weights_->check(); }
  Math math() const { return options_.math; }
  Isa isa() const { return options_.isa; }
  ExecModel model() const {  // views of this engine
    return {program_, *weights_, rotaries_, options_.math, options_.isa, device_weights_.get()};
  }
  std::vector<CacheShape> cache_shapes() const;  // [states]
  // Of program and weights (fingerprint.h); what --math makes of them is not in it, nor what follows from the program
  // (`greedy`). Computed at the first call, which reads every weight.
  const Hash128& fingerprint() const;

 private:
  Engine() = default;
  Program program_;
  std::shared_ptr<const WeightStore> weights_;
  std::shared_ptr<const DeviceWeights> device_weights_;
  EngineOptions options_;
  std::vector<Rotary> rotaries_;  // [rotaries of the program]
  struct Fingerprint {
    Once computed;
    Hash128 hash;
  };
  std::shared_ptr<Fingerprint> fingerprint_;  // shared with the engines made of this one, which are of the same model
};

}  // namespace kvass
