/* Greedy text from a prompt, in plain C: generate MODEL PROMPT TOKENS. Saves the stream halfway and resumes it in a second
 * sequence, which goes on with the same bits. */
#include <kvass/kvass.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failed(const char* what) {
  fprintf(stderr, "%s: %s\n", what, kvass_message());
  return 1;
}

static int32_t best(const float* logits, int64_t count) {
  int32_t at = 0;
  for (int32_t i = 1; i < count; ++i) {
    if (logits[i] > logits[at]) at = i;
  }
  return at;
}

/* The prompt, a run of at most `most` tokens at a time. */
static kvass_code prefill(kvass_sequence* sequence, const int32_t* tokens, size_t count, int64_t most) {
  for (size_t at = 0; at < count; at += (size_t)most) {
    const size_t left = count - at;
    const kvass_code code = kvass_run(sequence, NULL, tokens + at, left < (size_t)most ? left : (size_t)most);
    if (code != KVASS_OK) return code;
  }
  return KVASS_OK;
}

int main(int argc, char** argv) {
  if (argc < 4) {
    fprintf(stderr, "usage: generate MODEL PROMPT TOKENS [SNAPSHOT]\n");
    return 2;
  }
  const char* snapshot = argc > 4 ? argv[4] : NULL;
  kvass_model* model = NULL;
  if (kvass_load(argv[1], NULL, &model) != KVASS_OK) return failed("load");
  int32_t tokens[4096];
  size_t count = 0;
  if (kvass_tokenize(model, argv[2], strlen(argv[2]), tokens, 4096, &count) != KVASS_OK) return failed("tokenize");

  kvass_sequence* sequence = NULL;
  if (kvass_sequence_new(model, &sequence) != KVASS_OK) return failed("new sequence");
  if (prefill(sequence, tokens, count, kvass_input_len(model)) != KVASS_OK) return failed("prompt");
  const int wanted = atoi(argv[3]);
  for (int i = 0; i < wanted; ++i) {
    const float* logits = NULL;
    if (kvass_logits(sequence, &logits) != KVASS_OK) return failed("logits");
    const int32_t token = best(logits, kvass_vocabulary(model));
    if (kvass_is_end(model, token)) break;
    const char* bytes = NULL;
    size_t size = 0;
    if (kvass_piece(model, token, &bytes, &size) != KVASS_OK) return failed("piece");
    fwrite(bytes, 1, size, stdout);
    if (snapshot != NULL && i == wanted / 2) { /* the same stream in another sequence from here on */
      kvass_sequence* other = NULL;
      if (kvass_save(sequence, snapshot) != KVASS_OK) return failed("save");
      if (kvass_sequence_new(model, &other) != KVASS_OK) return failed("new sequence");
      if (kvass_resume(other, snapshot) != KVASS_OK) return failed("resume");
      kvass_sequence_free(sequence);
      sequence = other;
    }
    if (kvass_run(sequence, NULL, &token, 1) != KVASS_OK) return failed("run");
  }
  printf("\n");
  kvass_sequence_free(sequence);
  kvass_free(model);
  return 0;
}
