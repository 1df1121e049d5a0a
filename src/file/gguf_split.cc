// Opening GGUF files by their paths: one file, or all parts of a split model, given any of them. The parts are named
// NAME-00001-of-00003.gguf; what each of them is stands in its keys split.no (from 0), split.count and
// split.tensors.count. The first has the metadata, each some of the tensors.
#include <fmt/format.h>

#include <charconv>
#include <cstring>
#include <optional>

#include "file/gguf.h"
#include "file/one_line.h"

namespace kvass {
namespace {

constexpr std::string_view kCountKey = "split.count", kNumberKey = "split.no", kTensorsKey = "split.tensors.count";

// A path that says which part of how many it is.
struct PartPath {
  std::string_view name;  // up to "-00002-of-00003.gguf"
  int64_t number = 0;     // from 1
  int64_t count = 0;
  size_t number_digits = 0;
  std::string_view count_text;

  std::string of(int64_t part) const {
    return fmt::format("{}-{:0{}}-of-{}.gguf", name, part, number_digits, count_text);
  }
};

// Takes the number at the end of `text` into `value`, and returns its digits. Empty where there is none that fits.
std::string_view take_digits(std::string_view& text, int64_t& value) {
  size_t begin = text.size();
  while (begin > 0 && text[begin - 1] >= '0' && text[begin - 1] <= '9') --begin;
  const std::string_view digits = text.substr(begin);
  if (std::from_chars(digits.data(), digits.data() + digits.size(), value).ec != std::errc()) return {};
  text.remove_suffix(digits.size());
  return digits;
}

bool take_end(std::string_view& text, std::string_view end) {
  if (!text.ends_with(end)) return false;
  text.remove_suffix(end.size());
  return true;
}

std::optional<PartPath> part_path(std::string_view path) {
  PartPath part;
  if (!take_end(path, ".gguf")) return std::nullopt;
  part.count_text = take_digits(path, part.count);
  if (part.count_text.empty() || !take_end(path, "-of-")) return std::nullopt;
  part.number_digits = take_digits(path, part.number).size();
  if (part.number_digits == 0 || !take_end(path, "-")) return std::nullopt;
  part.name = path;
  return part;
}

// What a file's keys say.
struct Split {
  int64_t number = 0;  // from 0
  int64_t count = 1;
  int64_t tensors = 0;  // of all parts
};

std::string part_text(int64_t number, int64_t count) { return fmt::format("part {} of {}", number + 1, count); }

Result<Split> read_split(const Gguf& file) {
  Split split;
  split.tensors = static_cast<int64_t>(file.tensors().size());
  KVASS_ASSIGN_OR_RETURN(split.count, file.get_int_or(kCountKey, 1));
  if (split.count <= 1) {
    KVASS_ASSIGN_OR_RETURN(split.tensors, file.get_int_or(kTensorsKey, split.tensors));
    return split;
  }
  KVASS_ASSIGN_OR_RETURN(split.number, file.get_int(kNumberKey));
  KVASS_ASSIGN_OR_RETURN(split.tensors, file.get_int(kTensorsKey));
  if (split.number < 0 || split.number >= split.count) {
    return bad_input(file.name() + ": " + std::string(kNumberKey), fmt::format("0 to {}", split.count - 1),
                     std::to_string(split.number));
  }
  return split;
}

Status check_tensor_count(const Gguf& file, const Split& split) {
  if (split.tensors == static_cast<int64_t>(file.tensors().size())) return {};
  return bad_input(file.name() + ": " + std::string(kTensorsKey),
                   fmt::format("{}, the tensors of all {} parts", file.tensors().size(), split.count),
                   std::to_string(split.tensors));
}

// An error if the path of part `split` says something else.
Status check_path(const std::string& path, const std::optional<PartPath>& named, const Split& split) {
  const std::string what = part_text(split.number, split.count) + " of a split model";
  if (!named) {
    return bad_input(path,
                     fmt::format("a name that ends in -{:05}-of-{:05}.gguf (the file is {}, and the other parts are "
                                 "found by their names)",
                                 split.number + 1, split.count, what),
                     "another name");
  }
  if (named->number == split.number + 1 && named->count == split.count) return {};
  return bad_input(path, part_text(named->number - 1, named->count) + ", as its name says", what);
}

// An error if `part` is no part of the model that `first` begins.
Status check_part(const Gguf& part, const Split& wanted) {
  if (!part.has(kCountKey)) return bad_input(part.name(), "a part", "a whole file (it has no split.count)");
  KVASS_ASSIGN_OR_RETURN(const Split split, read_split(part));
  if (split.number != wanted.number || split.count != wanted.count) {
    return bad_input(part.name(), "that part, as its name says", part_text(split.number, split.count));
  }
  if (split.tensors != wanted.tensors) {
    return bad_input(part.name() + ": " + std::string(kTensorsKey),
                     fmt::format("{}, as the other parts have it", wanted.tensors), std::to_string(split.tensors));
  }
  return {};
}

}  // namespace

bool is_part_name(std::string_view path) { return part_path(path).has_value(); }

Result<Gguf> Gguf::parse_part(FileMap map) {
  KVASS_ASSIGN_OR_RETURN(Gguf file, map.checked(parse(map.bytes(), map.path())));
  file.maps_.push_back(std::move(map));
  return file;
}

Status Gguf::check_metadata_of(const Gguf& part) const {
  for (const GgufEntry& entry : part.entries_) {
    if (entry.key.starts_with("split.") || entry.key == "general.alignment") continue;  // each file's own
    const GgufEntry* known = find(entry.key);
    const bool same = known && known->type == entry.type && known->element == entry.element &&
                      known->bytes == entry.bytes && std::memcmp(known->data, entry.data, entry.bytes) == 0;
    if (same || (!known && entry.key.starts_with("general."))) continue;
    return bad_input(part.name() + ": metadata " + quoted_name(entry.key), "what " + name() + " has",
                     known ? "another value" : "a key that is not there");
  }
  return {};
}

Status Gguf::append(Gguf part) {
  KVASS_RETURN_IF_ERROR(check_metadata_of(part));
  for (GgufTensor& tensor : part.tensors_) {
    const std::string_view key = part.tensor_index_.find(tensor.name)->first;  // in the file's bytes
    const auto [known, added] = tensor_index_.emplace(key, tensors_.size());
    if (!added) {
      return bad_input(part.name() + ": tensor " + quoted_name(key), "each tensor in one part",
                       "it in " + name(tensors_[known->second]) + " as well");
    }
    tensor.part = names_.size();
    tensors_.push_back(std::move(tensor));
  }
  names_.push_back(std::move(part.names_.front()));
  maps_.push_back(std::move(part.maps_.front()));
  return {};
}

Result<Gguf> Gguf::open(const std::string& path) {
  KVASS_ASSIGN_OR_RETURN(FileMap map, FileMap::open(path));
  return open(std::move(map));
}

Result<Gguf> Gguf::open(FileMap map) {
  const std::string path = map.path();
  KVASS_ASSIGN_OR_RETURN(Gguf given, parse_part(std::move(map)));
  KVASS_ASSIGN_OR_RETURN(const Split split, read_split(given));
  if (split.count <= 1) {
    KVASS_RETURN_IF_ERROR(check_tensor_count(given, split));
    return given;
  }
  const std::optional<PartPath> named = part_path(path);
  KVASS_RETURN_IF_ERROR(check_path(path, named, split));

  const auto part = [&](int64_t number) -> Result<Gguf> {
    if (number == split.number) return std::move(given);
    KVASS_ASSIGN_OR_RETURN(FileMap other, FileMap::open(named->of(number + 1)));
    KVASS_ASSIGN_OR_RETURN(Gguf file, parse_part(std::move(other)));
    KVASS_RETURN_IF_ERROR(check_part(file, {number, split.count, split.tensors}));
    return file;
  };
  const auto failed = [&](int64_t number, const Status& status) {
    return status.with_message(part_text(number, split.count) + " of a split model: " + status.message());
  };
  Result<Gguf> model = part(0);
  if (!model.ok()) return failed(0, model.status());
  for (int64_t number = 1; number < split.count; ++number) {
    Result<Gguf> next = part(number);
    const Status status = next.ok() ? model->append(std::move(next).value()) : next.status();
    if (!status.ok()) return failed(number, status);
  }
  KVASS_RETURN_IF_ERROR(check_tensor_count(model.value(), split));
  KVASS_RETURN_IF_ERROR(model->check());
  return model;
}

}  // namespace kvass
