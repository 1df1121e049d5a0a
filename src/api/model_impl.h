// What a Model is inside: a file whose metadata has been read, and once it is loaded an engine.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "app/open.h"
#include "app/plan.h"
#include "kvass/model.h"

namespace kvass {

struct Model::Impl {
  ModelInfo info;
  LoadOptions load;                            // of a loaded one
  std::shared_ptr<const Tokenizer> tokenizer;  // of a text model
  std::optional<OpenModel> opened;             // loaded
  double load_seconds = 0.0;
  // The file until its pages become weights; the first load takes it, and later ones open it again.
  mutable std::mutex mutex;
  mutable std::optional<ModelFile> file;

  bool loaded() const { return opened.has_value(); }
};

// The model's inside, or an error where there is none, it is not loaded, or it is of another kind.
Result<std::shared_ptr<const Model::Impl>> impl_of(const Model& model);
Result<std::shared_ptr<const Model::Impl>> loaded_impl_of(const Model& model, ModelKind kind);

// How the weights come into memory.
Result<WeightOptions> weight_options(const LoadOptions& options);
// The options of a stream of this model: every field has a value, and the math is that of the loaded model.
Result<StreamOptions> resolve_stream(const Model::Impl& model, const StreamOptions& options);
// The file's memory, before or after it is loaded.
Result<PlannedModel> planned_model(const Model::Impl& model, const LoadOptions& load);

}  // namespace kvass
