#include "file/ggml_speech.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <utility>

#include "file/byte_reader.h"
#include "file/one_line.h"

namespace kvass {
namespace {

constexpr uint32_t kMagic = 0x67676d6c;  // "ggml"
constexpr int32_t kMaxNameBytes = 255;
constexpr uint64_t kMaxElements = uint64_t{1} << 40;

struct Renaming {
  std::string_view from;  // Hugging Face, without .weight or .bias
  std::string_view to;    // the file
};
constexpr Renaming kTop[] = {
    {"model.encoder.conv1", "encoder.conv1"},        {"model.encoder.conv2", "encoder.conv2"},
    {"model.encoder.layer_norm", "encoder.ln_post"}, {"model.decoder.embed_tokens", "decoder.token_embedding"},
    {"model.decoder.layer_norm", "decoder.ln"},
};
constexpr Renaming kLayer[] = {
    {"self_attn_layer_norm", "attn_ln"},
    {"self_attn.q_proj", "attn.query"},
    {"self_attn.k_proj", "attn.key"},
    {"self_attn.v_proj", "attn.value"},
    {"self_attn.out_proj", "attn.out"},
    {"encoder_attn_layer_norm", "cross_attn_ln"},
    {"encoder_attn.q_proj", "cross_attn.query"},
    {"encoder_attn.k_proj", "cross_attn.key"},
    {"encoder_attn.v_proj", "cross_attn.value"},
    {"encoder_attn.out_proj", "cross_attn.out"},
    {"final_layer_norm", "mlp_ln"},
    {"fc1", "mlp.0"},
    {"fc2", "mlp.2"},
};

// The file's name for a tensor of Hugging Face; empty: the format has no such tensor.
std::string name_in_file(std::string_view tensor) {
  if (tensor == "model.encoder.embed_positions.weight") return "encoder.positional_embedding";
  if (tensor == "model.decoder.embed_positions.weight") return "decoder.positional_embedding";
  const size_t dot = tensor.rfind('.');
  if (dot == std::string_view::npos) return {};
  const std::string_view leaf = tensor.substr(dot);
  std::string_view module = tensor.substr(0, dot);
  if (leaf != ".weight" && leaf != ".bias") return {};
  for (const Renaming& renaming : kTop) {
    if (module == renaming.from) return std::string(renaming.to).append(leaf);
  }
  for (const std::string_view stack : {"encoder", "decoder"}) {
    const std::string prefix = fmt::format("model.{}.layers.", stack);
    if (!module.starts_with(prefix)) continue;
    module.remove_prefix(prefix.size());
    const size_t end = std::min(module.find('.'), module.size());
    const std::string_view layer = module.substr(0, end);
    module.remove_prefix(std::min(end + 1, module.size()));
    for (const Renaming& renaming : kLayer) {
      if (module == renaming.from) return fmt::format("{}.blocks.{}.{}{}", stack, layer, renaming.to, leaf);
    }
  }
  return {};
}

}  // namespace

class GgmlSpeechParser : ByteReader {
 public:
  GgmlSpeechParser(std::span<const uint8_t> bytes, GgmlSpeech& out) : ByteReader(bytes, out.name_), out_(out) {}

  Status run() {
    uint32_t magic = 0;
    KVASS_RETURN_IF_ERROR(number("magic", magic));
    if (magic != kMagic) return fail("magic", "a speech model", "other bytes");
    KVASS_RETURN_IF_ERROR(sizes());
    KVASS_RETURN_IF_ERROR(filters());
    KVASS_RETURN_IF_ERROR(pieces());
    while (left() > 0) KVASS_RETURN_IF_ERROR(tensor());
    return {};
  }

