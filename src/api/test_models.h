// Files for tests of the public headers, written by what those tests must not see.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace kvass::testing {

std::string temporary_file(const std::string& name);                // a path; nothing is there
std::string write_tiny_text_model(const std::string& name);         // a GGUF; its path
std::string write_model_of_nobody(const std::string& name);         // a GGUF of no known family; its path
std::string write_tiny_speech_model(const std::string& name);       // a folder; its path
std::string write_speech(const std::string& name, double seconds);  // a WAV file of noise; its path

// What a command of the shell prints, or "failed: …".
std::string output_of(const std::string& command);

// `kvass run MODEL -p PROMPT FLAGS --json`.
struct CommandResult {
  std::vector<int32_t> ids;
  std::string text;
};
CommandResult run_command(const std::string& model, const std::string& prompt, const std::string& flags);
// Bytes as that command's JSON has them: what is no UTF-8 is U+FFFD.
std::string as_json_text(const std::string& text);
// `kvass transcribe AUDIO --model MODEL FLAGS`: what it prints.
std::string transcribe_command(const std::string& model, const std::string& audio, const std::string& flags);

}  // namespace kvass::testing
