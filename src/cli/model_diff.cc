#include "cli/model_diff.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "app/diff.h"
#include "cli/command.h"

namespace kvass {
namespace {

using Json = nlohmann::json;

// JSON has no infinity: null stands for a difference to what is no number.
Json largest_json(const DifferentTensor& tensor) {
  if (!tensor.same_shape) return nullptr;
  return std::isfinite(tensor.largest) ? Json(tensor.largest) : Json(nullptr);
}

Json difference_json(const ModelDifference& found) {
  const auto pairs = [](const auto& list) {
    Json object = Json::object();
    for (const auto& [name, text] : list) object[name] = text;
    return object;
  };
  Json metadata = Json::object(), tensors = Json::array();
  for (const DifferentEntry& entry : found.metadata) metadata[entry.key] = {{"a", entry.a}, {"b", entry.b}};
  for (const DifferentTensor& tensor : found.tensors) {
    tensors.push_back({{"name", tensor.name},
                       {"a", tensor.a},
                       {"b", tensor.b},
                       {"same_shape", tensor.same_shape},
                       {"max_abs_difference", largest_json(tensor)},
                       {"at", tensor.place}});
  }
  return {
      {"identical", found.none()},
      {"metadata", {{"only_a", pairs(found.metadata_a)}, {"only_b", pairs(found.metadata_b)}, {"different", metadata}}},
      {"tensors", {{"only_a", pairs(found.tensors_a)}, {"only_b", pairs(found.tensors_b)}, {"different", tensors}}},
      {"same_tensors", found.same}};
}

void print_difference(const ModelDifference& found) {
  const auto pairs = [](const char* what, const auto& list) {
    for (const auto& [name, text] : list) print("{:<18} {:<40} {}\n", what, one_line(name), one_line(text));
  };
  pairs("metadata only in A", found.metadata_a);
  pairs("metadata only in B", found.metadata_b);
  for (const DifferentEntry& entry : found.metadata) {
    print("{:<18} {:<40} {} | {}\n", "metadata", one_line(entry.key), one_line(entry.a), one_line(entry.b));
  }
  pairs("tensor only in A", found.tensors_a);
  pairs("tensor only in B", found.tensors_b);
  for (const DifferentTensor& tensor : found.tensors) {
    std::string text = tensor.a == tensor.b ? tensor.a : tensor.a + " | " + tensor.b;
    if (tensor.same_shape && tensor.place.empty()) text += ", the same numbers";
    if (!tensor.place.empty()) {
      text += fmt::format(", largest difference {:.9g} at row {}, column {}", tensor.largest, tensor.place[0],
                          tensor.place[1]);
    }
    print("{:<18} {:<40} {}\n", "tensor", one_line(tensor.name), text);
  }
  print("{} tensors are the same\n", found.same);
}

}  // namespace

Status print_model_difference(const std::string& a, const std::string& b, bool json) {
  KVASS_ASSIGN_OR_RETURN(const ModelDifference found, compare_models(a, b));
  if (!json) print_difference(found);
  KVASS_RETURN_IF_ERROR(json ? print_json(difference_json(found)) : flush_stdout());
  if (found.none()) return {};
  const size_t entries = found.metadata_a.size() + found.metadata_b.size() + found.metadata.size();
  const size_t tensors = found.tensors_a.size() + found.tensors_b.size() + found.tensors.size();
  return bad_input("inspect --diff", "models that are the same",
                   fmt::format("{} metadata entries and {} tensors that differ", entries, tensors));
}

}  // namespace kvass