 private:
  Status sizes() {
    GgmlSpeechSizes& s = out_.sizes_;
    int64_t type = 0;
    const std::pair<std::string_view, int64_t*> fields[] = {{"vocabulary", &s.vocabulary},
                                                            {"audio positions", &s.audio_positions},
                                                            {"audio width", &s.audio_width},
                                                            {"audio heads", &s.audio_heads},
                                                            {"audio layers", &s.audio_layers},
                                                            {"text positions", &s.text_positions},
                                                            {"text width", &s.text_width},
                                                            {"text heads", &s.text_heads},
                                                            {"text layers", &s.text_layers},
                                                            {"mel bins", &s.mel_bins},
                                                            {"type", &type}};
    for (const auto& [name, out] : fields) {
      int32_t value = 0;
      KVASS_RETURN_IF_ERROR(number(name, value));
      const int32_t least = out == &type ? 0 : 1;
      if (value < least || value > (1 << 20))
        return fail(name, fmt::format("{} to 2^20", least), std::to_string(value));
      *out = value;
    }
    return {};
  }

  Status filters() {
    int32_t rows = 0;
    int32_t columns = 0;
    KVASS_RETURN_IF_ERROR(number("mel filters", rows));
    KVASS_RETURN_IF_ERROR(number("mel filters", columns));
    if (rows < 0 || columns < 0 || rows > (1 << 16) || columns > (1 << 16)) {
      return fail("mel filters", "up to 2^16 rows and columns", fmt::format("{} and {}", rows, columns));
    }
    const uint64_t bytes = uint64_t{4} * static_cast<uint64_t>(rows) * static_cast<uint64_t>(columns);
    KVASS_RETURN_IF_ERROR(need("mel filters", bytes));
    at_ += bytes;  // skipped: audio/log_mel.h computes them from the number of bins
    return {};
  }

  Status pieces() {
    int32_t count = 0;
    KVASS_RETURN_IF_ERROR(number("token count", count));
    if (count < 1 || static_cast<uint64_t>(count) > left() / 4 || count > out_.sizes_.vocabulary) {
      return fail("token count", fmt::format("1 to {}", std::min<uint64_t>(left() / 4, out_.sizes_.vocabulary)),
                  std::to_string(count));
    }
    for (int32_t i = 0; i < count; ++i) {
      uint32_t length = 0;
      KVASS_RETURN_IF_ERROR(number("token length", length));
      KVASS_RETURN_IF_ERROR(need("token", length));
      out_.pieces_.emplace_back(reinterpret_cast<const char*>(bytes_.data() + at_), length);
      at_ += length;
    }
    return {};
  }

  Status tensor() {
    int32_t dimensions = 0;
    int32_t name_bytes = 0;
    int32_t type_number = 0;
    KVASS_RETURN_IF_ERROR(number("tensor", dimensions));
    KVASS_RETURN_IF_ERROR(number("tensor", name_bytes));
    KVASS_RETURN_IF_ERROR(number("tensor", type_number));
    if (dimensions < 1 || dimensions > 4) return fail("tensor dimensions", "1 to 4", std::to_string(dimensions));
    if (name_bytes < 1 || name_bytes > kMaxNameBytes) {
      return fail("tensor name", fmt::format("1 to {} bytes", kMaxNameBytes), std::to_string(name_bytes));
    }
    SourceTensor tensor;
    uint64_t elements = 1;
    for (int32_t i = 0; i < dimensions; ++i) {
      int32_t size = 0;
      KVASS_RETURN_IF_ERROR(number("tensor size", size));
      if (size < 1 || static_cast<uint64_t>(size) > kMaxElements / elements) {
        return fail("tensor size", "1 or more, 2^40 elements at most", std::to_string(size));
      }
      elements *= static_cast<uint64_t>(size);
      tensor.shape.push_back(size);
    }
    KVASS_RETURN_IF_ERROR(need("tensor name", static_cast<uint64_t>(name_bytes)));
    tensor.name.assign(reinterpret_cast<const char*>(bytes_.data() + at_), static_cast<size_t>(name_bytes));
    at_ += static_cast<size_t>(name_bytes);
    const std::string field = "tensor " + quoted_name(tensor.name);
    const std::optional<GgmlTypeInfo> type = ggml_type_info(static_cast<uint32_t>(type_number));
    if (!type) {
      return cannot(field + " type", "a type that kvass reads", unread_type(static_cast<uint32_t>(type_number)));
    }
    tensor.type = type->type;
    if (tensor.shape[0] % type->block_elements != 0) {
      return fail(field, fmt::format("rows of whole blocks of {}", type->block_elements),
                  std::to_string(tensor.shape[0]));
    }
    const uint64_t bytes = elements / static_cast<uint64_t>(type->block_elements) * type->block_bytes;
    KVASS_RETURN_IF_ERROR(need(field, bytes));
    tensor.data = bytes_.subspan(at_, bytes);
    at_ += bytes;
    std::reverse(tensor.shape.begin(), tensor.shape.end());  // outermost first
    // The biases of convolutions have shape [n][1].
    if (tensor.shape.size() == 2 && tensor.shape[1] == 1 && tensor.name.ends_with(".bias")) tensor.shape.pop_back();
    std::string name = tensor.name;
    if (!out_.tensors_.emplace(std::move(name), std::move(tensor)).second)
      return fail(field, "each name once", "it twice");
    return {};
  }

