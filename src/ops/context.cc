#include "ops/context.h"

#include <algorithm>
#include <cstdlib>

namespace kvass {

Result<Backend> OpContext::State::backend(std::string_view op, Device device) const {
  return get_backend(op, device, {"", backends, environment, isa}, features);
}

Result<Isa> OpContext::State::kernels(std::string_view op, Device device) const {
  KVASS_ASSIGN_OR_RETURN(const Backend chosen, backend(op, device));
  return backend_isa(chosen);
}

Status OpContext::State::use(Device device, const DeviceKernels& kernels) {
  KVASS_ASSIGN_OR_RETURN(const DeviceProperties properties, kernels.runtime->properties());
  Remote& remote = remotes[device == Device::cuda ? 0 : 1];
  remote.kernels = &kernels;
  remote.processors = properties.processors;
  remote.shared_bytes = static_cast<int64_t>(properties.shared_bytes);
  (device == Device::cuda ? features.cuda : features.rocm).clear();
  return {};
}

Result<OpContext::State::Remote*> OpContext::State::remote(Device device) {
  Remote& remote = remotes[device == Device::cuda ? 0 : 1];
  if (!remote.kernels) {
    KVASS_ASSIGN_OR_RETURN(const DeviceKernels* const kernels, device_kernels(device));
    KVASS_RETURN_IF_ERROR(use(device, *kernels));
  }
  return &remote;
}

Result<uint8_t*> OpContext::State::reserve(size_t bytes) {
  if (bytes > scratch.bytes()) {
    scratch = Block();  // first, so that both are never held
    KVASS_ASSIGN_OR_RETURN(scratch, Block::map(bytes, "scratch"));
  }
  return scratch.data();
}

Result<uint8_t*> OpContext::State::reserve(Remote& remote, size_t bytes) {
  const DeviceRuntime& runtime = *remote.kernels->runtime;
  if (bytes > remote.scratch.bytes()) {
    KVASS_ASSIGN_OR_RETURN(const bool capturing, runtime.capturing(stream));
    if (capturing) {
      return bad_input("scratch in a captured graph", "a call of this size before the capture, which allocates it",
                       std::to_string(bytes) + " bytes where there are " + std::to_string(remote.scratch.bytes()));
    }
    remote.scratch = DeviceBlock();  // first, so that both are never held
    KVASS_ASSIGN_OR_RETURN(remote.scratch, DeviceBlock::map(runtime, bytes, "scratch"));
  }
  return remote.scratch.data();
}

// Work on the old device stream may still use the scratch, so the new one waits for it. A device stream that is being
// captured cannot wait: a caller that captures must have waited for the device before.
Status OpContext::set_stream(void* stream) {
  KVASS_RETURN_IF_ERROR(check_context(*this, "set_stream"));
  const std::lock_guard lock(state_->mutex);
  if (stream == state_->stream) return {};
  for (State::Remote& remote : state_->remotes) {
    if (!remote.kernels || remote.scratch.bytes() == 0) continue;
    const DeviceRuntime& runtime = *remote.kernels->runtime;
    KVASS_ASSIGN_OR_RETURN(const bool captured, runtime.capturing(stream));
    if (captured) continue;
    if (!remote.event) {
      KVASS_ASSIGN_OR_RETURN(remote.event, runtime.create_event());
    }
    KVASS_RETURN_IF_ERROR(runtime.record(remote.event, state_->stream));
    KVASS_RETURN_IF_ERROR(runtime.wait(stream, remote.event));
  }
  state_->stream = stream;
  return {};
}

OpContext::State::~State() {
  for (Remote& remote : remotes) {
    if (remote.event) remote.kernels->runtime->destroy_event(remote.event);
  }
}

Status check_context(OpContext& context, std::string_view op) {
  if (context.state() != nullptr) return {};
  return bad_input(std::string(op) + ": context", "one that was created", "one that was moved from");
}

OpContext::OpContext(std::unique_ptr<State> state) : state_(std::move(state)) {}
OpContext::OpContext(OpContext&&) noexcept = default;
OpContext& OpContext::operator=(OpContext&&) noexcept = default;
OpContext::~OpContext() = default;

Result<OpContext> OpContext::create(const Options& options) {
  constexpr int kMostThreads = 1024;
  if (options.threads < 0 || options.threads > kMostThreads) {
    return bad_input("threads", "0 to " + std::to_string(kMostThreads), std::to_string(options.threads));
  }
  auto state = std::make_unique<State>(options.threads == 0 ? usable_cpus() : options.threads);
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value ? value : "");
  };
  state->features = detect_features();
  state->backends = options.backends;
  state->environment = variable("KVASS_BACKEND");
  state->isa = variable("KVASS_ISA");
  KVASS_RETURN_IF_ERROR(check_backend_list("backends of the context", state->backends));
  KVASS_RETURN_IF_ERROR(check_backend_list("KVASS_BACKEND", state->environment));
  KVASS_RETURN_IF_ERROR(choose_isa(state->features.cpu, state->isa).status());
  return OpContext(std::move(state));
}

}  // namespace kvass
