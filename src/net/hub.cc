#include "net/hub.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>

#include "base/json_text.h"

namespace kvass {
namespace {

using Json = nlohmann::json;

constexpr size_t kMostListBytes = size_t{64} << 20;
constexpr int kMostPages = 1000;
constexpr std::string_view kForms = "OWNER/REPO[@REVISION][:FILE or QUANTISATION] or an http address";

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

std::string default_endpoint() {
  std::string endpoint = variable("HF_ENDPOINT");
  while (endpoint.ends_with('/')) endpoint.pop_back();
  return endpoint.empty() ? "https://huggingface.co" : endpoint;
}

bool is_hub(std::string_view endpoint) {
  return endpoint == default_endpoint() || endpoint == "https://huggingface.co" || endpoint == "https://hf.co";
}

bool is_word(std::string_view text) {
  return !text.empty() && text != "." && text != ".." && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return std::isalnum(c) || c == '-' || c == '_' || c == '.';
  });
}

std::vector<std::string> split(std::string_view text, char at) {
  std::vector<std::string> parts;
  for (;;) {
    const size_t end = text.find(at);
    parts.emplace_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

std::string join(std::span<const std::string> parts) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : "/") + part;
  return text;
}

// A path that stays inside of the folder that it is put into.
bool is_safe_path(const std::string& path) {
  if (path.empty() || path.front() == '/' || path.find('\\') != std::string::npos) return false;
  for (const std::string& part : split(path, '/')) {
    const bool odd = std::any_of(part.begin(), part.end(), [](unsigned char c) { return c < 32 || c == 127; });
    if (part.empty() || part == "." || part == ".." || odd) return false;
  }
  return true;
}

// As in an address: what is not plain is written as %XX.
std::string escaped(std::string_view text) {
  std::string out;
  for (const unsigned char c : text) {
    if (std::isalnum(c) || std::string_view("-_.~/").find(static_cast<char>(c)) != std::string_view::npos) {
      out += static_cast<char>(c);
    } else {
      constexpr char kDigits[] = "0123456789ABCDEF";
      out += {'%', kDigits[c >> 4], kDigits[c & 15]};
    }
  }
  return out;
}