  GgmlSpeech& out_;
};

Result<GgmlSpeech> GgmlSpeech::parse(std::span<const uint8_t> bytes, std::string name) {
  GgmlSpeech model;
  model.name_ = std::move(name);
  KVASS_RETURN_IF_ERROR(GgmlSpeechParser(bytes, model).run());
  return model;
}

Result<GgmlSpeech> GgmlSpeech::open(FileMap map) {
  KVASS_ASSIGN_OR_RETURN(GgmlSpeech model, map.checked(parse(map.bytes(), map.path())));
  model.map_.emplace(std::move(map));
  return model;
}

bool GgmlSpeech::has(std::string_view tensor) const { return tensors_.contains(name_in_file(tensor)); }

Result<SourceTensor> GgmlSpeech::tensor(std::string_view tensor) const {
  const std::string own = name_in_file(tensor);
  const auto found = tensors_.find(own);
  if (found == tensors_.end()) {
    return bad_input(name_ + ": tensor " + quoted_name(tensor), own.empty() ? "a known name" : own, "none");
  }
  SourceTensor out = found->second;
  out.name = tensor;
  return out;
}

std::vector<std::string> GgmlSpeech::names() const {
  std::vector<std::string> names;
  const auto add = [&](std::string name) {
    if (has(name)) names.push_back(std::move(name));
  };
  for (const char* stack : {"encoder", "decoder"}) add(fmt::format("model.{}.embed_positions.weight", stack));
  for (const Renaming& renaming : kTop) {
    for (const char* leaf : {".weight", ".bias"}) add(std::string(renaming.from) + leaf);
  }
  for (const auto& [stack, layers] : {std::pair{"encoder", sizes_.audio_layers}, {"decoder", sizes_.text_layers}}) {
    for (int64_t layer = 0; layer < std::min<int64_t>(layers, static_cast<int64_t>(tensors_.size())); ++layer) {
      for (const Renaming& renaming : kLayer) {
        for (const char* leaf : {".weight", ".bias"}) {
          add(fmt::format("model.{}.layers.{}.{}{}", stack, layer, renaming.from, leaf));
        }
      }
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

void GgmlSpeech::release(std::span<const uint8_t> bytes) const {
  if (map_) map_->release(static_cast<size_t>(bytes.data() - map_->bytes().data()), bytes.size());
}

bool is_ggml_speech(std::span<const uint8_t> bytes) {
  return bytes.size() >= sizeof kMagic && std::memcmp(bytes.data(), &kMagic, sizeof kMagic) == 0;
}

}  // namespace kvass
