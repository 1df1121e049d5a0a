// JSON files of models, read field by field: a missing or wrong one gives one line that names the file and the field.
// A null is a missing field, as in Python's configurations. Views: the tree outlives them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/json_tree.h"
#include "kvass/status.h"

namespace kvass {

// The object in a file; a tree that is null where there is no such file.
Result<JsonTree> read_json_file(const std::string& path);

class JsonFields {
 public:
  using Json = JsonTree::Json;

  // `object`: an object, or null, which has no fields. `where`: the file, for messages.
  JsonFields(const Json& object, std::string where) : object_(&object), where_(std::move(where)) {}

  const Json* find(std::string_view key) const;  // null: missing
  bool has(std::string_view key) const { return find(key) != nullptr; }
  const Json& json() const { return *object_; }
  std::string field(std::string_view key) const;  // "config.json: rope_scaling.factor"

  // Integers in [least, most], and finite numbers.
  Result<int64_t> integer(std::string_view key, int64_t least, int64_t most) const;
  Result<int64_t> integer_or(std::string_view key, int64_t fallback, int64_t least, int64_t most) const;
  Result<double> real(std::string_view key) const;
  Result<double> real_or(std::string_view key, double fallback) const;
  Result<bool> boolean_or(std::string_view key, bool fallback) const;
  Result<std::string> text(std::string_view key) const;
  Result<std::string> text_or(std::string_view key, std::string_view fallback) const;
  // The fields of an object in this one; of none where it is missing.
  Result<JsonFields> object(std::string_view key) const;
  // An array; null where it is missing.
  Result<const Json*> array(std::string_view key) const;

  Status wrong(std::string_view key, std::string_view expected) const;  // with what is there
  Status cannot(std::string_view key, std::string_view expected) const;

 private:
  const Json* object_;
  std::string where_;
  std::string path_;  // "rope_scaling."
};

// A value in a one-line message; the text of an array or object is left out.
std::string json_shown(const JsonTree::Json& value);

}  // namespace kvass
