// A JSON text as a tree that is there and goes away without memory. nlohmann::json by itself allocates in its
// destructor, which may not throw: where there is no memory, the process would end. Here the tree is taken apart leaf
// by leaf, also when parsing has run out of memory. Every text that the library reads goes through it: files of models
// (nested at most kMostDepth deep), and what a person hands in (json_text.h).
#pragma once

#include <nlohmann/json.hpp>
#include <utility>

namespace kvass {

template <class JsonType>
class BasicJsonTree {
 public:
  using Json = JsonType;
  using Look = typename Json::parser_callback_t;  // sees each step of the parser, and may leave values out
  static constexpr int kMostDepth = 100;

  BasicJsonTree() = default;  // null
  // Discarded (Json::is_discarded) where the bytes are no valid text, or arrays and objects are nested deeper.
  template <class Iterator>
  BasicJsonTree(Iterator begin, Iterator end, const Look& look = nullptr, int most_depth = kMostDepth) {
    try {
      bool deep = false;
      const Look bounded = [&](int depth, typename Json::parse_event_t event, Json& value) {
        const bool opens = event == Json::parse_event_t::object_start || event == Json::parse_event_t::array_start;
        deep = deep || (opens && depth >= most_depth);
        return !(opens && depth >= most_depth) && (!look || look(depth, event, value));
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
  BasicJsonTree(BasicJsonTree&& other) noexcept : root_(std::move(other.root_)) {}
  BasicJsonTree& operator=(BasicJsonTree&&) = delete;
  ~BasicJsonTree() { clear(root_); }

  const Json& root() const { return root_; }
  Json& root() { return root_; }

 private:
  // Containers that are empty are destroyed without a stack.
  static void clear(Json& value) noexcept {
    if (auto* const array = value.template get_ptr<typename Json::array_t*>()) {
      for (Json& item : *array) clear(item);
      array->clear();
    } else if (auto* const object = value.template get_ptr<typename Json::object_t*>()) {
      for (auto& [name, item] : *object) clear(item);
      object->clear();
    }
  }

  Json root_;
};

using JsonTree = BasicJsonTree<nlohmann::json>;

}  // namespace kvass
