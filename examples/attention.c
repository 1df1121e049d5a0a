/* Attention on tensors of your own: attention_c. Two texts are packed into one row, and the second is run by itself:
 * the same bits. Then the second goes on for a token over the keys that it has, as a cache would. */
#include <kvass/operators.h>
#include <stdio.h>
#include <string.h>

enum { HEADS = 2, KV_HEADS = 1, FIRST = 3, SECOND = 5, ALL = FIRST + SECOND, HEAD_DIM = 16 };

static kvass_tensor tensor(const float* data, int64_t heads, int64_t rows) {
  const int64_t shape[4] = {1, heads, rows, HEAD_DIM};
  return kvass_row_major(data, KVASS_DTYPE_F32, 4, shape);
}

/* Rows [begin, end) of a tensor: a view of the same memory. */
static kvass_tensor rows(kvass_tensor of, int64_t begin, int64_t end) {
  of.data = (float*)of.data + begin * of.strides[2];
  of.shape[2] = end - begin;
  return of;
}

static void fill(float* x, int count, int seed) {
  for (int i = 0; i < count; ++i) x[i] = (float)((i * 37 + seed * 11) % 101) / 101.0f - 0.5f;
}

int main(void) {
  static float q[HEADS * ALL * HEAD_DIM], k[KV_HEADS * ALL * HEAD_DIM], v[KV_HEADS * ALL * HEAD_DIM];
  static float packed[HEADS * ALL * HEAD_DIM], alone[HEADS * SECOND * HEAD_DIM], next[HEADS * HEAD_DIM];
  fill(q, HEADS * ALL * HEAD_DIM, 1);
  fill(k, KV_HEADS * ALL * HEAD_DIM, 2);
  fill(v, KV_HEADS * ALL * HEAD_DIM, 3);
  const kvass_tensor queries = tensor(q, HEADS, ALL), keys = tensor(k, KV_HEADS, ALL),
                     values = tensor(v, KV_HEADS, ALL);

  const int64_t cu_seqlens[3] = {0, FIRST, ALL};
  kvass_attention_options options = {.struct_size = sizeof options};
  options.cu_seqlens_q = cu_seqlens; /* of the keys too: there are as many */
  options.cu_seqlens_q_count = 3;
  kvass_op_context* context = NULL;
  kvass_code code = kvass_op_context_new(NULL, &context);
  const kvass_tensor all = tensor(packed, HEADS, ALL);
  if (code == KVASS_OK) code = kvass_attention(context, &queries, &keys, &values, &options, &all, NULL);

  const kvass_tensor q2 = rows(queries, FIRST, ALL), k2 = rows(keys, FIRST, ALL), v2 = rows(values, FIRST, ALL);
  const kvass_tensor out = tensor(alone, HEADS, SECOND);
  if (code == KVASS_OK) code = kvass_attention(context, &q2, &k2, &v2, NULL, &out, NULL);

  const kvass_tensor last = rows(q2, SECOND - 1, SECOND), step = tensor(next, HEADS, 1);
  const kvass_cached_keys cached = {rows(k2, 0, SECOND - 1), rows(v2, 0, SECOND - 1), rows(k2, SECOND - 1, SECOND),
                                    rows(v2, SECOND - 1, SECOND)};
  if (code == KVASS_OK) code = kvass_kv_cache_attention(context, &last, &cached, NULL, &step);
  if (code != KVASS_OK) fprintf(stderr, "%s\n", kvass_message());
  kvass_op_context_free(context);
  if (code != KVASS_OK) return 1;

  int same = 1;
  for (int h = 0; h < HEADS; ++h) {
    const float* second = alone + h * SECOND * HEAD_DIM;
    same &= memcmp(packed + (h * ALL + FIRST) * HEAD_DIM, second, SECOND * HEAD_DIM * sizeof(float)) == 0;
    same &= memcmp(next + h * HEAD_DIM, second + (SECOND - 1) * HEAD_DIM, HEAD_DIM * sizeof(float)) == 0;
  }
  printf("%.6f %.6f %s\n", alone[0], next[0], same ? "same bits" : "other bits");
  return same ? 0 : 1;
}
