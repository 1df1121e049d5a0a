// Models in the repositories of a hub: which files a name asks for, where they are and what they must be. The layout
// and the addresses are those of Hugging Face, which other hubs serve as well: api/models/REPO/revision/REV,
// api/models/REPO/tree/REV and REPO/resolve/REV/FILE (its hub API). Fetches no model file itself.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "kvass/status.h"
#include "net/download.h"
#include "net/http.h"

namespace kvass {

// OWNER/REPO[@REVISION][:WHICH], the address of a page of a repository or of a file in one, or any other address of a
// file.
struct HubName {
  std::string endpoint;           // without a slash at its end
  std::string repository;         // empty: a file of no repository
  std::string revision = "main";  // branch, tag or commit
  std::string which;  // a path, a pattern with *, or a word in the names of GGUF files, as Q4_K_M; empty: the usual one
  std::string url;    // of a file of no repository
};
Result<HubName> parse_hub_name(std::string_view text);

// $HF_TOKEN, the file $HF_TOKEN_PATH, $HF_HOME/token or ~/.cache/huggingface/token; empty: none. It is for the user's
// hub alone: $HF_ENDPOINT, or Hugging Face over https.
std::string hub_token(const HubName& name);

struct HubFile {
  std::string path;  // in the repository, checked: it does not leave a folder that it is put into
  RemoteFile remote;
};
struct HubListing {
  std::string commit;
  std::string license;  // as the repository's page names it; empty: it does not
  std::vector<HubFile> files;
};
Result<HubListing> list_hub_files(HttpClient& client, const HubName& name, const std::string& token);

// What of a repository is one model: a file, the parts of one, or the files of a folder.
struct HubModel {
  std::string name;  // as the user may call it
  bool folder = false;
  std::vector<HubFile> files;  // a model of parts is opened by the first
};
Result<HubModel> choose_hub_model(const HubName& name, const HubListing& listing);

// The same for an address of no repository: what the server says of the file.
Result<HubModel> ask_for_file(HttpClient& client, const std::string& url);

}  // namespace kvass
