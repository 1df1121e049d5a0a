#include "ops/context.h"

#include <algorithm>
#include <cstdlib>

namespace kvass {

Result<Isa> OpContext::State::kernels(std::string_view op, Device device) const {
  KVASS_ASSIGN_OR_RETURN(const Backend backend, get_backend(op, device, {"", backends, environment, isa}, features));
  return backend_isa(backend);
}

Result<uint8_t*> OpContext::State::reserve(size_t bytes) {
  if (bytes > scratch.bytes()) {
    scratch = Block();  // first, so that both are never held
    KVASS_ASSIGN_OR_RETURN(scratch, Block::map(bytes));
  }
  return scratch.data();
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
