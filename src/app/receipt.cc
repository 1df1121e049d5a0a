#include "app/receipt.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "app/generate.h"
#include "base/json_text.h"
#include "kvass/version.h"

namespace kvass {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kForm = 1;
constexpr int64_t kRows = 16;  // of logits at once

std::span<const uint8_t> bytes_of(const auto& value) {
  return {reinterpret_cast<const uint8_t*>(&value), sizeof value};
}

std::string link(std::string_view before, std::span<const float> logits, int32_t token) {
  Hasher hasher;
  hasher.add({reinterpret_cast<const uint8_t*>(before.data()), before.size()});
  hasher.add({reinterpret_cast<const uint8_t*>(logits.data()), logits.size_bytes()});
  hasher.add(bytes_of(token));
  return fmt::format("{:016x}", hasher.result().low);
}

Json sampling_json(const SampleOptions& sampling, const OutputPenalties& penalties) {
  Json bias = Json::array();
  for (const LogitBias& one : sampling.logit_bias) {
    bias.push_back({one.id, std::isinf(one.bias) ? Json() : Json(one.bias)});  // null: never
  }
  return {{"temperature", sampling.temperature},
          {"top_k", sampling.top_k},
          {"top_p", sampling.top_p},
          {"min_p", sampling.min_p},
          {"repeat_penalty", sampling.repeat_penalty},
          {"repeat_last_n", sampling.repeat_last_n},
          {"presence_penalty", penalties.presence},
          {"frequency_penalty", penalties.frequency},
          {"seed", sampling.seed},
          {"logit_bias", bias}};
}

// Fields of an object, with what is wrong named.
class Reader {
 public:
  Reader(const Json& object, std::string name) : object_(object), name_(std::move(name)) {}

  template <class T>
  Status integer(const char* key, T& to) {
    const auto found = object_.find(key);
    const bool fits = found != object_.end() && found->is_number_integer() &&
                      (std::is_same_v<T, uint64_t> ? found->is_number_unsigned() || found->template get<int64_t>() >= 0
                                                   : std::in_range<T>(found->template get<int64_t>()));
    if (!fits) return wrong(key, "an integer of its range");
    to = found->template get<T>();
    return {};
  }
  Status number(const char* key, float& to) {
    const auto found = object_.find(key);
    if (found == object_.end() || !found->is_number()) return wrong(key, "a number");
    to = found->get<float>();
    return {};
  }
  Status text(const char* key, std::string& to) {
    const auto found = object_.find(key);
    if (found == object_.end() || !found->is_string()) return wrong(key, "a string");
    to = found->get<std::string>();
    return {};
  }
  Status ids(const char* key, std::vector<int32_t>& to) {
    const auto found = object_.find(key);
    if (found == object_.end() || !found->is_array()) return wrong(key, "a list of token ids");
    for (const Json& id : *found) {
      if (!id.is_number_integer() || !std::in_range<int32_t>(id.get<int64_t>()) || id.get<int64_t>() < 0) {
        return wrong(key, "token ids");
      }
      to.push_back(id.get<int32_t>());
    }
    return {};
  }
  Status wrong(const char* key, std::string_view expected) const {
    return bad_input(name_ + ": " + key, expected, object_.contains(key) ? "something else" : "none");
  }

 private:
  const Json& object_;
  std::string name_;
};

}  // namespace

Receipt receipt_of(const OpenModel& model, const CacheOptions& caches, const SampleOptions& sampling,
                   const OutputPenalties& penalties, std::span<const int32_t> prompt) {
  Receipt receipt;
  receipt.model = model.path.substr(model.path.rfind('/') + 1);
  receipt.fingerprint = hash_text(model.engine->fingerprint());
  receipt.numerics = kNumericsVersion;
  receipt.math = model.engine->math();
  receipt.caches = caches;
  receipt.sampling = sampling;
  receipt.penalties = penalties;
  receipt.prompt.assign(prompt.begin(), prompt.end());
  return receipt;
}

void add_token(Receipt& receipt, std::span<const float> logits, int32_t token) {
  receipt.hashes.push_back(link(receipt.hashes.empty() ? receipt.fingerprint : receipt.hashes.back(), logits, token));
  receipt.ids.push_back(token);
}

