// A JSON text as a tree that is there and goes away without memory. nlohmann::json by itself allocates in its
// destructor, which may not throw: where there is no memory, the process would end. Here the tree is taken apart leaf
// by leaf, also when parsing has run out of memory. For texts that the library reads; what is nested deeper than
// kMostDepth is no valid text.
#pragma once

#include <nlohmann/json.hpp>
#include <utility>

namespace kvass {

class JsonTree {
 public:
  using Json = nlohmann::json;
  using Look = Json::parser_callback_t;  // sees each step of the parser, and may leave values out
  static constexpr int kMostDepth = 100;

  JsonTree() = default;  // null
  // Discarded (Json::is_discarded) where the bytes are no valid text.
  template <class Iterator>
  JsonTree(Iterator begin, Iterator end, const Look& look = nullptr) {
    try {
      bool deep = false;
      const Look bounded = [&](int depth, Json::parse_event_t event, Json& value) {
        const bool opens = event == Json::parse_event_t::object_start || event == Json::parse_event_t::array_start;
        deep = deep || (opens && depth >= kMostDepth);
        return !(opens && depth >= kMostDepth) && (!look || look(depth, event, value));
      };
      nlohmann::detail::json_sax_dom_callback_parser<Json> parser(root_, bounded, /*allow_exceptions=*/false);
      if (!Json::sax_parse(begin, end, &parser) || parser.is_errored() || deep) {
        clear(root_);
        root_ = Json(Json::value_t::discarded);
      }
    } catch (...) {
      clear(root_);
      throw;
    }
  }
  JsonTree(JsonTree&& other) noexcept : root_(std::move(other.root_)) {}
  JsonTree& operator=(JsonTree&&) = delete;
  ~JsonTree() { clear(root_); }

  const Json& root() const { return root_; }

 private:
  // Containers that are empty are destroyed without a stack.
  static void clear(Json& value) noexcept {
    if (auto* const array = value.get_ptr<Json::array_t*>()) {
      for (Json& item : *array) clear(item);
      array->clear();
    } else if (auto* const object = value.get_ptr<Json::object_t*>()) {
      for (auto& [name, item] : *object) clear(item);
      object->clear();
    }
  }

  Json root_;
};

}  // namespace kvass
