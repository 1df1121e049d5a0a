/* How likely a text is, two ways it may go on side by side, and what it all takes: score_c MODEL TEXT. */
#include <kvass/kvass.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  kvass_stream_options stream = {.struct_size = sizeof stream};
  stream.sequences = 2;
  kvass_memory_plan plan = {.struct_size = sizeof plan};
  kvass_model* model = NULL;
  kvass_sequence* pair[2] = {NULL, NULL};
  int32_t tokens[4096];
  double nll[4096], sum = 0.0;
  size_t count = 0;
  kvass_code code = kvass_plan(argv[1], NULL, &stream, &plan, NULL, 0);
  if (code == KVASS_OK) code = kvass_load(argv[1], NULL, &model);
  if (code == KVASS_OK) code = kvass_sequence_open_group(model, &stream, pair);
  if (code == KVASS_OK) code = kvass_tokenize(model, argv[2], strlen(argv[2]), tokens, 4096, &count);
  if (code == KVASS_OK) code = kvass_score(pair[0], tokens, count, nll);
  if (code == KVASS_OK) {
    for (size_t i = 0; i + 1 < count; ++i) sum += nll[i];
    printf("%zu tokens, perplexity %.3f, %llu bytes planned\n", count, exp(sum / (double)(count - 1)),
           (unsigned long long)plan.total_bytes);
  }
  /* The second sequence goes a way of its own: the text without its last token. One step, two streams. */
  if (code == KVASS_OK) code = kvass_append(pair[1], tokens, count - 1);
  int32_t next[2] = {0, 0};
  for (int i = 0; i < 2 && code == KVASS_OK; ++i) code = kvass_argmax(pair[i], &next[i]);
  for (int step = 0; step < 8 && code == KVASS_OK; ++step) {
    const kvass_part parts[2] = {{pair[0], &next[0], 1}, {pair[1], &next[1], 1}};
    printf("%d %d\n", (int)next[0], (int)next[1]);
    code = kvass_step(parts, 2);
    for (int i = 0; i < 2 && code == KVASS_OK; ++i) code = kvass_argmax(pair[i], &next[i]);
  }
  if (code != KVASS_OK) fprintf(stderr, "%s\n", kvass_message());
  for (int i = 0; i < 2; ++i) kvass_sequence_free(pair[i]);
  kvass_free(model);
  return code == KVASS_OK ? 0 : 1;
}
