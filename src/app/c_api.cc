// include/kvass/kvass.h: C around open models, sessions and sequences. The one place where exceptions end.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <utility>

#include "app/open.h"
#include "kvass/fields.h"
#include "kvass/kvass.h"
#include "kvass/version.h"
#include "session/snapshot.h"

struct kvass_model {
  // Shared with the sequences, so that it may be freed before them.
  struct Loaded {
    kvass::OpenModel model;
    kvass::StreamOptions stream;
    kvass::CacheOptions caches;
  };
  std::shared_ptr<const Loaded> loaded;
};

struct kvass_sequence {
  std::shared_ptr<const kvass_model::Loaded> loaded;
  kvass::Stream stream;
  int32_t last_row = -1;  // of the last run; -1: it has no logits
  std::atomic<bool> busy{false};
};

namespace {

using namespace kvass;  // NOLINT: one file

// Of this thread. A message that cannot be kept is cut; nothing here allocates.
thread_local char g_message[1024] = "";

kvass_code fail(kvass_code code, std::string_view message) {
  const size_t count = std::min(message.size(), sizeof g_message - 1);
  std::memcpy(g_message, message.data(), count);
  g_message[count] = '\0';
  return code;
}

kvass_code code_of(StatusCode code) {
  switch (code) {
    case StatusCode::ok:
      return KVASS_OK;
    case StatusCode::bad_input:
      return KVASS_BAD_INPUT;
    case StatusCode::busy:
      return KVASS_BUSY;
    case StatusCode::cache_full:
      return KVASS_CACHE_FULL;
    case StatusCode::out_of_memory:
      return KVASS_OUT_OF_MEMORY;
    case StatusCode::io:
      return KVASS_IO;
    case StatusCode::device:
      return KVASS_DEVICE;
    case StatusCode::cancelled:
      return KVASS_CANCELLED;
    case StatusCode::unsupported:
      return KVASS_UNSUPPORTED;
    case StatusCode::internal:
      break;
  }
  return KVASS_INTERNAL;
}

// The field of a struct of C that stands for one of the library in messages; empty: none.
std::string_view field_of_c(std::string_view field) {
  struct Row {
    std::string_view field, in_c;
  };
  static constexpr Row kRows[] = {
      {"StreamOptions.context", "max_context_len"}, {"CacheOptions.context", "max_context_len"},
      {"StreamOptions.chunk", "input_len"},         {"CacheOptions.chunk", "input_len"},
      {"StreamOptions.threads", "threads"},         {"WeightOptions.pages", "huge_pages"},
      {"WeightOptions.check", "check_weights"}};
  for (const Row& row : kRows) {
    if (row.field == field) return row.in_c;
  }
  return {};
}

// Runs `body`, which returns a Status; whatever it throws becomes a code.
template <class Body>
kvass_code guarded(Body&& body) {
  g_message[0] = '\0';
  try {
    const Status status = body();
    return status.ok() ? KVASS_OK : fail(code_of(status.code()), translate_fields(status.message(), field_of_c));
  } catch (const std::bad_alloc&) {
    return fail(KVASS_OUT_OF_MEMORY, "memory: expected some more, got none");
  } catch (const std::exception& error) {
    return fail(KVASS_INTERNAL, error.what());
  } catch (...) {
    return fail(KVASS_INTERNAL, "an exception of no known kind");
  }
}

template <class Body>
kvass_code with_sequence(kvass_sequence* sequence, Body&& body) {
  if (sequence == nullptr) return fail(KVASS_BAD_INPUT, "sequence: expected one, got NULL");
  if (sequence->busy.exchange(true, std::memory_order_acquire)) {
    return fail(KVASS_BUSY, "sequence: expected one caller at a time, got a second one");
  }
  const kvass_code code = guarded(std::forward<Body>(body));
  sequence->busy.store(false, std::memory_order_release);
  return code;
}

Status given(const void* pointer, const char* what) {
  return pointer != nullptr ? Status() : bad_input(what, "a pointer", "NULL");
}

Result<const MethodPlan*> find_method(const Session& session, const char* name) {
  std::string known;
  for (const MethodPlan& method : session.methods()) {
    if (method.name == name) return &method;
    known += (known.empty() ? "" : ", ") + method.name;
  }
  return bad_input("method", known, std::string(name).substr(0, 64));
}

Result<std::shared_ptr<const kvass_model::Loaded>> load(const char* path, const kvass_load_options& options) {
  auto loaded = std::make_shared<kvass_model::Loaded>();
  KVASS_ASSIGN_OR_RETURN(ModelFile file, ModelFile::open(path));
  loaded->stream = file.stream_options();
  if (options.max_context_len != 0) loaded->stream.context = options.max_context_len;
  if (options.input_len != 0) loaded->stream.chunk = options.input_len;
  KVASS_ASSIGN_OR_RETURN(loaded->stream.threads, resolve_threads(options.threads));
  WeightOptions weights;
  weights.check = options.check_weights != 0;
  if (options.huge_pages != 0) weights.pages = Pages::huge;
  KVASS_ASSIGN_OR_RETURN(loaded->caches, resolve_caches(loaded->stream, file.trained_context()));
  KVASS_ASSIGN_OR_RETURN(loaded->model,
                         open_model(std::move(file), loaded->stream.math, loaded->stream.threads, weights));
  return std::shared_ptr<const kvass_model::Loaded>(std::move(loaded));
}

}  // namespace

