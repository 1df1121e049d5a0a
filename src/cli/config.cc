#include "cli/config.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cctype>
#include <numeric>
#include <set>

#include "cli/command.h"

namespace kvass {
namespace {

constexpr size_t kMaxFileBytes = size_t{1} << 20;
constexpr size_t kMaxShownBytes = 80;  // of a text from the file, in messages

std::string flag_name(std::string key) {
  std::replace(key.begin(), key.end(), '_', '-');
  return key;
}

// The names that a file may use for an option, without dashes: its long ones, or that of a positional in lower case.
std::vector<std::string> key_names(const CLI::Option& option) {
  std::vector<std::string> names = option.get_lnames();
  if (option.get_positional() && names.empty()) {
    std::string name = option.get_name(/*positional=*/true);
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
    names.push_back(name);
  }
  return names;
}

// Edits (insert, delete, replace) from one text to the other. Levenshtein, 1965.
size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

struct Known {
  CLI::Option* option = nullptr;
  std::string nearest;  // where there is none: the name closest to it
};

Known find_option(CLI::App& command, const std::string& name) {
  Known known;
  size_t least = SIZE_MAX;
  for (CLI::Option* option : command.get_options()) {
    if (!option->get_configurable()) continue;
    for (const std::string& candidate : key_names(*option)) {
      if (candidate == name) return {option, {}};
      const size_t distance = edit_distance(name.substr(0, kMaxShownBytes), candidate);
      if (distance >= least) continue;
      least = distance;
      known.nearest = candidate;
    }
  }
  std::replace(known.nearest.begin(), known.nearest.end(), '-', '_');
  return known;
}

bool is_flag(const CLI::Option& option) { return option.get_expected_max() == 0 || option.get_items_expected() == 0; }

// The value of a key as the texts that the command line would have.
Result<std::vector<std::string>> option_values(const std::string& where, const CLI::Option& option,
                                               const YAML::Node& value) {
  if (is_flag(option)) {
    bool on = false;
    if (!value.IsScalar() || !YAML::convert<bool>::decode(value, on)) {
      return bad_input(where, "true or false", value.IsScalar() ? "'" + value.Scalar() + "'" : "a list or a mapping");
    }
    return on ? std::vector<std::string>{"true"} : std::vector<std::string>{};
  }
  if (value.IsScalar()) return std::vector<std::string>{value.Scalar()};
  const bool takes_list = option.get_items_expected_max() > 1;
  const bool scalars = value.IsSequence() &&
                       std::all_of(value.begin(), value.end(), [](const YAML::Node& item) { return item.IsScalar(); });
  if (!takes_list || !scalars) {
    return bad_input(where, takes_list ? "a value or a list of values" : "one value",
                     value.IsNull()       ? "none"
                     : value.IsSequence() ? "a list"
                                          : "a mapping");
  }
  std::vector<std::string> values;
  for (const YAML::Node& item : value) values.push_back(item.Scalar());
  return values;
}

}  // namespace

void add_config(CLI::App& command) {
  command.add_option("--config", "These flags from a YAML file: `attention_sink: \"4,508\"`; the command line wins")
      ->type_name("FILE")
      ->configurable(false);
}

ConfigFile::ConfigFile(CLI::App& command) : command_(&command) {
  for (CLI::Option* option : command.get_options()) {
    if (!option->get_required()) continue;
    required_.push_back(option);
    option->required(false);
  }
}

Status ConfigFile::apply() {
  if (const CLI::Option* config = command_->get_option_no_throw("--config"); config && config->count() > 0) {
    const std::string path = config->as<std::string>();
    KVASS_ASSIGN_OR_RETURN(const std::string text, read_text(path, kMaxFileBytes));
    KVASS_RETURN_IF_ERROR(apply_text(path, text));
  }
  for (const CLI::Option* option : required_) {
    if (option->count() == 0) throw CLI::RequiredError(option->get_name(/*positional=*/option->get_positional()));
  }
  return {};
}

Status ConfigFile::apply_text(const std::string& path, const std::string& text) {
  if (text.size() > kMaxFileBytes) {
    return bad_input(path, "at most " + std::to_string(kMaxFileBytes) + " bytes", std::to_string(text.size()));
  }
  YAML::Node root;
  try {
    root = YAML::Load(text);
  } catch (const YAML::Exception& error) {
    return bad_input(path, "YAML", error.what());
  }
  if (root.IsNull()) return {};
  if (!root.IsMap()) return bad_input(path, "a mapping of flag names to values", "something else");

  std::set<const CLI::Option*> by_flag;
  for (const CLI::Option* option : command_->get_options()) {
    if (option->count() > 0) by_flag.insert(option);
  }
  std::set<const CLI::Option*> seen;
  for (const auto& entry : root) {
    std::string where = path + ":" + std::to_string(entry.first.Mark().line + 1);
    if (!entry.first.IsScalar()) return bad_input(where, "the name of a flag", "a list or a mapping");
    const std::string key = entry.first.Scalar().substr(0, kMaxShownBytes);
    where += ": " + key;
    const Known known = find_option(*command_, flag_name(entry.first.Scalar()));
    if (!known.option) {
      return bad_input(where, "a flag of `kvass " + command_->get_name() + "` (did you mean " + known.nearest + "?)",
                       "'" + key + "'");
    }
    if (!seen.insert(known.option).second) return bad_input(where, "each flag once", "it again");
    const std::set<CLI::Option*> excluded = known.option->get_excludes();
    const auto given = [&](const CLI::Option* option) { return by_flag.contains(option); };
    if (given(known.option) || std::any_of(excluded.begin(), excluded.end(), given)) continue;
    for (const CLI::Option* other : excluded) {
      if (seen.contains(other)) {
        return bad_input(where, "not to stand beside " + other->get_name(), "both");
      }
    }
    KVASS_ASSIGN_OR_RETURN(const std::vector<std::string> values, option_values(where, *known.option, entry.second));
    if (values.empty()) continue;
    try {
      known.option->add_result(values);
      known.option->run_callback();
    } catch (const CLI::ParseError& error) {
      return bad_input(where, "a value of " + known.option->get_name() + " " + known.option->get_type_name(),
                       error.what());
    }
  }
  return {};
}

}  // namespace kvass
