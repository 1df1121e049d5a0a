#include "serve/text_answer.h"

#include <utility>

#include "app/text.h"

namespace kvass::serve {

TextRequest take_text(Params& params, const Service& service, const Exchange& exchange) {
  TextRequest text;
  text.owner = exchange->request().owner;
  text.options.sampling = take_sampling(params, service.session->engine().program().vocabulary(), service.sampling);
  text.options.ignore_eos = params.boolean("ignore_eos").value_or(false);
  text.penalties = take_penalties(params);
  text.receipt = params.boolean("receipt").value_or(false);
  return text;
}

void refuse_tools(Params& params) {
  if (const Json* tools = params.take("tools"); tools && !(tools->is_array() && tools->empty())) {
    params.refuse("tools", "none: this server does not call tools", "some");
  }
  if (const Json* choice = params.take("tool_choice"); choice && *choice != "none" && *choice != "auto") {
    params.refuse("tool_choice", "none or auto", shown(*choice));
  }
}

void take_text_format(Params& params, const char* name) {
  auto format = params.object(name);
  if (!format) return;
  const std::string type = format->text("type").value_or("none");
  if (type != "text") format->refuse("type", "text", in_quotes(type));
  format->finish();
}

TextAnswer::TextAnswer(Service& service, Exchange exchange, const char* id_prefix)
    : service_(service), exchange_(std::move(exchange)), stream_(exchange_), id_(new_id(id_prefix)) {}

void TextAnswer::take_stream(Params& params) {
  streams_ = params.boolean("stream").value_or(false);
  auto options = params.object("stream_options");
  if (!options) return;
  if (!streams_) params.refuse("stream_options", "stream: true beside it", "none");
  wants_usage_ = options->boolean("include_usage").value_or(false);
  options->harmless({"include_obfuscation"});
  options->finish();
}

void TextAnswer::start(TextRequest text, size_t count,
                       const std::function<const std::vector<int32_t>&(size_t)>& prompt) {
  seed_ = text.options.sampling.seed;
  open_ = count;
  const auto self = shared_from_this();
  for (size_t i = 0; i < count; ++i) {
    text.prompt = prompt(i);
    text.options.sampling.seed = seed_ + i;
    jobs_.push_back(std::make_shared<TextJob>(
        service_, text,
        [self, i, tokens = text.prompt.size()](const PrefixStore::Place& place) {
          if (self->headers_.empty()) self->headers_ = prefix_headers(place, tokens);
          if (!self->failed_) self->begin(i);
        },
        [self, i](const DecodeEvent& event) {
          if (!self->failed_) self->event(i, event);
        },
        [self, i](Result<TextResult> result) { self->text_ended(i, std::move(result)); }));
  }
  const std::vector<std::shared_ptr<Job>> jobs = jobs_;  // the texts may end while the last are submitted
  submit(service_, exchange_, jobs);
}

void TextAnswer::text_ended(size_t index, Result<TextResult> result) {
  const std::vector<std::shared_ptr<Job>> jobs = --open_ == 0 ? std::exchange(jobs_, {}) : jobs_;
  if (failed_) return;
  const std::optional<ApiError> error = failure_of(service_, result);
  if (error) {
    failed_ = true;
    for (const auto& job : jobs) job->cancel();
    if (!exchange_->gone()) fail(*error);
    return;
  }
  note_text(exchange_, result.value());
  end(index, result.value());
  if (open_ == 0) finish();
}

Json TextAnswer::base(const char* object) const {
  return {{"id", id_},
          {"object", object},
          {"created", created_},
          {"model", service_.id},
          {"system_fingerprint", service_.fingerprint}};
}

void TextAnswer::send(Json chunk) {
  if (wants_usage_) chunk["usage"] = nullptr;
  if (!stream_.begun()) stream_.begin(headers_);
  stream_.send(chunk);
}

void TextAnswer::end_stream(const char* object, Json usage) {
  if (wants_usage_) {
    Json chunk = base(object);
    chunk["choices"] = Json::array();
    chunk["usage"] = std::move(usage);
    chunk["kvass"] = {{"seed", seed_}};
    stream_.send(chunk);
  }
  stream_.done();
}

void TextAnswer::answer(Json whole, Json usage) {
  whole["usage"] = std::move(usage);
  whole["kvass"] = {{"seed", seed_}};
  exchange_->answer({200, "application/json", dump(whole), headers_});
}

void TextAnswer::add_receipt(Json& choice, const TextResult& result) {
  if (result.receipt) choice["receipt"] = Json::parse(receipt_json(*result.receipt));
}

}  // namespace kvass::serve
