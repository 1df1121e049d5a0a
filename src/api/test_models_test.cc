// The files that test_models.h promises.
#include "test_models.h"

#include <unistd.h>

#include <array>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "file/gguf_writer.h"
#include "tiny_model.h"
#include "tiny_speech.h"

namespace kvass::testing {

std::string output_of(const std::string& command) {
  std::string text;
  FILE* pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) return text;
  std::array<char, 4096> buffer{};
  size_t count = 0;
  while ((count = std::fread(buffer.data(), 1, buffer.size(), pipe)) > 0) text.append(buffer.data(), count);
  return ::pclose(pipe) == 0 ? text : "failed: " + command;
}

std::string temporary_file(const std::string& name) {
  return (std::filesystem::temp_directory_path() / ("kvass_" + std::to_string(::getpid()) + "_" + name)).string();
}

std::string write_tiny_text_model(const std::string& name) {
  const std::string path = temporary_file(name);
  return TinyModel().writer().write(path).ok() ? path : "";
}

std::string write_model_of_nobody(const std::string& name) {
  const std::string path = temporary_file(name);
  GgufWriter writer;
  writer.str("general.architecture", "abacus");
  return writer.write(path).ok() ? path : "";
}

std::string write_tiny_speech_model(const std::string& name) {
  const std::string path = temporary_file(name);
  TinySpeech().write_ct2(path);
  return path;
}

std::string write_speech(const std::string& name, double seconds) {
  const std::string path = temporary_file(name);
  const auto count = static_cast<uint32_t>(seconds * 16000.0);
  std::ofstream file(path, std::ios::binary);
  const auto put = [&](uint32_t value, int bytes) {
    for (int i = 0; i < bytes; ++i) file.put(static_cast<char>(value >> (8 * i) & 255));
  };
  file << "RIFF";
  put(36 + 2 * count, 4);
  file << "WAVEfmt ";
  put(16, 4), put(1, 2), put(1, 2), put(16000, 4), put(32000, 4), put(2, 2), put(16, 2);
  file << "data";
  put(2 * count, 4);
  uint32_t random = 1;
  for (uint32_t i = 0; i < count; ++i) {
    random = random * 1664525 + 1013904223;
    put((random >> 16) / 8, 2);
  }
  return path;
}

CommandResult run_command(const std::string& model, const std::string& prompt, const std::string& flags) {
  const std::string text = output_of(KVASS_CLI_PATH " run '" + model + "' -p '" + prompt + "' -t 1 -q --json " + flags);
  const nlohmann::json result = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!result.is_object()) return {{}, text};
  return {result["ids"].get<std::vector<int32_t>>(), result["text"].get<std::string>()};
}

std::string as_json_text(const std::string& text) {
  const std::string json = nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return nlohmann::json::parse(json).get<std::string>();
}

std::string transcribe_command(const std::string& model, const std::string& audio, const std::string& flags) {
  return output_of(KVASS_CLI_PATH " transcribe '" + audio + "' --model '" + model + "' -t 1 -q " + flags);
}

}  // namespace kvass::testing
