// include/kvass/kvass.h: sequences, one by one and in groups.
#include "api/c_common.h"
#include "kvass/score.h"

using namespace kvass;         // NOLINT: this file is the C API
using namespace kvass::c_api;  // NOLINT

namespace {

template <class Body>
kvass_code with(kvass_sequence* sequence, Body&& body) {
  return call([&]() -> Status {
    KVASS_RETURN_IF_ERROR(given(sequence, "sequence"));
    return body(sequence->stream);
  });
}

Status check_method(const Stream& stream, const std::string& name, size_t count) {
  std::string known;
  for (const StreamMethod& method : stream.methods()) {
    if (method.name != name) {
      known += (known.empty() ? "" : ", ") + method.name;
      continue;
    }
    if (count <= static_cast<size_t>(method.rows)) return {};
    return bad_input("tokens of method '" + name + "'", "at most " + std::to_string(method.rows),
                     std::to_string(count));
  }
  return bad_input("method", known, name.substr(0, 64));
}

kvass_sequence* handle(Stream stream) {
  auto made = std::make_unique<kvass_sequence>();
  made->stream = std::move(stream);
  return made.release();
}

}  // namespace

extern "C" {

kvass_code kvass_sequence_new(const kvass_model* model, kvass_sequence** sequence) {
  return kvass_sequence_open(model, nullptr, sequence);
}

kvass_code kvass_sequence_open(const kvass_model* model, const kvass_stream_options* options,
                               kvass_sequence** sequence) {
  return call([&]() -> Status {
    KVASS_RETURN_IF_ERROR(given(model, "model"));
    KVASS_RETURN_IF_ERROR(given(sequence, "sequence"));
    KVASS_ASSIGN_OR_RETURN(const StreamOptions streams, stream_options(options, model->streams));
    KVASS_ASSIGN_OR_RETURN(Stream stream, Stream::open(model->model, streams));
    *sequence = handle(std::move(stream));
    return {};
  });
}

kvass_code kvass_sequence_open_group(const kvass_model* model, const kvass_stream_options* options,
                                     kvass_sequence** sequences) {
  return call([&]() -> Status {
    KVASS_RETURN_IF_ERROR(given(model, "model"));
    KVASS_RETURN_IF_ERROR(given(sequences, "sequences"));
    KVASS_ASSIGN_OR_RETURN(const StreamOptions streams, stream_options(options, model->streams));
    KVASS_ASSIGN_OR_RETURN(std::vector<Stream> group, Stream::open_group(model->model, streams));
    std::vector<std::unique_ptr<kvass_sequence>> made;  // before any is given away
    for (Stream& stream : group) made.emplace_back(handle(std::move(stream)));
    for (size_t i = 0; i < made.size(); ++i) sequences[i] = made[i].release();
    return {};
  });
}

kvass_code kvass_sequence_resume(const kvass_model* model, const char* path, const kvass_stream_options* options,
                                 kvass_sequence** sequence) {
  return call([&]() -> Status {
    KVASS_RETURN_IF_ERROR(given(model, "model"));
    KVASS_RETURN_IF_ERROR(given(path, "path"));
    KVASS_RETURN_IF_ERROR(given(sequence, "sequence"));
    StreamOptions machine;  // what the file decides is not the model's to say
    machine.threads = model->streams.threads;
    KVASS_ASSIGN_OR_RETURN(const StreamOptions streams, stream_options(options, machine));
    KVASS_ASSIGN_OR_RETURN(Stream stream, Stream::resume(model->model, path, streams));
    *sequence = handle(std::move(stream));
    return {};
  });
}

void kvass_sequence_free(kvass_sequence* sequence) { delete sequence; }

kvass_code kvass_run(kvass_sequence* sequence, const char* method, const int32_t* tokens, size_t count) {
  return with(sequence, [&](Stream& stream) -> Status {
    KVASS_ASSIGN_OR_RETURN(const auto ids, array_of(tokens, count, "tokens"));
    if (ids.empty()) return bad_input("tokens", "at least one", "none");
    if (method != nullptr) KVASS_RETURN_IF_ERROR(check_method(stream, method, count));
    const int64_t most = stream.options().chunk.value_or(0);
    if (count > static_cast<size_t>(most)) {
      return bad_input("tokens", "at most " + std::to_string(most) + " (input_len; kvass_append takes more)",
                       std::to_string(count));
    }
    return stream.step(ids);
  });
}

kvass_code kvass_append(kvass_sequence* sequence, const int32_t* tokens, size_t count) {
  return with(sequence, [&](Stream& stream) -> Status {
    KVASS_ASSIGN_OR_RETURN(const auto ids, array_of(tokens, count, "tokens"));
    sequence->cancel.store(false);
    return stream.step(ids, &sequence->cancel);
  });
}

kvass_code kvass_step(const kvass_part* parts, size_t count) {
  return call([&]() -> Status {
    KVASS_ASSIGN_OR_RETURN(const auto all, array_of(parts, count, "parts"));
    std::vector<StreamTokens> streams;
    for (const kvass_part& part : all) {
      KVASS_RETURN_IF_ERROR(given(part.sequence, "sequence"));
      KVASS_ASSIGN_OR_RETURN(const auto ids, array_of(part.tokens, part.count, "tokens"));
      streams.push_back({&part.sequence->stream, ids});
    }
    return Stream::step(streams);
  });
}

kvass_code kvass_logits(kvass_sequence* sequence, const float** logits) {
  return with(sequence, [&](Stream& stream) -> Status {
    KVASS_RETURN_IF_ERROR(given(logits, "logits"));
    sequence->cancel.store(false);
    KVASS_ASSIGN_OR_RETURN(const std::span<const float> row, stream.logits(&sequence->cancel));
    *logits = row.data();
    return {};
  });
}

kvass_code kvass_argmax(kvass_sequence* sequence, int32_t* token) {
  return with(sequence, [&](Stream& stream) -> Status {
    KVASS_RETURN_IF_ERROR(given(token, "token"));
    sequence->cancel.store(false);
    KVASS_ASSIGN_OR_RETURN(*token, stream.argmax(&sequence->cancel));
    return {};
  });
}

kvass_code kvass_score(kvass_sequence* sequence, const int32_t* tokens, size_t count, double* nll) {
  return with(sequence, [&](Stream& stream) -> Status {
    KVASS_ASSIGN_OR_RETURN(const auto ids, array_of(tokens, count, "tokens"));
    KVASS_RETURN_IF_ERROR(given(nll, "nll"));
    sequence->cancel.store(false);
    KVASS_ASSIGN_OR_RETURN(const ScoreResult result, score(stream, ids, {}, &sequence->cancel));
    std::copy(result.nll.begin(), result.nll.end(), nll);
    return {};
  });
}

int64_t kvass_length(const kvass_sequence* sequence) { return sequence == nullptr ? 0 : sequence->stream.length(); }
int64_t kvass_rewind_floor(const kvass_sequence* sequence) {
  return sequence == nullptr ? 0 : sequence->stream.rewind_floor();
}
kvass_code kvass_rewind(kvass_sequence* sequence, int64_t length) {
  return with(sequence, [&](Stream& stream) { return stream.rewind(length); });
}
kvass_code kvass_checkpoint(kvass_sequence* sequence) {
  return with(sequence, [&](Stream& stream) {
    sequence->cancel.store(false);
    return stream.checkpoint(&sequence->cancel);
  });
}
kvass_code kvass_clear(kvass_sequence* sequence) {
  return with(sequence, [](Stream& stream) { return stream.clear(); });
}

kvass_code kvass_fork(kvass_sequence* sequence, int share_arena, kvass_sequence** fork) {
  return with(sequence, [&](Stream& stream) -> Status {
    KVASS_RETURN_IF_ERROR(given(fork, "fork"));
    KVASS_ASSIGN_OR_RETURN(Stream made, stream.fork({.share_arena = share_arena != 0}));
    *fork = handle(std::move(made));
    return {};
  });
}

size_t kvass_sequence_bytes(const kvass_sequence* sequence) {
  return sequence == nullptr ? 0 : sequence->stream.bytes();
}

void kvass_cancel(kvass_sequence* sequence) {
  if (sequence != nullptr) sequence->cancel.store(true);
}

kvass_code kvass_save(kvass_sequence* sequence, const char* path) {
  return with(sequence, [&](Stream& stream) -> Status {
    KVASS_RETURN_IF_ERROR(given(path, "path"));
    return stream.save(path);
  });
}

kvass_code kvass_resume(kvass_sequence* sequence, const char* path) {
  return with(sequence, [&](Stream& stream) -> Status {
    KVASS_RETURN_IF_ERROR(given(path, "path"));
    return stream.restore(path);
  });
}

}  // extern "C"
