// json.dumps as transformers' `tojson` calls it.
#include <algorithm>
#include <cmath>

#include "text/jinja/budget.h"
#include "text/jinja/value.h"

namespace kvass::jinja {
namespace {

class Writer {
 public:
  explicit Writer(const JsonStyle& style) : style_(style) {
    item_ = style.item_separator.empty() ? (style.indent < 0 ? ", " : ",") : style.item_separator;
    key_ = style.key_separator.empty() ? ": " : style.key_separator;
  }

  void write(const Value& value, int64_t depth) {
    Budget::work(kStep);
    if (value.is_string()) return quoted(value.text());
    if (value.is_none()) return out_.append("null");
    if (value.is_bool()) return out_.append(value.boolean() ? "true" : "false");
    if (value.is_int()) return out_.append(std::to_string(value.integer()));
    if (value.is_float()) return out_.append(number(value.real()));
    if (value.is_list() && !value.is_generator()) return list(value.list(), depth);
    if (value.is_dict()) return dict(value.dict(), depth);
    fail("Object of type " + std::string(value.type_name()) + " is not JSON serializable");
  }
  Text take() { return std::move(out_); }

 private:
  static std::string number(double value) {
    if (std::isnan(value)) return "NaN";
    if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
    return format_float(value);
  }

  void line(int64_t depth) {
    if (style_.indent < 0) return;
    out_.append("\n");
    for (int64_t i = 0; i < depth; ++i) out_.append_times(space_, static_cast<size_t>(style_.indent));
  }

  void list(const List& list, int64_t depth) {
    if (list.items.empty()) return out_.append("[]");
    out_.append("[");
    for (size_t i = 0; i < list.items.size(); ++i) {
      if (i != 0) out_.append(item_);
      line(depth + 1);
      write(list.items[i], depth + 1);
    }
    line(depth);
    out_.append("]");
  }

  void dict(const Dict& dict, int64_t depth) {
    if (dict.items.empty()) return out_.append("{}");
    Budget::bytes(2 * dict.items.size(), sizeof(void*));
    std::vector<const std::pair<Value, Value>*> items;
    for (const auto& item : dict.items) items.push_back(&item);
    if (style_.sort_keys) {
      std::stable_sort(items.begin(), items.end(),
                       [](const auto* a, const auto* b) { return less(a->first, b->first); });
    }
    out_.append("{");
    for (size_t i = 0; i < items.size(); ++i) {
      if (i != 0) out_.append(item_);
      line(depth + 1);
      key(items[i]->first);
      out_.append(key_);
      write(items[i]->second, depth + 1);
    }
    line(depth);
    out_.append("}");
  }

  void key(const Value& key) {
    if (key.is_string()) return quoted(key.text());
    if (key.is_list() || key.is_dict() || key.is_object() || key.is_undefined()) {
      fail("keys must be str, int, float, bool or None, not " + std::string(key.type_name()));
    }
    out_.append("\"");
    write(key, 0);
    out_.append("\"");
  }

  void quoted(const Text& text) {
    static constexpr std::string_view kFrom = "\"\\\n\r\t\f\b", kTo = "\"\\nrtfb";
    const std::string_view bytes = text.bytes();
    Budget::work(2 * bytes.size());
    out_.append("\"");
    size_t plain = 0;  // begin of what is copied as it is
    for (size_t at = 0; at < bytes.size();) {
      const size_t begin = at;
      const uint32_t c = decode_character(bytes, at);
      const size_t simple = c < 0x80 ? kFrom.find(static_cast<char>(c)) : std::string_view::npos;
      if (simple == std::string_view::npos && c >= 0x20 && !(style_.ascii && c >= 0x7F)) continue;
      out_.append(text, plain, begin);
      plain = at;
      if (simple != std::string_view::npos) {
        const char escaped[] = {'\\', kTo[simple]};
        out_.append(std::string_view(escaped, sizeof escaped), text.outside(begin));
      } else if (c >= 0x10000) {
        escape(0xD800 + ((c - 0x10000) >> 10));
        escape(0xDC00 + ((c - 0x10000) & 0x3FF));
      } else {
        escape(c);
      }
    }
    out_.append(text, plain, text.size());
    out_.append("\"");
  }
  void escape(uint32_t unit) {
    static constexpr char kHex[] = "0123456789abcdef";
    std::string text = "\\u";
    for (int shift = 12; shift >= 0; shift -= 4) text.push_back(kHex[unit >> shift & 15]);
    out_.append(text);
  }

  const JsonStyle& style_;
  std::string item_, key_;
  const Text space_{" "};
  Text out_;
};

}  // namespace

Text to_json(const Value& value, const JsonStyle& style) {
  Writer writer(style);
  writer.write(value, 0);
  return writer.take();
}

}  // namespace kvass::jinja
