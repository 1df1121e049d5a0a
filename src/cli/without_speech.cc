// In place of the command transcribe where kvass is built without speech.
#include "cli/command.h"

namespace kvass {

CommandAction add_transcribe(CLI::App& command) {
  command.description("Transcribe audio (not in this build: KVASS_SPEECH=OFF)");
  command.prefix_command();  // whatever the command takes, the answer is the same
  return
      [] { return unsupported("transcribe", "a kvass that is built with speech", "one built with KVASS_SPEECH=OFF"); };
}

}  // namespace kvass
