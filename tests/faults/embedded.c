/* A host of kvass for the fault tests: embedded MODEL SNAPSHOT SPEECH_MODEL AUDIO. It does one job twice (text, a saved
 * and resumed stream, a transcript, attention) and frees everything after each. A job that fails says "<code>:
 * <message>" on stderr and the host lives on. Exit code: 0 if the second job has worked, 1 if it has not, 3 if a call
 * broke a promise of kvass.h. The second job's output is on stdout. */
#include <kvass/kvass.h>
#include <kvass/operators.h>
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

/* Two documents in one row, and the row merged with itself. */
static kvass_code write_attention(struct text* out) {
  static float x[2 * 6 * 16], y[2 * 6 * 16], z[2 * 6 * 16], lse[2 * 6], sum[2 * 6];
  for (int i = 0; i < 2 * 6 * 16; ++i) x[i] = (float)(i * 37 % 101) / 101.0f;
  const int64_t shape[4] = {1, 2, 6, 16}, cu_seqlens[3] = {0, 2, 6};
  const kvass_tensor in = kvass_row_major(x, KVASS_DTYPE_F32, 4, shape);
  const kvass_tensor to = kvass_row_major(y, KVASS_DTYPE_F32, 4, shape);
  const kvass_tensor to_lse = kvass_row_major(lse, KVASS_DTYPE_F32, 3, shape);
  const kvass_tensor merged = kvass_row_major(z, KVASS_DTYPE_F32, 4, shape);
  const kvass_tensor merged_lse = kvass_row_major(sum, KVASS_DTYPE_F32, 3, shape);
  const kvass_tensor parts[2] = {to, to}, lses[2] = {to_lse, to_lse};
  kvass_op_context_options with = {0};
  with.struct_size = sizeof with;
  with.threads = 2;
  kvass_attention_options options = {0};
  options.struct_size = sizeof options;
  options.cu_seqlens_q = cu_seqlens;
  options.cu_seqlens_q_count = 3;
  kvass_op_context* context = NULL;
  kvass_code code = kvass_op_context_new(&with, &context);
  if (code == KVASS_OK) code = kvass_attention(context, &in, &in, &in, &options, &to, &to_lse);
  if (code == KVASS_OK) code = kvass_merge_attention(context, parts, lses, 2, &merged, &merged_lse);
  if (code == KVASS_OK) {
    char line[64];
    const int count = snprintf(line, sizeof line, "%.6f %.6f\n", z[191], sum[11]);
    add(out, line, (size_t)count);
  }
  kvass_op_context_free(context);
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
    if (code == KVASS_OK) code = write_attention(&out);
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
