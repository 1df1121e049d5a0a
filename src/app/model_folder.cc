#include "app/model_folder.h"

#include <filesystem>
#include <system_error>
#include <utility>

#include "app/text.h"
#include "file/json_fields.h"
#include "file/safetensors_folder.h"
#include "model/folder.h"
#include "text/folder_tokenizer.h"

namespace kvass {

namespace {

// The folder's own name, however the path to it is spelt.
std::string folder_name(const std::string& path) {
  std::error_code error;
  const std::filesystem::path own = std::filesystem::canonical(path, error);
  return error ? base_name(path) : own.filename().string();
}

}  // namespace

Result<Gguf> open_model_folder(const std::string& path) {
  const std::string file = path + "/config.json";
  KVASS_ASSIGN_OR_RETURN(const JsonTree tree, read_json_file(file));
  if (!tree.root().is_object())
    return bad_input(path, "config.json (Hugging Face) or model.bin (CTranslate2) in the folder", "neither");
  const JsonFields config(tree.root(), file);
  KVASS_ASSIGN_OR_RETURN(SafeTensorsFolder tensors, SafeTensorsFolder::open(path));
  KVASS_ASSIGN_OR_RETURN(FolderModel model, translate_model(config, std::move(tensors), folder_name(path)));
  KVASS_RETURN_IF_ERROR(translate_tokenizer(path, config, model.rows, model.metadata));
  model.parts.metadata = model.metadata.finish();
  return Gguf::assemble(std::move(model.parts), path);
}

}  // namespace kvass
