/* A host of kvass for the fault tests: embedded MODEL SNAPSHOT SPEECH_MODEL AUDIO. It does one job twice (text, a saved
 * and resumed stream, a transcript) and frees everything after each. A job that fails says "<code>: <message>" on stderr
 * and the host lives on. Exit code: 0 if the second job has worked, 1 if it has not, 3 if a call broke a promise of
 * kvass.h. The second job's output is on stdout. */
#include <kvass/kvass.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct text {
  char bytes[1 << 14];
  size_t count;
};

static int add(void* user, const char* bytes, size_t count) {
  struct text* text = user;
  if (count > sizeof text->bytes - text->count) return 0;
  memcpy(text->bytes + text->count, bytes, count);
  text->count += count;
  return 1;
}

static kvass_code write_text(const char* path, const char* snapshot, struct text* out) {
  kvass_load_options load = {0};
  load.struct_size = sizeof load;
  load.threads = 2;
  kvass_generate_options options = {0};
  options.struct_size = sizeof options;
  options.ignore_eos = 1;
  options.max_tokens = 6;
  kvass_model* model = NULL;
  kvass_sequence *first = NULL, *second = NULL;
  int32_t tokens[64];
  size_t count = 0;
  kvass_code code = kvass_load(path, &load, &model);
  if (code == KVASS_OK) code = kvass_tokenize(model, "ab cd", 5, tokens, 64, &count);
  if (code == KVASS_OK) code = kvass_sequence_new(model, &first);
  if (code == KVASS_OK) code = kvass_generate(first, tokens, count, &options, add, out, NULL);
  if (code == KVASS_OK) code = kvass_save(first, snapshot);
  if (code == KVASS_OK) code = kvass_sequence_resume(model, snapshot, NULL, &second);
  if (code == KVASS_OK) code = kvass_generate(second, NULL, 0, &options, add, out, NULL);
  kvass_sequence_free(first);
  kvass_sequence_free(second);
  kvass_free(model);
  return code;
}

static kvass_code write_transcript(const char* path, const char* audio, struct text* out) {
  kvass_load_options load = {0};
  load.struct_size = sizeof load;
  load.threads = 2;
  const float temperature = 0.0f;
  kvass_transcribe_options options = {0};
  options.struct_size = sizeof options;
  options.temperatures = &temperature;
  options.temperature_count = 1;
  options.no_speech_threshold = NAN;
  kvass_model* model = NULL;
  kvass_transcriber* transcriber = NULL;
  const char* text = NULL;
  size_t count = 0;
  kvass_code code = kvass_load(path, &load, &model);
  if (code == KVASS_OK) code = kvass_transcriber_open(model, NULL, &transcriber);
  if (code == KVASS_OK) code = kvass_transcribe_file(transcriber, audio, &options, NULL, NULL);
  if (code == KVASS_OK) code = kvass_transcript(transcriber, "json", &text, &count);
  if (code == KVASS_OK) add(out, text, count);
  kvass_transcriber_free(transcriber);
  kvass_free(model);
  return code;
}

int main(int argc, char** argv) {
  static struct text out;
  kvass_code code = KVASS_OK;
  if (argc < 5) return 2;
  for (int round = 0; round < 2; ++round) {
    out.count = 0;
    code = write_text(argv[1], argv[2], &out);
    if (code == KVASS_OK) code = write_transcript(argv[3], argv[4], &out);
    if (code == KVASS_OK) continue;
    fprintf(stderr, "%d: %s\n", code, kvass_message());
    if (kvass_message()[0] == '\0') return 3;
  }
  if (fwrite(out.bytes, 1, out.count, stdout) != out.count || fflush(stdout) != 0) {
    fprintf(stderr, "%d: stdout\n", KVASS_IO);
    return 1;
  }
  return code == KVASS_OK ? 0 : 1;
}