std::string unescaped(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && std::isxdigit(static_cast<unsigned char>(text[i + 1])) &&
        std::isxdigit(static_cast<unsigned char>(text[i + 2]))) {
      out += static_cast<char>(std::stoi(std::string(text.substr(i + 1, 2)), nullptr, 16));
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

// What a hub's pages are not called.
bool is_model_file(std::string_view name) {
  return name.ends_with(".gguf") || name.ends_with(".safetensors") || name.ends_with(".bin");
}

// HOST/OWNER/REPO, .../tree/REV, .../resolve/REV/PATH or .../blob/REV/PATH; anything else is a file of no repository.
Result<HubName> parse_address(std::string_view text) {
  const std::string_view plain = text.substr(0, text.find_first_of("?#"));
  const size_t host = plain.find("://") + 3;
  const size_t slash = plain.find('/', host);
  if (slash == host || host >= plain.size()) return bad_input("model", kForms, "'" + std::string(text) + "'");
  HubName name;
  name.endpoint = plain.substr(0, slash);
  std::vector<std::string> parts = split(slash == std::string_view::npos ? "" : plain.substr(slash + 1), '/');
  while (!parts.empty() && parts.back().empty()) parts.pop_back();
  for (std::string& part : parts) part = unescaped(part);
  const std::string page = parts.size() > 3 ? parts[2] : "";
  const bool in_hub = is_hub(name.endpoint);
  if (name.endpoint == "https://hf.co") name.endpoint = "https://huggingface.co";
  if (parts.size() > 4 && (page == "resolve" || page == "blob")) {
    name.which = join(std::span(parts).subspan(4));
  } else if (!in_hub || (parts.size() != 2 && !parts.empty() && is_model_file(parts.back()))) {
    if (parts.empty()) return bad_input("model", "an address of a file or a repository", std::string(text));
    name.url = text;
    return name;
  } else if (parts.size() != 2 && !(parts.size() == 4 && page == "tree")) {
    return bad_input("model", "the page of a repository, or of a file in one", std::string(text));
  }
  name.repository = parts[0] + "/" + parts[1];
  if (parts.size() > 3) name.revision = parts[3];
  if (!is_word(parts[0]) || !is_word(parts[1]) || !is_safe_path(name.revision))
    return bad_input("model", kForms, "'" + std::string(text) + "'");
  return name;
}

Status refused(const HttpAnswer& answer, const HubName& name) {
  const std::string page = name.endpoint + "/" + name.repository;
  if (answer.status == 401 || answer.status == 403) {
    return bad_input(
        page, "a token that may read it (HF_TOKEN); where its licence must be accepted, that is done on this page",
        "HTTP status " + std::to_string(answer.status));
  }
  if (answer.status == 404)
    return bad_input(page, "a repository with the revision " + name.revision,
                     "none, or one that needs a token (HF_TOKEN)");
  const StatusCode code = answer.status == 429 || answer.status >= 500 ? StatusCode::io : StatusCode::bad_input;
  return Status::error(code, expected_message(page, "an answer", "HTTP status " + std::to_string(answer.status)));
}

struct JsonPage {
  Json json;
  std::string next;
};
Result<JsonPage> get_json(HttpClient& client, const HubName& name, const std::string& url, const std::string& token) {
  std::string text;
  const auto on_bytes = [&](const HttpAnswer&, std::span<const uint8_t> bytes) -> Status {
    if (text.size() + bytes.size() > kMostListBytes) return bad_input(url, "at most 64 MiB of JSON", "more");
    text.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return {};
  };
  KVASS_ASSIGN_OR_RETURN(const HttpAnswer answer, client.request({.url = url, .token = token}, on_bytes));
  if (!answer.ok()) return refused(answer, name);
  JsonPage page{{}, answer.next};
  KVASS_ASSIGN_OR_RETURN(BasicJsonTree<Json> tree, parse_json<Json>(url, text));
  page.json = std::move(tree.root());
  if (page.json.is_discarded()) return bad_input(url, "JSON", "something else");
  return page;
}

std::string text_of(const Json& json, const char* key) {
  const auto found = json.is_object() ? json.find(key) : json.end();
  return json.is_object() && found != json.end() && found->is_string() ? found->get<std::string>() : "";
}

bool is_hash(const std::string& text, size_t digits) {
  return text.size() == digits && std::all_of(text.begin(), text.end(), [](unsigned char c) {
           return std::isdigit(c) || (c >= 'a' && c <= 'f');
         });
}

Result<HubFile> read_entry(const HubName& name, const std::string& commit, const std::string& token,
                           const Json& entry) {
  HubFile file;
  file.path = text_of(entry, "path");
  const std::string where = name.repository + ": file list";
  if (!is_safe_path(file.path)) return bad_input(where, "paths inside of the repository", "'" + file.path + "'");
  RemoteFile& remote = file.remote;
  remote.url = name.endpoint + "/" + name.repository + "/resolve/" + escaped(commit) + "/" + escaped(file.path);
  remote.token = token;
  const auto size = entry.find("size");
  if (size != entry.end() && size->is_number_unsigned() && size->get<uint64_t>() < uint64_t{1} << 60)
    remote.bytes = size->get<int64_t>();
  if (const auto lfs = entry.find("lfs"); lfs != entry.end() && lfs->is_object()) {
    remote.sha256 = text_of(*lfs, "oid");
    if (!is_hash(remote.sha256, 64)) return bad_input(where, "a SHA-256 of " + file.path, "'" + remote.sha256 + "'");
  } else if (const std::string oid = text_of(entry, "oid"); is_hash(oid, 40)) {
    remote.git_object = oid;
  }
  return file;
}

// `*` in a pattern stands for any text, also for none.
bool matches(std::string_view pattern, std::string_view text) {
  const size_t star = pattern.find('*');
  if (star == std::string_view::npos) return pattern == text;
  if (!text.starts_with(pattern.substr(0, star))) return false;
  pattern.remove_prefix(star + 1);
  text.remove_prefix(star);
  for (size_t skipped = 0; skipped <= text.size(); ++skipped) {
    if (matches(pattern, text.substr(skipped))) return true;
  }
  return false;
}

// "model" of "a/model-00001-of-00003.gguf" and of "a/model.gguf"; `part` gets 1, or 0 where it is no part.
std::string stem_of(const std::string& path, int& part) {
  std::string name = path.substr(path.rfind('/') + 1);
  name = name.substr(0, name.rfind('.'));
  part = 0;
  constexpr size_t kTail = std::string_view("-00001-of-00003").size();
  if (name.size() > kTail && name.compare(name.size() - 9, 4, "-of-") == 0 && name[name.size() - kTail] == '-') {
    const std::string number = name.substr(name.size() - kTail + 1, 5);
    if (std::all_of(number.begin(), number.end(), [](unsigned char c) { return std::isdigit(c); })) {
      part = std::stoi(number);
      name.resize(name.size() - kTail);
    }
  }
  return name;
}

// The GGUF and .kvp files of a repository, parts of one model together, by path without the number of the part.
std::map<std::string, HubModel> file_models(const HubListing& listing) {
  std::map<std::string, HubModel> models;
  for (const HubFile& file : listing.files) {
    const std::string low = lower(file.path);
    if (!low.ends_with(".gguf") && !low.ends_with(".kvp")) continue;
    int part = 0;
    const std::string stem = stem_of(file.path, part);
    if (lower(stem).find("mmproj") != std::string::npos) continue;  // an image tower, which is no model by itself
    HubModel& model = models[file.path.substr(0, file.path.rfind('/') + 1) + stem];
    model.name = stem;
    model.files.push_back(file);
  }
  for (auto& [key, model] : models)
    std::sort(model.files.begin(), model.files.end(), [](const auto& a, const auto& b) { return a.path < b.path; });
  return models;
}

// The files of a folder that kvass reads as one model.
HubModel folder_model(const HubName& name, const HubListing& listing) {
  HubModel model{.name = name.repository.substr(name.repository.find('/') + 1), .folder = true, .files = {}};
  const auto has = [&](std::string_view path) {
    return std::any_of(listing.files.begin(), listing.files.end(), [&](const auto& file) { return file.path == path; });
  };
  const bool safetensors = has("model.safetensors") || has("model.safetensors.index.json");
  bool weights = false;
  for (const HubFile& file : listing.files) {
    const std::string& path = file.path;
    if (path.find('/') != std::string::npos) continue;
    const bool shard = safetensors && path.starts_with("model") && path.ends_with(".safetensors");
    const bool binary = !safetensors && path == "model.bin";
    const bool text = path.ends_with(".json") || path.ends_with(".jinja") || path == "vocabulary.txt";
    weights = weights || shard || binary;
    if (shard || binary || text) model.files.push_back(file);
  }
  if (!weights || !has("config.json")) model.files.clear();
  return model;
}

std::string names_of(const std::map<std::string, HubModel>& models) {
  std::string text;
  int count = 0;
  for (const auto& [key, model] : models) {
    if (++count > 40) return text + ", …";
    text += (text.empty() ? "" : ", ") + key;
  }
  return text.empty() ? "none" : text;
}

}  // namespace