extern "C" {

const char* kvass_version(void) { return KVASS_VERSION; }

const char* kvass_message(void) { return g_message; }

kvass_code kvass_load(const char* path, const kvass_load_options* options, kvass_model** model) {
  return guarded([&]() -> Status {
    KVASS_RETURN_IF_ERROR(given(path, "path"));
    KVASS_RETURN_IF_ERROR(given(model, "model"));
    kvass_load_options all{};
    if (options != nullptr) {
      if (options->struct_size < sizeof(size_t)) {
        return bad_input("struct_size", "sizeof(kvass_load_options)", std::to_string(options->struct_size));
      }
      std::memcpy(&all, options, std::min(options->struct_size, sizeof all));
    }
    auto made = std::make_unique<kvass_model>();
    KVASS_ASSIGN_OR_RETURN(made->loaded, load(path, all));
    *model = made.release();
    return {};
  });
}

void kvass_free(kvass_model* model) { delete model; }

int64_t kvass_vocabulary(const kvass_model* model) {
  return model == nullptr ? 0 : model->loaded->model.engine->program().vocabulary();
}

int64_t kvass_input_len(const kvass_model* model) { return model == nullptr ? 0 : model->loaded->caches.chunk; }

size_t kvass_weight_bytes(const kvass_model* model) {
  return model == nullptr ? 0 : model->loaded->model.engine->weights().bytes();
}

kvass_code kvass_tokenize(const kvass_model* model, const char* text, size_t text_bytes, int32_t* tokens,
                          size_t capacity, size_t* count) {
  return guarded([&]() -> Status {
    KVASS_RETURN_IF_ERROR(given(model, "model"));
    KVASS_RETURN_IF_ERROR(given(count, "count"));
    if (text_bytes > 0) KVASS_RETURN_IF_ERROR(given(text, "text"));
    const Tokenizer& tokenizer = *model->loaded->model.tokenizer;
    const std::string_view view = text_bytes > 0 ? std::string_view(text, text_bytes) : std::string_view();
    const std::vector<int32_t> ids = tokenizer.encode(view, {.bos = tokenizer.add_bos(), .parse_special = false});
    *count = ids.size();
    if (ids.size() > capacity) {
      return bad_input("capacity", "room for " + std::to_string(ids.size()) + " tokens", std::to_string(capacity));
    }
    if (!ids.empty()) KVASS_RETURN_IF_ERROR(given(tokens, "tokens"));
    std::copy(ids.begin(), ids.end(), tokens);
    return {};
  });
}

kvass_code kvass_piece(const kvass_model* model, int32_t token, const char** bytes, size_t* count) {
  return guarded([&]() -> Status {
    KVASS_RETURN_IF_ERROR(given(model, "model"));
    KVASS_RETURN_IF_ERROR(given(bytes, "bytes"));
    KVASS_RETURN_IF_ERROR(given(count, "count"));
    const Tokenizer& tokenizer = *model->loaded->model.tokenizer;
    const std::string_view piece = tokenizer.piece(token);
    *bytes = piece.data();
    *count = piece.size();
    return {};
  });
}

int kvass_is_end(const kvass_model* model, int32_t token) {
  return model != nullptr && model->loaded->model.tokenizer->is_end_of_generation(token) ? 1 : 0;
}

kvass_code kvass_sequence_new(const kvass_model* model, kvass_sequence** sequence) {
  return guarded([&]() -> Status {
    KVASS_RETURN_IF_ERROR(given(model, "model"));
    KVASS_RETURN_IF_ERROR(given(sequence, "sequence"));
    auto made = std::make_unique<kvass_sequence>();
    made->loaded = model->loaded;
    KVASS_ASSIGN_OR_RETURN(made->stream, open_stream(model->loaded->model, model->loaded->stream, /*head_rows=*/1));
    *sequence = made.release();
    return {};
  });
}

void kvass_sequence_free(kvass_sequence* sequence) { delete sequence; }

kvass_code kvass_run(kvass_sequence* sequence, const char* method, const int32_t* tokens, size_t count) {
  return with_sequence(sequence, [&]() -> Status {
    KVASS_RETURN_IF_ERROR(given(tokens, "tokens"));
    if (count == 0) return bad_input("tokens", "at least one", "none");
    Stream& stream = sequence->stream;
    if (method != nullptr) {
      KVASS_ASSIGN_OR_RETURN(const MethodPlan* plan, find_method(*stream.session, method));
      if (count > static_cast<size_t>(plan->rows)) {
        return bad_input("tokens of method '" + plan->name + "'", "at most " + std::to_string(plan->rows),
                         std::to_string(count));
      }
    }
    const Run run{stream.sequence.get(), stream.sequence->length(), std::span(tokens, count)};
    KVASS_RETURN_IF_ERROR(stream.session->step({std::span(&run, 1)}).status());
    sequence->last_row = static_cast<int32_t>(count) - 1;
    return {};
  });
}

kvass_code kvass_logits(kvass_sequence* sequence, const float** logits) {
  return with_sequence(sequence, [&]() -> Status {
    KVASS_RETURN_IF_ERROR(given(logits, "logits"));
    if (sequence->last_row < 0)
      return bad_input("logits", "a run before them", "none since the sequence began, moved or resumed");
    KVASS_ASSIGN_OR_RETURN(const StepResult result,
                           sequence->stream.session->step({.logits = std::span(&sequence->last_row, 1)}));
    *logits = result.logits.data();
    return {};
  });
}

int64_t kvass_length(const kvass_sequence* sequence) {
  return sequence == nullptr ? 0 : sequence->stream.sequence->length();
}

kvass_code kvass_rewind(kvass_sequence* sequence, int64_t length) {
  return with_sequence(sequence, [&]() -> Status {
    KVASS_RETURN_IF_ERROR(sequence->stream.sequence->rewind(length));
    sequence->last_row = -1;
    return {};
  });
}

size_t kvass_sequence_bytes(const kvass_sequence* sequence) {
  return sequence == nullptr ? 0 : sequence->stream.cache_bytes() + sequence->stream.arena_bytes();
}

kvass_code kvass_save(kvass_sequence* sequence, const char* path) {
  return with_sequence(sequence, [&]() -> Status {
    KVASS_RETURN_IF_ERROR(given(path, "path"));
    return save_snapshot(*sequence->stream.sequence, {}, path);
  });
}

kvass_code kvass_resume(kvass_sequence* sequence, const char* path) {
  return with_sequence(sequence, [&]() -> Status {
    KVASS_RETURN_IF_ERROR(given(path, "path"));
    KVASS_ASSIGN_OR_RETURN(const Snapshot snapshot, Snapshot::open(path));
    KVASS_RETURN_IF_ERROR(snapshot.restore(*sequence->stream.sequence));
    sequence->last_row = -1;
    return {};
  });
}

}  // extern "C"
