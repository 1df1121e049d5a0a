// Model: a file that kvass runs, text or speech, in any of its formats. First its metadata and its tokenizer (open),
// then its weights too (load). Not a stream: stream.h, chat.h and transcribe.h run it.
//
//     KVASS_ASSIGN_OR_RETURN(const kvass::Model model, kvass::Model::load("model.gguf"));
//
// A Model is a handle to something immutable: copies share it, streams keep what they need of it, and any number of
// threads may use it. A default-constructed one is no model, and every call that can fail says so.
//
// No call that returns a Status or a Result throws: out_of_memory is a code of theirs. What returns a plain string or
// vector throws std::bad_alloc where there is no memory for it. Errors are a Status (status.h) with a code: bad_input
// for what a caller or a file has wrong, io, out_of_memory, unsupported, device. Where a message is about a field, it
// names it: "LoadOptions.weights: …".
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kvass/export.h"
#include "kvass/options.h"
#include "kvass/status.h"

namespace kvass {

enum class ModelKind : uint8_t { text, speech };

struct ModelInfo {
  std::string path;
  std::string format;  // "GGUF", "kvp", "CTranslate2", "Hugging Face" or "ggml"
  std::string family;  // the architecture's name
  ModelKind kind = ModelKind::text;
  int64_t vocabulary = 0;          // tokens: logits of a row
  int64_t trained_context = 0;     // tokens
  std::string chat_template;       // its jinja text as the file has it; empty: none
  StreamOptions streams;           // the options of a stream opened with defaults, as far as the file has them
  std::vector<std::string> notes;  // for people: what the file leaves open, and what was taken for it
};

struct EncodeTextOptions {
  std::optional<bool> bos;     // put the token that begins a text first; none: where the model expects it
  bool parse_special = false;  // the texts of control tokens, as in "<eos>", become those tokens
};

class KVASS_API Model {
 public:
  // Reads and verifies metadata; no weights. `path` may also be the name of a fetched model (kvass list).
  static Result<Model> open(const std::string& path);
  // The same with its weights: ready to run. Memory is mapped here and in streams, never in a step.
  static Result<Model> load(const std::string& path, const LoadOptions& options = {});
  // This file's model with its weights.
  Result<Model> load(const LoadOptions& options = {}) const;

  Model();
  Model(const Model&);
  Model(Model&&) noexcept;
  Model& operator=(const Model&);
  Model& operator=(Model&&) noexcept;
  ~Model();

  bool loaded() const;
  const ModelInfo& info() const;       // of no model: empty
  const LoadOptions& options() const;  // that it was loaded with, every default filled in
  size_t weight_bytes() const;         // in memory, or of the mapped file; 0: not loaded
  double load_seconds() const;

  // Text to token ids, and back. Of text models; others are unsupported. decode(encode(x)) is x for every x without a
  // begin token. bad_input where an id is not a token.
  Result<std::vector<int32_t>> encode(std::string_view text, const EncodeTextOptions& options = {}) const;
  Result<std::string> decode(std::span<const int32_t> ids) const;
  // The bytes that a token stands for, which the model owns: not always whole characters (TextDecoder makes them
  // whole), nothing for control tokens and for what is not a token.
  std::string_view piece(int32_t token) const;
  bool is_end(int32_t token) const;  // it ends a text or a turn
  int32_t bos() const;               // -1: there is none
  int32_t eos() const;

  struct KVASS_HIDDEN Impl;
  const std::shared_ptr<const Impl>& impl() const { return impl_; }  // kvass's own

 private:
  explicit Model(std::shared_ptr<const Impl> impl);
  std::shared_ptr<const Impl> impl_;
};

// Token ids to text that is complete, for callers who write their own loop: no UTF-8 character is divided between two
// results. One caller at a time.
class KVASS_API TextDecoder {
 public:
  static Result<TextDecoder> create(const Model& model);
  TextDecoder(TextDecoder&&) noexcept;
  TextDecoder& operator=(TextDecoder&&) noexcept;
  ~TextDecoder();

  Result<std::string> push(int32_t token);  // the text that it completes; may be empty
  Result<std::string> finish();             // the rest, at most 3 bytes of a character that was never completed

 private:
  struct KVASS_HIDDEN Impl;
  explicit TextDecoder(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

KVASS_API const char* version();  // "0.1.0"

}  // namespace kvass
