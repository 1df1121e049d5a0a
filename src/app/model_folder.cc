#include "app/model_folder.h"

#include <utility>

#include "app/text.h"
#include "base/platform.h"
#include "file/json_fields.h"
#include "file/safetensors_folder.h"
#include "model/folder.h"
#include "text/folder_tokenizer.h"

namespace kvass {

bool is_model_folder(const std::string& path) { return platform::file_info(path).kind == platform::FileKind::folder; }

Result<Gguf> open_model_folder(const std::string& path) {
  const std::string file = path + "/config.json";
  KVASS_ASSIGN_OR_RETURN(const JsonTree tree, read_json_file(file));
  if (!tree.root().is_object())
    return bad_input(path, "config.json (Hugging Face) or model.bin (CTranslate2) in the folder", "neither");
  const JsonFields config(tree.root(), file);
  KVASS_ASSIGN_OR_RETURN(SafeTensorsFolder tensors, SafeTensorsFolder::open(path));
  KVASS_ASSIGN_OR_RETURN(FolderModel model, translate_model(config, std::move(tensors), base_name(path)));
  KVASS_RETURN_IF_ERROR(translate_tokenizer(path, config, model.rows, model.metadata));
  model.parts.metadata = model.metadata.finish();
  return Gguf::assemble(std::move(model.parts), path);
}

Result<Gguf> open_text_model(const std::string& path) {
  return is_model_folder(path) ? open_model_folder(path) : Gguf::open(path);
}

}  // namespace kvass