Result<HubName> parse_hub_name(std::string_view text) {
  if (text.starts_with("http://") || text.starts_with("https://")) return parse_address(text);
  std::string_view rest = text;
  for (const std::string_view prefix : {"hf:", "hf.co/", "huggingface.co/"}) {
    if (rest.starts_with(prefix)) {
      rest.remove_prefix(prefix.size());
      break;
    }
  }
  HubName name;
  name.endpoint = default_endpoint();
  if (const size_t colon = rest.find(':'); colon != std::string_view::npos) {
    name.which = rest.substr(colon + 1);
    rest = rest.substr(0, colon);
    if (name.which.empty()) return bad_input("model", kForms, "'" + std::string(text) + "'");
  }
  if (const size_t at = rest.find('@'); at != std::string_view::npos) {
    name.revision = rest.substr(at + 1);
    rest = rest.substr(0, at);
    if (!is_safe_path(name.revision)) return bad_input("model", kForms, "'" + std::string(text) + "'");
  }
  const std::vector<std::string> parts = split(rest, '/');
  if (parts.size() != 2 || !is_word(parts[0]) || !is_word(parts[1]))
    return bad_input("model", kForms, "'" + std::string(text) + "'");
  name.repository = rest;
  return name;
}

std::string hub_token(const HubName& name) {
  if (!is_hub(name.endpoint)) return "";
  if (const std::string token = variable("HF_TOKEN"); !token.empty()) return token;
  std::string path = variable("HF_TOKEN_PATH");
  if (path.empty()) {
    std::string home = variable("HF_HOME");
    if (home.empty() && !variable("HOME").empty()) home = variable("HOME") + "/.cache/huggingface";
    if (!home.empty()) path = home + "/token";
  }
  std::string token;
  if (!path.empty()) std::getline(std::ifstream(path), token);
  while (!token.empty() && std::isspace(static_cast<unsigned char>(token.back()))) token.pop_back();
  return token;
}

