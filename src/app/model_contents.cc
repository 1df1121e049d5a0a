#include "app/model_contents.h"

#include <utility>

#include "app/model_folder.h"
#include "base/file_map.h"
#include "base/platform.h"
#include "file/ggml_speech.h"

namespace kvass {
namespace {

template <class File>
Result<ModelContents> contents(std::string format, Result<File> file) {
  if (!file.ok()) return file.status();
  return ModelContents{std::move(format), std::move(file).value()};
}

Result<ModelContents> of_speech(Result<SpeechSource> source) {
  std::string format = source.ok() ? source->format : "";
  return contents(std::move(format), std::move(source));
}

}  // namespace

Result<ModelContents> open_contents(const std::string& path) {
  if (platform::file_info(path).kind == platform::FileKind::folder) {
    if (is_speech_model_folder(path)) return of_speech(open_speech_folder(path));
    return contents("safetensors", open_model_folder(path));
  }
  KVASS_ASSIGN_OR_RETURN(FileMap map, FileMap::open(path));
  if (is_kvp(map.bytes())) return contents("kvp", KvpFile::open(std::move(map)));
  if (is_ggml_speech(map.bytes())) return of_speech(open_ggml_speech(std::move(map)));
  return contents("GGUF", Gguf::open(std::move(map)));
}

}  // namespace kvass
