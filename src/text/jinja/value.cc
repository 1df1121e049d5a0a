#include "text/jinja/value.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>

#include "text/jinja/budget.h"

namespace kvass::jinja {
namespace {

constexpr int kMostDepth = 200;     // of lists and dicts in one another
constexpr size_t kHashedFrom = 16;  // items of a dict

int depth_of(const std::vector<Value>& items) {
  int depth = 0;
  for (const Value& item : items) depth = std::max(depth, item.depth());
  check_depth(depth + 1);
  return depth + 1;
}

void append_repr(const Value& value, Text& out, int depth);

// The hash of a key, the same for keys that are equal.
size_t hash_of(const Value& key) {
  if (key.is_string()) {
    Budget::work(8 + key.text().size() / 4);
    return std::hash<std::string_view>()(key.string());
  }
  if (key.is_number()) return std::hash<double>()(key.real());
  return 0;
}

void append_items(const std::vector<Value>& items, Text& out, int depth) {
  for (size_t i = 0; i < items.size(); ++i) {
    if (i != 0) out.append(", ");
    append_repr(items[i], out, depth + 1);
  }
}

// As Python shows a string: in single quotes, unless it has those and no double ones.
void append_quoted(const Text& text, Text& out) {
  const bool doubled =
      text.bytes().find('\'') != std::string_view::npos && text.bytes().find('"') == std::string_view::npos;
  const char quote = doubled ? '"' : '\'';
  const std::string_view bytes = text.bytes();
  Budget::work(bytes.size());
  out.append(std::string_view(&quote, 1));
  for (size_t at = 0; at < bytes.size();) {
    const size_t begin = at;
    const uint32_t c = decode_character(bytes, at);
    const char* hex = "0123456789abcdef";
    if (c == '\n') {
      out.append("\\n");
    } else if (c == '\r') {
      out.append("\\r");
    } else if (c == '\t') {
      out.append("\\t");
    } else if (c == '\\' || c == static_cast<uint32_t>(quote)) {
      out.append("\\");
      out.append(text, begin, at);
    } else if (c < 0x20 || (c >= 0x7F && c < 0xA1) || c == 0xAD) {
      out.append(std::string("\\x") + hex[c >> 4 & 15] + hex[c & 15]);
    } else {
      out.append(text, begin, at);
    }
  }
  out.append(std::string_view(&quote, 1));
}

void append_dict(const Dict& dict, Text& out, int depth) {
  out.append("{");
  bool first = true;
  for (const auto& [key, item] : dict.items) {
    if (!first) out.append(", ");
    first = false;
    append_repr(key, out, depth + 1);
    out.append(": ");
    append_repr(item, out, depth + 1);
  }
  out.append("}");
}

void append_repr(const Value& value, Text& out, int depth) {
  Budget::work(kStep);
  if (depth > kMostDepth) fail("a value that contains itself cannot be printed");
  if (value.is_string()) return append_quoted(value.text(), out);
  if (value.is_undefined()) return out.append("Undefined");
  if (value.is_list()) {
    const List& list = value.list();
    if (list.form == List::Form::generator) return out.append("<generator object>");
    if (list.view()) out.append(std::string(list.type_name()) + "(");
    out.append(list.tuple() ? "(" : "[");
    append_items(list.items, out, depth);
    out.append(list.tuple() ? (list.items.size() == 1 ? ",)" : ")") : "]");
    if (list.view()) out.append(")");
    return;
  }
  if (value.is_dict()) return append_dict(value.dict(), out, depth);
  if (value.is_object()) {
    if (const auto* space = dynamic_cast<const Namespace*>(value.object().get())) {
      out.append("<Namespace ");
      append_dict(space->values, out, depth + 1);
      return out.append(">");
    }
    return out.append("<" + std::string(value.type_name()) + ">");
  }
  out.append(value.str());
}

[[noreturn]] void cannot_compare(const Value& a, const Value& b) {
  if (a.is_undefined()) fail(a.why_undefined());
  if (b.is_undefined()) fail(b.why_undefined());
  fail("'<' not supported between instances of '" + std::string(a.type_name()) + "' and '" +
       std::string(b.type_name()) + "'");
}

}  // namespace

void fail(std::string message) { throw Failure{std::move(message)}; }

void check_depth(int depth) {
  if (depth > kMostDepth) fail("lists and dicts are nested deeper than " + std::to_string(kMostDepth));
}

Value::Value(Text text) {
  Budget::work(kStep);
  Budget::bytes(sizeof(Text));
  data_ = std::make_shared<const Text>(std::move(text));
}

Value Value::make_list(std::vector<Value> items, int form) {
  Value value;
  Budget::work(kStep + items.size());
  Budget::bytes(sizeof(List) + items.size() * sizeof(Value));
  const int depth = depth_of(items);
  value.data_ = std::make_shared<const List>(List{std::move(items), static_cast<List::Form>(form), depth});
  return value;
}
Value Value::list(std::vector<Value> items) { return make_list(std::move(items), 0); }
Value Value::tuple(std::vector<Value> items) { return make_list(std::move(items), 1); }
Value Value::generator(std::vector<Value> items) { return make_list(std::move(items), 2); }

Value Value::view(std::vector<Value> items, std::string_view of) {
  const List::Form form = of == "keys" ? List::Form::keys : of == "values" ? List::Form::values : List::Form::items;
  return make_list(std::move(items), static_cast<int>(form));
}

std::string_view List::type_name() const {
  constexpr std::string_view kNames[] = {"list", "tuple", "generator", "dict_keys", "dict_values", "dict_items"};
  return kNames[static_cast<size_t>(form)];
}

bool Value::is_generator() const { return is_list() && list().generator(); }

Value Value::dict(Dict dict) {
  Value value;
  Budget::work(kStep);
  Budget::bytes(sizeof(Dict));
  value.data_ = std::make_shared<const Dict>(std::move(dict));
  return value;
}

const std::string& Value::why_undefined() const {
  static const std::string unnamed = "a value is undefined";
  const Undefined& undefined = std::get<Undefined>(data_);
  return undefined.why ? *undefined.why : unnamed;
}

bool Value::truth() const {
  if (is_bool()) return boolean();
  if (is_int()) return integer() != 0;
  if (is_float()) return real() != 0.0;
  if (is_string()) return !text().empty();
  if (is_list()) return list().form == List::Form::generator || !list().items.empty();
  if (is_dict()) return !dict().items.empty();
  return is_object();
}

std::string_view Value::type_name() const {
  if (is_undefined()) return "Undefined";
  if (is_none()) return "NoneType";
  if (is_bool()) return "bool";
  if (is_int()) return "int";
  if (is_float()) return "float";
  if (is_string()) return "str";
  if (is_list()) return list().type_name();
  if (is_dict()) return "dict";
  return object()->type_name();
}

Text Value::str() const {
  if (is_undefined()) return Text();
  if (is_none()) return Text("None");
  if (is_bool()) return Text(boolean() ? "True" : "False");
  if (is_int()) return Text(std::to_string(integer()));
  if (is_float()) return Text(format_float(real()));
  if (is_string()) return text();
  return repr();
}

Text Value::repr() const {
  Text out;
  append_repr(*this, out, 0);
  return out;
}

int Value::depth() const {
  return is_list() ? list().depth : is_dict() ? dict().depth : is_object() ? object()->depth() : 0;
}

bool Value::same_as(const Value& other) const {
  if (data_.index() != other.data_.index()) return false;
  if (is_string()) return std::get<TextRef>(data_) == std::get<TextRef>(other.data_) || equal(*this, other);
  if (is_list()) return std::get<ListRef>(data_) == std::get<ListRef>(other.data_);
  if (is_dict()) return std::get<DictRef>(data_) == std::get<DictRef>(other.data_);
  if (is_object()) return object() == other.object();
  if (is_undefined()) return false;
  return equal(*this, other);
}

const Value* Dict::find(std::string_view key) const {
  const auto is_key = [&](const Value& name) {
    Budget::work(2 + key.size() / kStep);
    return name.is_string() && name.string() == key;
  };
  if (by_hash_.empty()) {
    for (const auto& [name, value] : items) {
      if (is_key(name)) return &value;
    }
    return nullptr;
  }
  Budget::work(8 + key.size() / 4);
  const auto [begin, end] = by_hash_.equal_range(std::hash<std::string_view>()(key));
  const auto found = std::find_if(begin, end, [&](const auto& entry) { return is_key(items[entry.second].first); });
  return found == end ? nullptr : &items[found->second].second;
}

const Value* Dict::find(const Value& key) const {
  if (key.is_string()) return find(key.string());
  if (by_hash_.empty()) {
    for (const auto& [name, value] : items) {
      if (equal(name, key)) return &value;
    }
    return nullptr;
  }
  const auto [begin, end] = by_hash_.equal_range(hash_of(key));
  const auto found = std::find_if(begin, end, [&](const auto& entry) { return equal(items[entry.second].first, key); });
  return found == end ? nullptr : &items[found->second].second;
}

void Dict::set(Value key, Value value) {
  const bool hashable = !key.is_dict() && !(key.is_list() && !key.list().tuple());
  if (!hashable) fail("unhashable type: '" + std::string(key.type_name()) + "'");
  depth = std::max({depth, value.depth() + 1, key.depth() + 1});
  check_depth(depth);
  if (const Value* old = find(key)) {
    *const_cast<Value*>(old) = std::move(value);
    return;
  }
  Budget::bytes(2 * (sizeof(key) + sizeof(value)));
  items.emplace_back(std::move(key), std::move(value));
  const auto add_hash = [&](size_t item) {
    constexpr size_t kNode = 64;  // bytes of the index, about
    Budget::bytes(kNode);
    by_hash_.emplace(hash_of(items[item].first), item);
  };
  if (!by_hash_.empty()) {
    add_hash(items.size() - 1);
  } else if (items.size() == kHashedFrom) {
    for (size_t i = 0; i < items.size(); ++i) add_hash(i);
  }
}

Value Object::call(Interpreter&, Arguments&) { fail("'" + std::string(type_name()) + "' object is not callable"); }

std::optional<Value> Namespace::attribute(std::string_view name) {
  if (name.starts_with('_')) return std::nullopt;  // the sandbox hides them
  const Value* value = values.find(name);
  return value ? std::optional(*value) : std::nullopt;
}

bool equal(const Value& a, const Value& b) {
  Budget::work(4);
  if (a.is_number() && b.is_number()) {
    return a.is_float() || b.is_float() ? a.real() == b.real() : a.integer() == b.integer();
  }
  if (a.is_string() && b.is_string()) {
    if (a.text().size() != b.text().size()) return false;
    Budget::work(a.text().size() / kStep);
    return a.string() == b.string();
  }
  if (a.is_none() || b.is_none()) return a.is_none() && b.is_none();
  if (a.is_undefined() || b.is_undefined()) return a.is_undefined() && b.is_undefined();
  if (a.is_list() && b.is_list() && a.list().view()) {  // keys and items are as sets
    return a.same_as(b) || (a.list().form != List::Form::values && a.list().form == b.list().form &&
                            a.list().items.size() == b.list().items.size() &&
                            std::all_of(a.list().items.begin(), a.list().items.end(),
                                        [&](const Value& item) { return contains(b, item); }));
  }
  if (a.is_list() && b.is_list()) {
    return a.list().form == b.list().form && !a.is_generator() &&
           std::equal(a.list().items.begin(), a.list().items.end(), b.list().items.begin(), b.list().items.end(),
                      equal);
  }
  if (a.is_dict() && b.is_dict()) {
    if (a.dict().items.size() != b.dict().items.size()) return false;
    return std::all_of(a.dict().items.begin(), a.dict().items.end(), [&](const auto& item) {
      const Value* other = b.dict().find(item.first);
      return other && equal(item.second, *other);
    });
  }
  return a.is_object() && b.is_object() && a.object() == b.object();
}

bool less(const Value& a, const Value& b) {
  Budget::work(4);
  if (a.is_number() && b.is_number()) {
    return a.is_float() || b.is_float() ? a.real() < b.real() : a.integer() < b.integer();
  }
  if (a.is_string() && b.is_string()) {
    Budget::work(std::min(a.text().size(), b.text().size()) / kStep);
    return a.string() < b.string();
  }
  if (a.is_list() && b.is_list() && a.list().form == b.list().form && !a.is_generator()) {
    const std::vector<Value>&x = a.list().items, &y = b.list().items;
    for (size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
      if (!equal(x[i], y[i])) return less(x[i], y[i]);
    }
    return x.size() < y.size();
  }
  cannot_compare(a, b);
}

bool contains(const Value& container, const Value& item) {
  if (container.is_string()) {
    if (!item.is_string()) {
      fail("'in <string>' requires string as left operand, not " + std::string(item.type_name()));
    }
    return find_bytes(container.string(), item.string()) != std::string_view::npos;
  }
  if (container.is_dict()) return container.dict().find(item) != nullptr;
  if (container.is_undefined()) return false;
  if (!container.is_list()) fail("argument of type '" + std::string(container.type_name()) + "' is not iterable");
  return std::any_of(container.list().items.begin(), container.list().items.end(),
                     [&](const Value& other) { return equal(other, item); });
}

std::vector<Value> iterate(const Value& value) {
  const auto room = [](size_t items) {
    Budget::bytes(items, sizeof(Value));
    Budget::work(2 * items);
    std::vector<Value> list;
    list.reserve(items);
    return list;
  };
  if (value.is_undefined()) return {};
  if (value.is_list()) {
    std::vector<Value> items = room(value.list().items.size());
    items.insert(items.end(), value.list().items.begin(), value.list().items.end());
    return items;
  }
  if (value.is_dict()) {
    std::vector<Value> items = room(value.dict().items.size());
    for (const auto& [key, item] : value.dict().items) items.push_back(key);
    return items;
  }
  if (!value.is_string()) fail("'" + std::string(value.type_name()) + "' object is not iterable");
  const Text& text = value.text();
  std::vector<Value> items = room(text.characters());
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    decode_character(text.bytes(), at);
    items.emplace_back(text.slice(begin, at));
  }
  return items;
}

int64_t length(const Value& value) {
  if (value.is_string()) return static_cast<int64_t>(value.text().characters());
  if (value.is_list() && value.list().form != List::Form::generator)
    return static_cast<int64_t>(value.list().items.size());
  if (value.is_dict()) return static_cast<int64_t>(value.dict().items.size());
  if (value.is_undefined()) return 0;
  fail("object of type '" + std::string(value.type_name()) + "' has no len()");
}

std::string format_float(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  const double magnitude = std::fabs(value);
  char buffer[64];
  const bool exponent = magnitude != 0.0 && (magnitude < 1e-4 || magnitude >= 1e16);
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), value,
                                 exponent ? std::chars_format::scientific : std::chars_format::fixed)
                       .ptr;
  std::string text(buffer, end);
  if (!exponent && text.find('.') == std::string::npos) text += ".0";
  return text;
}

}  // namespace kvass::jinja
