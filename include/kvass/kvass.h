/* kvass from C: load a model (a .kvp program, or a GGUF file), run tokens through sequences, read logits, save and
 * resume.
 *
 * Not a text generator: sampling and stopping are the caller's; kvass_tokenize and kvass_piece are there for text.
 *
 * Errors are codes; kvass_message() has the last one's text in this thread. No call throws or aborts on bad input, and
 * a call that fails leaves everything as it was. Pointers that a call takes belong to the caller, those that it gives
 * to the object that gave them.
 *
 * Threads: a model is immutable and may be used by any number of threads. A sequence is used by one at a time; a second
 * caller gets KVASS_BUSY. Different sequences never wait for each other. A model may be freed before its sequences.
 *
 * Memory: kvass_load and kvass_sequence_new map all of it; a run allocates nothing.
 */
#ifndef KVASS_KVASS_H
#define KVASS_KVASS_H

#include <stddef.h>
#include <stdint.h>

#include "kvass/export.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum kvass_code {
  KVASS_OK = 0,
  KVASS_BAD_INPUT = 1,     /* an argument, a file or a state; the message says what was expected and what was got */
  KVASS_BUSY = 2,          /* the object is in use by another thread */
  KVASS_OUT_OF_MEMORY = 3, /* an allocation or a mapping failed; the message has what for and how many bytes */
  KVASS_INTERNAL = 4,      /* a mistake of kvass */
  KVASS_CACHE_FULL = 5,    /* the stream has no room for the tokens */
  KVASS_IO = 6,            /* the operating system failed to open, read or write something */
  KVASS_DEVICE = 7,        /* a device or its driver failed */
  KVASS_CANCELLED = 8,     /* the caller asked to stop */
  KVASS_UNSUPPORTED = 9    /* a sound file or request that kvass does not implement */
} kvass_code;

typedef struct kvass_model kvass_model;
typedef struct kvass_sequence kvass_sequence;

/* Zero is the default of every field but struct_size, so that older callers work with newer libraries. */
typedef struct kvass_load_options {
  size_t struct_size;      /* sizeof(kvass_load_options) */
  int32_t threads;         /* of each sequence; 0: as many as the process may use CPUs */
  int32_t check_weights;   /* not 0: read the weights of a .kvp and compare their hashes */
  int32_t huge_pages;      /* not 0: copy the weights of a .kvp into huge pages instead of using the file's */
  int64_t max_context_len; /* tokens that a sequence looks back on; 0: as the file says */
  int64_t input_len;       /* tokens of a run at most; 0: as the file says */
} kvass_load_options;

/* "0.1.0" */
KVASS_API const char* kvass_version(void);

/* The text of this thread's last error, one line; "" where there was none. Valid until the thread's next call. */
KVASS_API const char* kvass_message(void);

/* `options` may be NULL. */
KVASS_API kvass_code kvass_load(const char* path, const kvass_load_options* options, kvass_model** model);
KVASS_API void kvass_free(kvass_model* model); /* NULL is fine, here and below */

KVASS_API int64_t kvass_vocabulary(const kvass_model* model); /* logits of a row, and one more than the largest token */
KVASS_API int64_t kvass_input_len(const kvass_model* model);  /* tokens that one run may bring */
KVASS_API size_t kvass_weight_bytes(const kvass_model* model); /* of memory or of the mapped file */

/* Text to tokens, with the begin token where the model expects one. `count` gets the number of tokens; where that is
 * more than `capacity`, nothing is written and the code is KVASS_BAD_INPUT. `tokens` may be NULL with capacity 0. */
KVASS_API kvass_code kvass_tokenize(const kvass_model* model, const char* text, size_t text_bytes, int32_t* tokens,
                                    size_t capacity, size_t* count);
/* The bytes that a token stands for; not terminated, none for control tokens. */
KVASS_API kvass_code kvass_piece(const kvass_model* model, int32_t token, const char** bytes, size_t* count);
/* Whether a token ends a text or a turn; 0 for what is not a token. */
KVASS_API int kvass_is_end(const kvass_model* model, int32_t token);

/* An empty stream with memory of its own. */
KVASS_API kvass_code kvass_sequence_new(const kvass_model* model, kvass_sequence** sequence);
KVASS_API void kvass_sequence_free(kvass_sequence* sequence);

/* Appends `count` tokens, 1 to kvass_input_len. `method`: one of the program ("forward", or "prefill" and "decode")
 * that has so many rows, or NULL for the shortest that has. The bits do not depend on which. */
KVASS_API kvass_code kvass_run(kvass_sequence* sequence, const char* method, const int32_t* tokens, size_t count);
/* Logits after the last token: [kvass_vocabulary]. Valid until the sequence's next call. */
KVASS_API kvass_code kvass_logits(kvass_sequence* sequence, const float** logits);

KVASS_API int64_t kvass_length(const kvass_sequence* sequence);              /* tokens so far */
KVASS_API kvass_code kvass_rewind(kvass_sequence* sequence, int64_t length); /* back to a position that is still held */
KVASS_API size_t kvass_sequence_bytes(const kvass_sequence* sequence);       /* caches and arena, as mapped */

/* The stream as a file that appears whole or not at all, and back, bit for bit, into a sequence of the same model. */
KVASS_API kvass_code kvass_save(kvass_sequence* sequence, const char* path);
KVASS_API kvass_code kvass_resume(kvass_sequence* sequence, const char* path);

#ifdef __cplusplus
}
#endif

#endif
