// include/kvass/plan.h.
#include "kvass/plan.h"

#include "api/guard.h"
#include "api/model_impl.h"
#include "base/check_enum.h"

namespace kvass {

Result<StreamOptions> resolve_stream(const Model::Impl& model, const StreamOptions& options) {
  StreamOptions resolved = options.over(model.info.streams);
  resolved.kv = resolved.storage();
  resolved.math = resolved.arithmetic();
  if (resolved.has_sinks()) resolved.sink_positions = resolved.positions();
  KVASS_RETURN_IF_ERROR(check_enum("StreamOptions.math", *resolved.math, math_name));
  if (model.loaded() && resolved.math != model.info.streams.math) {
    return bad_input("StreamOptions.math",
                     std::string(math_name(model.info.streams.arithmetic())) + ", with which the model is loaded",
                     math_name(*resolved.math));
  }
  return resolved;
}

Result<PlannedModel> planned_model(const Model::Impl& model, const LoadOptions& load) {
  if (model.loaded()) {
    const OpenModel& opened = *model.opened;
    return PlannedModel::of(opened.engine->program(), opened.engine->weights().bytes(), model.info.trained_context,
                            opened.methods.size() > 1, model.load.device);
  }
  KVASS_ASSIGN_OR_RETURN(const WeightOptions weights, weight_options(load));
  {
    const std::lock_guard lock(model.mutex);
    if (model.file) return PlannedModel::of(*model.file, weights);
  }
  KVASS_ASSIGN_OR_RETURN(const ModelFile file, ModelFile::open(model.info.path));
  return PlannedModel::of(file, weights);
}

namespace {

// What is asked about, with its options settled.
struct Question {
  PlannedModel model;
  StreamOptions options;
};

Result<Question> question(const Model& model, const StreamOptions& options, const LoadOptions& load) {
  KVASS_ASSIGN_OR_RETURN(const std::shared_ptr<const Model::Impl> impl, impl_of(model));
  StreamOptions asked = options;
  if (!impl->loaded() && load.math && !asked.math) asked.math = load.math;
  KVASS_ASSIGN_OR_RETURN(StreamOptions resolved, resolve_stream(*impl, asked));
  if (impl->info.kind == ModelKind::speech)
    resolved.sequences = options.sequences > 1 ? options.sequences : kSpeechSequences;
  KVASS_ASSIGN_OR_RETURN(PlannedModel planned, planned_model(*impl, load));
  return Question{std::move(planned), resolved};
}

}  // namespace

Result<MemoryPlan> plan_memory(const Model& model, const StreamOptions& options, const LoadOptions& load) {
  return guarded({"StreamOptions", "LoadOptions"}, [&]() -> Result<MemoryPlan> {
    KVASS_ASSIGN_OR_RETURN(const Question asked, question(model, options, load));
    KVASS_RETURN_IF_ERROR(asked.model.check_limit(asked.options, asked.options.logit_rows));
    return asked.model.plan(asked.options, asked.options.logit_rows);
  });
}

Result<ArenaFigures> arena_figures(const Model& model, const StreamOptions& options) {
  return guarded({"StreamOptions", "LoadOptions"}, [&]() -> Result<ArenaFigures> {
    KVASS_ASSIGN_OR_RETURN(const Question asked, question(model, options, {}));
    return asked.model.arena(asked.options, asked.options.logit_rows);
  });
}

Result<CacheTotals> cache_totals(const Model& model, const StreamOptions& options) {
  return guarded({"StreamOptions", "LoadOptions"}, [&]() -> Result<CacheTotals> {
    KVASS_ASSIGN_OR_RETURN(const Question asked, question(model, options, {}));
    return asked.model.totals(asked.options);
  });
}

Result<int64_t> largest_context(const Model& model, size_t bytes, const StreamOptions& options,
                                const LoadOptions& load) {
  return guarded({"StreamOptions", "LoadOptions"}, [&]() -> Result<int64_t> {
    KVASS_ASSIGN_OR_RETURN(Question asked, question(model, options, load));
    if (!options.context && !options.attention_sink) asked.options.context = model.info().trained_context;
    return asked.model.largest_context(asked.options, asked.options.logit_rows, bytes);
  });
}

std::string plan_text(const MemoryPlan& plan) {
  const std::string line = plan_line(plan);  // "kvass: …\n"
  constexpr size_t kName = 7;
  return line.substr(kName, line.size() - kName - 1);
}

}  // namespace kvass
