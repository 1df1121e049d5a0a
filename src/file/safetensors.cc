#include "file/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <set>
#include <utility>

#include "base/json_tree.h"
#include "file/one_line.h"

namespace kvass {
namespace {

using nlohmann::json;

static_assert(std::endian::native == std::endian::little, "safetensors are read as they lie in the file");

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the specification's limit
constexpr uint64_t kMaxDimensions = 16;

constexpr std::pair<std::string_view, uint64_t> kTypes[] = {
    {"F64", 8}, {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"I64", 8},  {"I32", 4},     {"I16", 2},     {"I8", 1},
    {"U64", 8}, {"U32", 4}, {"U16", 2}, {"U8", 1},   {"BOOL", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"C64", 8}};

uint64_t type_bytes(std::string_view type) {
  for (const auto& [name, bytes] : kTypes) {
    if (name == type) return bytes;
  }
  return 0;
}

// Describes a value in a one-line message. The text of an array or object is left out, because it may be long.
std::string what(const json& value) {
  if (value.is_number_unsigned()) return std::to_string(value.get<uint64_t>());
  if (value.is_number_integer()) return std::to_string(value.get<int64_t>());
  if (value.is_string()) return quoted_name(value.get_ref<const std::string&>());
  return std::string("JSON of type ") + value.type_name();
}

// entry[key] when it is an array; null otherwise.
const json* array_of(const json& entry, const char* key) {
  const auto found = entry.find(key);
  return found != entry.end() && found->is_array() ? &*found : nullptr;
}

Result<SafeTensor> read_tensor(const json& entry, std::span<const uint8_t> data, const std::string& field) {
  if (!entry.is_object()) return bad_input(field, "a JSON object", what(entry));
  const auto type = entry.find("dtype");
  if (type == entry.end()) return bad_input(field + " dtype", "a type of the format", "none");
  const uint64_t element = type->is_string() ? type_bytes(type->get_ref<const std::string&>()) : 0;
  if (element == 0) return bad_input(field + " dtype", "a type of the format", what(*type));
  SafeTensor tensor;
  tensor.dtype = type->get_ref<const std::string&>();

  const json* shape = array_of(entry, "shape");
  if (!shape) return bad_input(field + " shape", "an array", "something else");
  if (shape->size() > kMaxDimensions)
    return bad_input(field + " shape", "at most 16 sizes", std::to_string(shape->size()));
  uint64_t bytes = element;
  uint64_t product = 1;  // of the sizes other than 0, so that elements() cannot overflow in any order
  for (const json& size : *shape) {
    if (!size.is_number_unsigned()) return bad_input(field + " shape", "sizes from 0", what(size));
    const uint64_t count = size.get<uint64_t>();
    if (count > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) / element / product) {
      return bad_input(field + " shape", "fewer than 2^63 bytes", "a size of " + std::to_string(count));
    }
    if (count != 0) product *= count;
    bytes *= count;
    tensor.shape.push_back(static_cast<int64_t>(count));
  }

  const json* offsets = array_of(entry, "data_offsets");
  if (!offsets || offsets->size() != 2) return bad_input(field + " data_offsets", "two offsets", "something else");
  for (const json& offset : *offsets) {
    if (!offset.is_number_unsigned()) return bad_input(field + " data_offsets", "offsets from 0", what(offset));
  }
  const uint64_t begin = (*offsets)[0].get<uint64_t>();
  const uint64_t end = (*offsets)[1].get<uint64_t>();
  if (begin > end || end > data.size() || end - begin != bytes) {
    return bad_input(field + " data_offsets",
                     std::to_string(bytes) + " bytes inside the data's " + std::to_string(data.size()),
                     std::to_string(begin) + " to " + std::to_string(end));
  }
  tensor.bytes = data.subspan(begin, bytes);
  return tensor;
}

// The header as JSON. Two checks must be made while parsing. A name that occurs twice: the parsed object keeps only one
// of the two. Nesting: copying, printing or comparing a deep value recurses as deep as the file is nested.
Result<JsonTree> read_header(std::span<const uint8_t> text, const std::string& field) {
  constexpr int kMaxDepth = 2;  // file, tensor, shape
  std::set<std::string> names;
  std::string twice;
  bool deep = false;
  const auto look = [&](int depth, json::parse_event_t event, json& value) {
    if (event == json::parse_event_t::key && depth == 1) {
      const std::string& name = value.get_ref<const std::string&>();
      if (!names.insert(name).second) twice = quoted_name(name);
    }
    const bool opens = event == json::parse_event_t::object_start || event == json::parse_event_t::array_start;
    if (!opens || depth <= kMaxDepth) return true;
    deep = true;
    return false;  // the value is left out
  };
  JsonTree tree(text.begin(), text.end(), look);
  const json& parsed = tree.root();
  if (deep) return bad_input(field, "tensors of a dtype, a shape and data_offsets", "deeper nesting");
  if (!parsed.is_object())
    return bad_input(field, "a JSON object", parsed.is_discarded() ? "no valid JSON" : what(parsed));
  if (!twice.empty()) return bad_input(field, "each tensor once", twice + " twice");
  return tree;
}

// Two tensors that share bytes.
Status check_apart(const std::map<std::string, SafeTensor, std::less<>>& tensors, const std::string& name) {
  std::vector<std::pair<const std::string*, std::span<const uint8_t>>> places;
  for (const auto& [key, tensor] : tensors) {
    if (!tensor.bytes.empty()) places.emplace_back(&key, tensor.bytes);
  }
  std::sort(places.begin(), places.end(),
            [](const auto& a, const auto& b) { return a.second.data() < b.second.data(); });
  for (size_t i = 1; i < places.size(); ++i) {
    const auto& [before, bytes] = places[i - 1];
    if (bytes.data() + bytes.size() <= places[i].second.data()) continue;
    return bad_input(name + ": tensor " + quoted_name(*places[i].first) + " data_offsets", "bytes of its own",
                     "some of " + quoted_name(*before));
  }
  return {};
}

}  // namespace

Result<SafeTensors> SafeTensors::parse(std::span<const uint8_t> bytes, const std::string& name) {
  uint64_t header = 0;
  if (bytes.size() < sizeof header) return bad_input(name + ": header length", "8 bytes", std::to_string(bytes.size()));
  std::memcpy(&header, bytes.data(), sizeof header);
  const uint64_t most = std::min<uint64_t>(bytes.size() - sizeof header, kMaxHeaderBytes);
  if (header > most)
    return bad_input(name + ": header length", "at most " + std::to_string(most), std::to_string(header));
  KVASS_ASSIGN_OR_RETURN(const JsonTree tree, read_header(bytes.subspan(sizeof header, header), name + ": header"));
  const std::span<const uint8_t> data = bytes.subspan(sizeof header + header);
  SafeTensors file;
  for (const auto& [key, entry] : tree.root().items()) {
    if (key == "__metadata__") continue;
    KVASS_ASSIGN_OR_RETURN(SafeTensor tensor, read_tensor(entry, data, name + ": tensor " + quoted_name(key)));
    file.tensors_.emplace(key, std::move(tensor));
  }
  KVASS_RETURN_IF_ERROR(check_apart(file.tensors_, name));
  return file;
}

Result<SafeTensors> SafeTensors::open(const std::string& path) {
  KVASS_ASSIGN_OR_RETURN(FileMap map, FileMap::open(path));
  KVASS_ASSIGN_OR_RETURN(SafeTensors file, map.checked(parse(map.bytes(), path)));
  file.map_.emplace(std::move(map));
  return file;
}

}  // namespace kvass