Result<HubListing> list_hub_files(HttpClient& client, const HubName& name, const std::string& token) {
  const std::string api = name.endpoint + "/api/models/" + name.repository;
  HubListing listing;
  KVASS_ASSIGN_OR_RETURN(const JsonPage about,
                         get_json(client, name, api + "/revision/" + escaped(name.revision), token));
  listing.commit = text_of(about.json, "sha");
  if (!is_word(listing.commit)) return bad_input(api, "the commit of " + name.revision, "'" + listing.commit + "'");
  if (const auto card = about.json.find("cardData"); card != about.json.end()) {
    listing.license = text_of(*card, "license");
    if (const std::string own = text_of(*card, "license_name"); listing.license == "other" && !own.empty())
      listing.license = own;
  }
  std::string url = api + "/tree/" + escaped(listing.commit) + "?recursive=true";
  for (int page = 0; !url.empty(); ++page) {
    if (page == kMostPages) return bad_input(api, "at most 1000 pages of files", "more");
    KVASS_ASSIGN_OR_RETURN(const JsonPage list, get_json(client, name, url, token));
    if (!list.json.is_array()) return bad_input(url, "a list of files", list.json.type_name());
    for (const Json& entry : list.json) {
      if (text_of(entry, "type") != "file") continue;
      KVASS_ASSIGN_OR_RETURN(HubFile file, read_entry(name, listing.commit, token, entry));
      listing.files.push_back(std::move(file));
    }
    if (!list.next.empty() && !list.next.starts_with(name.endpoint + "/"))  // the token must not go elsewhere
      return bad_input(url, "a next page of the same host", list.next);
    url = list.next;
  }
  return listing;
}

Result<HubModel> choose_hub_model(const HubName& name, const HubListing& listing) {
  const std::map<std::string, HubModel> models = file_models(listing);
  if (name.which.empty()) {
    if (models.size() == 1) return models.begin()->second;
    if (models.empty()) {
      HubModel folder = folder_model(name, listing);
      if (!folder.files.empty()) return folder;
      return bad_input(name.repository, "a GGUF file, or a config.json with model.safetensors or model.bin", "neither");
    }
  }
  const std::string word = lower(name.which.empty() ? "Q4_K_M" : name.which);
  std::map<std::string, HubModel> chosen;
  for (const auto& [key, model] : models) {
    const bool exact = std::any_of(model.files.begin(), model.files.end(),
                                   [&](const HubFile& file) { return file.path == name.which; });
    if (exact) return model;
    if (name.which.find('*') != std::string::npos && matches(name.which, model.files.front().path))
      chosen.emplace(key, model);
    const std::string low = lower(model.name);
    const size_t at = low.rfind(word);  // a whole word of the name: Q4_K is not Q4_K_M
    const auto ends = [&](size_t i) { return i >= low.size() || low[i] == '-' || low[i] == '.'; };
    if (at != std::string::npos && ends(at + word.size()) && (at == 0 || ends(at - 1))) chosen.emplace(key, model);
  }
  if (chosen.size() == 1) return chosen.begin()->second;
  if (chosen.empty() && !name.which.empty()) {
    for (const HubFile& file : listing.files) {
      if (file.path == name.which) {
        int part = 0;
        return HubModel{.name = stem_of(file.path, part), .folder = false, .files = {file}};
      }
    }
  }
  return bad_input(
      name.repository,
      name.which.empty() ? "OWNER/REPO:WHICH, as there are several models" : "a model that is " + name.which,
      names_of(chosen.empty() ? models : chosen));
}

Result<HubModel> ask_for_file(HttpClient& client, const std::string& url) {
  KVASS_ASSIGN_OR_RETURN(HttpAnswer answer, client.request({.url = url, .head_only = true}));
  if (answer.status == 403 || answer.status == 405 || answer.status == 501)
    answer = {.status = 200};  // it may give GET
  if (!answer.ok()) {
    const StatusCode code = answer.status == 429 || answer.status >= 500 ? StatusCode::io : StatusCode::bad_input;
    return Status::error(code, expected_message(url, "a file", "HTTP status " + std::to_string(answer.status)));
  }
  HubFile file;
  const std::string plain = url.substr(0, url.find_first_of("?#"));
  file.path = unescaped(plain.substr(plain.rfind('/') + 1));
  if (!is_safe_path(file.path) || file.path.find('/') != std::string::npos)
    return bad_input(url, "an address that ends in a file's name", "'" + file.path + "'");
  file.remote.url = url;
  std::string tag = answer.linked_tag;
  std::erase(tag, '"');
  if (is_hash(tag, 64)) file.remote.sha256 = tag;
  file.remote.bytes = answer.linked_bytes >= 0 ? answer.linked_bytes : answer.bytes;
  file.remote.version = answer.version;
  int part = 0;
  const std::string stem = stem_of(file.path, part);
  if (part > 0) return unsupported(url, "a whole model; of a split one its repository, as OWNER/REPO", file.path);
  return HubModel{.name = stem, .folder = false, .files = {file}};
}

}  // namespace kvass