std::string receipt_json(const Receipt& receipt) {
  const CacheOptions& caches = receipt.caches;
  const Json json = {{"kvass_receipt", kForm},
                     {"model", receipt.model},
                     {"fingerprint", receipt.fingerprint},
                     {"numerics", receipt.numerics},
                     {"math", std::string(math_name(receipt.math))},
                     {"caches",
                      {{"kv", std::string(dtype_name(caches.dtype))},
                       {"context", caches.context},
                       {"sinks", caches.sinks ? Json{caches.sink_tokens, caches.sink_window} : Json()},
                       {"sink_positions", std::string(sink_positions_name(caches.sink_positions))},
                       {"rotary_offset", caches.rotary_offset}}},
                     {"sampling", sampling_json(receipt.sampling, receipt.penalties)},
                     {"prompt_ids", receipt.prompt},
                     {"ids", receipt.ids},
                     {"hashes", receipt.hashes}};
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<Receipt> parse_receipt(std::string_view text, const std::string& name) {
  KVASS_ASSIGN_OR_RETURN(const BasicJsonTree<Json> tree, parse_json<Json>(name, text, Json::value_t::object));
  // The receipt itself, or an answer that has one.
  const Json* json = &tree.root();
  if (const auto inside = json->find("receipt"); inside != json->end() && inside->is_object()) json = &*inside;
  Reader reader(*json, name);
  int form = 0;
  KVASS_RETURN_IF_ERROR(reader.integer("kvass_receipt", form));
  if (form != kForm) return bad_input(name + ": kvass_receipt", std::to_string(kForm), std::to_string(form));
  Receipt receipt;
  std::string math, kv, positions;
  KVASS_RETURN_IF_ERROR(reader.text("model", receipt.model));
  KVASS_RETURN_IF_ERROR(reader.text("fingerprint", receipt.fingerprint));
  KVASS_RETURN_IF_ERROR(reader.integer("numerics", receipt.numerics));
  KVASS_RETURN_IF_ERROR(reader.text("math", math));
  KVASS_ASSIGN_OR_RETURN(receipt.math, parse_math(math));
  const auto caches = json->find("caches"), sampling = json->find("sampling"), hashes = json->find("hashes");
  if (caches == json->end() || !caches->is_object()) return reader.wrong("caches", "an object");
  if (sampling == json->end() || !sampling->is_object()) return reader.wrong("sampling", "an object");
  Reader cache(*caches, name + ": caches");
  KVASS_RETURN_IF_ERROR(cache.text("kv", kv));
  KVASS_ASSIGN_OR_RETURN(receipt.caches.dtype, parse_dtype(kv));
  KVASS_RETURN_IF_ERROR(cache.integer("context", receipt.caches.context));
  KVASS_RETURN_IF_ERROR(cache.integer("rotary_offset", receipt.caches.rotary_offset));
  KVASS_RETURN_IF_ERROR(cache.text("sink_positions", positions));
  KVASS_ASSIGN_OR_RETURN(receipt.caches.sink_positions, parse_sink_positions(positions));
  if (const auto sinks = caches->find("sinks"); sinks != caches->end() && !sinks->is_null()) {
    if (!sinks->is_array() || sinks->size() != 2 || !(*sinks)[0].is_number_integer() ||
        !(*sinks)[1].is_number_integer()) {
      return cache.wrong("sinks", "null, or two integers");
    }
    receipt.caches.sinks = true;
    receipt.caches.sink_tokens = (*sinks)[0].get<int64_t>();
    receipt.caches.sink_window = (*sinks)[1].get<int64_t>();
  }
  Reader sample(*sampling, name + ": sampling");
  SampleOptions& options = receipt.sampling;
  KVASS_RETURN_IF_ERROR(sample.number("temperature", options.temperature));
  KVASS_RETURN_IF_ERROR(sample.number("presence_penalty", receipt.penalties.presence));
  KVASS_RETURN_IF_ERROR(sample.number("frequency_penalty", receipt.penalties.frequency));
  KVASS_RETURN_IF_ERROR(sample.integer("top_k", options.top_k));
  KVASS_RETURN_IF_ERROR(sample.number("top_p", options.top_p));
  KVASS_RETURN_IF_ERROR(sample.number("min_p", options.min_p));
  KVASS_RETURN_IF_ERROR(sample.number("repeat_penalty", options.repeat_penalty));
  KVASS_RETURN_IF_ERROR(sample.integer("repeat_last_n", options.repeat_last_n));
  KVASS_RETURN_IF_ERROR(sample.integer("seed", options.seed));
  if (const auto bias = sampling->find("logit_bias"); bias != sampling->end() && bias->is_array()) {
    for (const Json& one : *bias) {
      const bool pair = one.is_array() && one.size() == 2 && one[0].is_number_integer() &&
                        std::in_range<int32_t>(one[0].get<int64_t>()) && (one[1].is_number() || one[1].is_null());
      if (!pair) return sample.wrong("logit_bias", "pairs of an id and a number");
      options.logit_bias.push_back(
          {one[0].get<int32_t>(), one[1].is_null() ? -std::numeric_limits<float>::infinity() : one[1].get<float>()});
    }
  }
  KVASS_RETURN_IF_ERROR(validate(options));
  KVASS_RETURN_IF_ERROR(reader.ids("prompt_ids", receipt.prompt));
  KVASS_RETURN_IF_ERROR(reader.ids("ids", receipt.ids));
  if (hashes == json->end() || !hashes->is_array() || hashes->size() != receipt.ids.size()) {
    return reader.wrong("hashes", "one for each of its " + std::to_string(receipt.ids.size()) + " ids");
  }
  for (const Json& hash : *hashes) {
    if (!hash.is_string()) return reader.wrong("hashes", "strings");
    receipt.hashes.push_back(hash.get<std::string>());
  }
  return receipt;
}

Result<ReceiptCheck> check_receipt(const OpenModel& model, const Receipt& receipt, int64_t begin, int64_t end,
                                   int threads, const std::atomic<bool>& cancel) {
  const std::string fingerprint = hash_text(model.engine->fingerprint());
  if (receipt.fingerprint != fingerprint) {
    return bad_input("receipt: fingerprint", fingerprint + ", that of this model", receipt.fingerprint);
  }
  if (receipt.numerics != kNumericsVersion) {
    return bad_input("receipt: numerics", std::to_string(kNumericsVersion), std::to_string(receipt.numerics));
  }
  if (receipt.math != model.engine->math()) {
    return bad_input("receipt: math", std::string(math_name(model.engine->math())) + ", with which the model is loaded",
                     math_name(receipt.math));
  }
  const auto count = static_cast<int64_t>(receipt.ids.size());
  if (begin < 0 || end < begin || end > count) {
    return bad_input("stretch of the receipt", "from 0 to " + std::to_string(count) + " ids",
                     std::to_string(begin) + " to " + std::to_string(end));
  }
  std::vector<int32_t> all = receipt.prompt;
  all.insert(all.end(), receipt.ids.begin(), receipt.ids.end());
  const int64_t vocabulary = model.engine->program().vocabulary();
  for (const int32_t id : all) {
    if (id >= vocabulary) return bad_input("receipt: id", "0 to " + std::to_string(vocabulary - 1), std::to_string(id));
  }
  const auto prompt = static_cast<int64_t>(receipt.prompt.size());
  if (prompt == 0) return bad_input("receipt: prompt_ids", "at least one id", "none");
  StreamOptions options = options_of(receipt.caches, receipt.math, {});
  options.threads = threads;
  KVASS_ASSIGN_OR_RETURN(OpenStream stream, open_stream(model, options, kRows));
  Sequence& sequence = *stream.sequence;
  KVASS_RETURN_IF_ERROR(
      check_room(sequence, 0, static_cast<size_t>(std::max<int64_t>(prompt + end - 1, 0)), "receipt"));
  KVASS_ASSIGN_OR_RETURN(Sampler sampler, create_sampler(model, receipt.sampling));
  sampler.set_output_penalties(receipt.penalties);
  sampler.accept(receipt.prompt);
  for (int64_t i = 0; i < begin; ++i) sampler.accept_generated(receipt.ids[static_cast<size_t>(i)]);
  ReceiptCheck check;
  const int64_t rows = std::max<int64_t>(prompt + end - 1, 0);  // of the last token nothing is asked
  std::string before = begin == 0 ? receipt.fingerprint : receipt.hashes[static_cast<size_t>(begin) - 1];
  for (int64_t at = 0; at < rows && begin < end;) {
    if (cancel.load(std::memory_order_relaxed)) {
      return Status::error(StatusCode::cancelled,
                           "verify: interrupted after " + std::to_string(check.tokens) + " tokens of the receipt");
    }
    const int64_t size = std::min(sequence.plan().chunk, rows - at);
    const Run run{&sequence, at, std::span(all).subspan(static_cast<size_t>(at), static_cast<size_t>(size))};
    KVASS_RETURN_IF_ERROR(stream.session->step({.runs = std::span(&run, 1)}).status());
    // Row `at + r` is followed by id at + r + 1 of all.
    for (int64_t r = std::max<int64_t>(prompt + begin - 1 - at, 0); r < size;) {
      std::vector<int32_t> wanted;
      while (r + static_cast<int64_t>(wanted.size()) < size && static_cast<int64_t>(wanted.size()) < kRows) {
        wanted.push_back(static_cast<int32_t>(r) + static_cast<int32_t>(wanted.size()));
      }
      KVASS_ASSIGN_OR_RETURN(const StepResult step, stream.session->step({.logits = wanted}));
      for (size_t i = 0; i < wanted.size(); ++i) {
        const int64_t position = at + r + static_cast<int64_t>(i) + 1;
        const auto index = static_cast<size_t>(position - prompt);
        const int32_t token = receipt.ids[index];
        const std::span<const float> logits =
            step.logits.subspan(i * static_cast<size_t>(vocabulary), static_cast<size_t>(vocabulary));
        const std::string hash = link(before, logits, token);
        const int32_t chosen = sampler.sample(logits.data(), position);
        ++check.tokens;
        if (hash != receipt.hashes[index] || chosen != token) {
          check.differs_at = static_cast<int64_t>(index);
          check.difference =
              hash != receipt.hashes[index]
                  ? expected_message(fmt::format("token {} of the receipt", index), "hash " + receipt.hashes[index],
                                     hash)
                  : expected_message(fmt::format("token {} of the receipt", index), "id " + std::to_string(chosen),
                                     std::to_string(token) + ", which its logits and sampling do not give");
          return check;
        }
        sampler.accept_generated(token);
        before = hash;
      }
      r += static_cast<int64_t>(wanted.size());
    }
    at += size;
  }
  return check;
}

}  // namespace kvass
