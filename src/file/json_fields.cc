#include "file/json_fields.h"

#include <cmath>

#include "base/file_map.h"
#include "base/platform.h"
#include "file/one_line.h"

namespace kvass {

std::string json_shown(const JsonTree::Json& value) {
  if (value.is_string()) return quoted_name(value.get_ref<const std::string&>());
  if (value.is_array()) return "an array of " + std::to_string(value.size());
  if (value.is_object()) return "an object";
  return value.dump();
}

Result<JsonTree> read_json_file(const std::string& path) {
  if (platform::file_info(path).kind != platform::FileKind::file) return JsonTree();
  KVASS_ASSIGN_OR_RETURN(const FileMap map, FileMap::open(path));
  JsonTree tree(map.bytes().begin(), map.bytes().end());
  KVASS_RETURN_IF_ERROR(map.check());
  if (tree.root().is_object()) return tree;
  return bad_input(path, "a JSON object", tree.root().is_discarded() ? "no valid JSON" : json_shown(tree.root()));
}

const JsonFields::Json* JsonFields::find(std::string_view key) const {
  if (!object_->is_object()) return nullptr;
  const auto found = object_->find(key);
  return found == object_->end() || found->is_null() ? nullptr : &*found;
}

std::string JsonFields::field(std::string_view key) const { return where_ + ": " + path_ + std::string(key); }

Status JsonFields::wrong(std::string_view key, std::string_view expected) const {
  const Json* const value = find(key);
  return bad_input(field(key), expected, value ? json_shown(*value) : "none");
}

Status JsonFields::cannot(std::string_view key, std::string_view expected) const {
  const Json* const value = find(key);
  return unsupported(field(key), expected, value ? json_shown(*value) : "none");
}

Result<int64_t> JsonFields::integer(std::string_view key, int64_t least, int64_t most) const {
  const Json* const value = find(key);
  const bool fits = value && value->is_number_integer() &&
                    !(value->is_number_unsigned() && value->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX));
  if (fits && value->get<int64_t>() >= least && value->get<int64_t>() <= most) return value->get<int64_t>();
  return wrong(key, "an integer from " + std::to_string(least) + " to " + std::to_string(most));
}

Result<int64_t> JsonFields::integer_or(std::string_view key, int64_t fallback, int64_t least, int64_t most) const {
  return has(key) ? integer(key, least, most) : Result<int64_t>(fallback);
}

Result<double> JsonFields::real(std::string_view key) const {
  const Json* const value = find(key);
  if (value && value->is_number() && std::isfinite(value->get<double>())) return value->get<double>();
  return wrong(key, "a finite number");
}

Result<double> JsonFields::real_or(std::string_view key, double fallback) const {
  return has(key) ? real(key) : Result<double>(fallback);
}

Result<bool> JsonFields::boolean_or(std::string_view key, bool fallback) const {
  const Json* const value = find(key);
  if (!value) return fallback;
  if (value->is_boolean()) return value->get<bool>();
  return wrong(key, "true or false");
}

Result<std::string> JsonFields::text(std::string_view key) const {
  const Json* const value = find(key);
  if (value && value->is_string()) return value->get<std::string>();
  return wrong(key, "a text");
}

Result<std::string> JsonFields::text_or(std::string_view key, std::string_view fallback) const {
  return has(key) ? text(key) : Result<std::string>(std::string(fallback));
}

Result<JsonFields> JsonFields::object(std::string_view key) const {
  static const Json kNone;
  const Json* const value = find(key);
  if (value && !value->is_object()) return wrong(key, "an object");
  JsonFields fields(value ? *value : kNone, where_);
  fields.path_ = path_ + std::string(key) + ".";
  return fields;
}

Result<const JsonFields::Json*> JsonFields::array(std::string_view key) const {
  const Json* const value = find(key);
  if (value && !value->is_array()) return wrong(key, "an array");
  return value;
}

}  // namespace kvass
