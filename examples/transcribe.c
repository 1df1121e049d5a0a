/* Speech to text as it is written: transcribe_c MODEL AUDIO. */
#include <kvass/kvass.h>
#include <stdio.h>

static int print(void* user, const kvass_segment* segment) {
  (void)user;
  return printf("%.2f %.2f%s\n", segment->start, segment->end, segment->text) > 0;
}

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  kvass_model* model = NULL;
  kvass_transcriber* transcriber = NULL;
  kvass_code code = kvass_load(argv[1], NULL, &model);
  if (code == KVASS_OK) code = kvass_transcriber_open(model, NULL, &transcriber);
  if (code == KVASS_OK) code = kvass_transcribe_file(transcriber, argv[2], NULL, print, NULL);
  if (code != KVASS_OK) fprintf(stderr, "%s\n", kvass_message());
  kvass_transcriber_free(transcriber);
  kvass_free(model);
  return code == KVASS_OK ? 0 : 1;
}
