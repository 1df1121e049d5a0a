// Speech to text as it is written: transcribe MODEL AUDIO.
#include <kvass/transcribe.h>

#include <cstdio>

static kvass::Status run(const char* path, const char* audio) {
  KVASS_ASSIGN_OR_RETURN(const kvass::Model model, kvass::Model::load(path));
  KVASS_ASSIGN_OR_RETURN(kvass::Transcriber transcriber, kvass::Transcriber::open(model));
  kvass::TranscribeEvents events;
  events.on_segment = [](const kvass::Segment& segment) {
    std::printf("%.2f %.2f%s\n", segment.start, segment.end, segment.text.c_str());
    return true;
  };
  return transcriber.transcribe_file(audio, {}, events).status();
}

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  const kvass::Status status = run(argv[1], argv[2]);
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.message().c_str());
  return status.ok() ? 0 : 1;
}
