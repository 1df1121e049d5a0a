/* Text without end in memory of fixed size: endless_c MODEL PROMPT [TOKENS]. Four sink tokens and the latest 508 are
 * kept. */
#include <kvass/kvass.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int print(void* user, const char* bytes, size_t count) {
  (void)user;
  return fwrite(bytes, 1, count, stdout) == count && fflush(stdout) == 0;
}

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  kvass_stream_options stream = {.struct_size = sizeof stream};
  stream.sink_tokens = 4;
  stream.sink_window = 508;
  kvass_generate_options options = {.struct_size = sizeof options};
  options.ignore_eos = 1;
  options.max_tokens = argc > 3 ? atoll(argv[3]) : 0;
  kvass_model* model = NULL;
  kvass_sequence* sequence = NULL;
  int32_t tokens[4096];
  size_t count = 0;
  kvass_code code = kvass_load(argv[1], NULL, &model);
  if (code == KVASS_OK) code = kvass_sequence_open(model, &stream, &sequence);
  if (code == KVASS_OK) code = kvass_tokenize(model, argv[2], strlen(argv[2]), tokens, 4096, &count);
  if (code == KVASS_OK) code = kvass_generate(sequence, tokens, count, &options, print, NULL, NULL);
  if (code != KVASS_OK) fprintf(stderr, "%s\n", kvass_message());
  kvass_sequence_free(sequence);
  kvass_free(model);
  return code == KVASS_OK ? 0 : 1;
}
