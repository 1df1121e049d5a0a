/* kvass from C: load a model (a .kvp program, a GGUF file, or a speech model), run tokens through sequences, generate
 * text with stops, talk, transcribe, score, fork, save and resume. docs/c.md is the guide; the C++ headers beside this
 * one say more of each thing. Attention on tensors of the caller's own is in operators.h.
 *
 * Errors are codes; kvass_message() has the last one's text in this thread. No call throws or aborts on bad input, and
 * a call that fails leaves everything as it was, what its out-pointers point to included; only what had run before a
 * cancel stays. Pointers that a call takes belong to the caller, those that it gives to the object that gave them,
 * until its next call.
 *
 * Threads: a model is immutable and may be used by any number of threads. A sequence, chat or transcriber is used by
 * one at a time; a second caller gets KVASS_BUSY. Sequences of different groups never wait for each other. A model may
 * be freed before them. kvass_length, the cancel calls and the sizes may be used at any time, kvass_*_cancel in a
 * signal handler too. While a call runs, in its callbacks too, kvass_length is what it was before that call.
 *
 * Memory: kvass_load and what opens a sequence map all of it; a run allocates nothing.
 *
 * Structs: set struct_size to sizeof the struct, and everything else to zero, which is the default of every field:
 *     kvass_load_options options = {.struct_size = sizeof options};
 * So older callers work with newer libraries, and a newer caller with an older one as long as the fields that it does
 * not know are zero. A field that cannot be honoured is refused, with its name in the message.
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
  KVASS_UNSUPPORTED = 9    /* a valid file or request that kvass does not implement */
} kvass_code;

/* Values of int32_t fields. 0 is always the file's own or the default. */
enum { KVASS_MATH_F32 = 1, KVASS_MATH_A16 = 2, KVASS_MATH_A8 = 3 };
enum { KVASS_KV_F32 = 1, KVASS_KV_F16 = 2, KVASS_KV_BF16 = 3, KVASS_KV_Q8 = 4 };
enum { KVASS_DEVICE_CPU = 0, KVASS_DEVICE_CUDA = 1, KVASS_DEVICE_ROCM = 2 };
enum { KVASS_SINKS_IN_CACHE = 1, KVASS_SINKS_ORIGINAL = 2, KVASS_SINKS_WRAPPED = 3 };

typedef struct kvass_model kvass_model;
typedef struct kvass_sequence kvass_sequence;
typedef struct kvass_chat kvass_chat;
typedef struct kvass_transcriber kvass_transcriber;

typedef struct kvass_load_options {
  size_t struct_size;      /* sizeof(kvass_load_options) */
  int32_t threads;         /* that load the weights, and of each sequence that says nothing; 0: all usable CPUs */
  int32_t check_weights;   /* not 0: read the weights of a .kvp and compare their hashes */
  int32_t huge_pages;      /* not 0: copy the weights of a .kvp into huge pages instead of using the file's */
  int64_t max_context_len; /* tokens that a sequence looks back on; 0: as the file says */
  int64_t input_len;       /* tokens of a run at most; 0: as the file says */
  int32_t math;            /* KVASS_MATH_…: activations in products with weights */
  int32_t device;          /* KVASS_DEVICE_…: where the model runs */
  const char* weights;     /* quantise every matrix anew: f32, f16, bf16, q8_0 or q4_0; NULL: as the file has them */
} kvass_load_options;

/* "0.1.0" */
KVASS_API const char* kvass_version(void);

/* The text of this thread's last error, one line; "" where there was none. Valid until the thread's next call. */
KVASS_API const char* kvass_message(void);

/* `options` may be NULL, here and below. */
KVASS_API kvass_code kvass_load(const char* path, const kvass_load_options* options, kvass_model** model);
KVASS_API void kvass_free(kvass_model* model); /* NULL is fine, here and below */

KVASS_API int64_t kvass_vocabulary(const kvass_model* model); /* logits of a row, and one more than the largest token */
KVASS_API int64_t kvass_input_len(const kvass_model* model);  /* tokens that one run may bring */
KVASS_API size_t kvass_weight_bytes(const kvass_model* model);       /* of memory or of the mapped file */
KVASS_API const char* kvass_family(const kvass_model* model);        /* the architecture's name */
KVASS_API const char* kvass_chat_template(const kvass_model* model); /* its jinja text; "": none */
KVASS_API int64_t kvass_trained_context(const kvass_model* model);   /* tokens */

/* Text to tokens, with the begin token where the model expects one. `count` gets the number of tokens. With capacity 0
 * nothing is written, `tokens` may be NULL, and the code is KVASS_OK: that asks for the number. Otherwise where there
 * are more than `capacity`, nothing is written and the code is KVASS_BAD_INPUT. */
KVASS_API kvass_code kvass_tokenize(const kvass_model* model, const char* text, size_t text_bytes, int32_t* tokens,
                                    size_t capacity, size_t* count);
/* The bytes that a token stands for; not terminated, none for control tokens and for what is not a token.
 * kvass_generate gives whole characters. */
KVASS_API kvass_code kvass_piece(const kvass_model* model, int32_t token, const char** bytes, size_t* count);
/* Whether a token ends a text or a turn; 0 for what is not a token. */
KVASS_API int kvass_is_end(const kvass_model* model, int32_t token);

/* ---- Streams ---- */

typedef struct kvass_stream_options {
  size_t struct_size;
  int64_t max_context_len; /* tokens that full layers look back on; 0: as kvass_load has it */
  int64_t input_len;       /* tokens of a run at most */
  int64_t sink_tokens;     /* with sink_window: the first positions, kept for ever */
  int64_t sink_window;     /* above 0: a stream without end, with a window of so many latest tokens */
  int32_t endless;         /* not 0: a stream without end with sinks of endless_sink_tokens, unless sink_window says */
  int32_t sink_positions;  /* KVASS_SINKS_…, with sinks: at which positions keys and queries are rotated
                            * (sink_positions.h) */
  int64_t endless_sink_tokens; /* of `endless`, half the context at most; 0: 4 */
  int32_t kv;                  /* KVASS_KV_…: storage of keys and values */
  int32_t math;                /* KVASS_MATH_…: must be the model's where it is given */
  int32_t threads;             /* 0: as kvass_load has it */
  int32_t pin;                 /* not 0: threads stay on CPUs of their own */
  int64_t checkpoints;         /* places for kvass_checkpoint */
  int64_t sequences;           /* of kvass_sequence_open_group; 0: 1 */
  int64_t logit_rows;          /* rows of logits at once, 4096 at most; 0: 1. kvass_score is faster with 16 */
  uint64_t memory_limit;       /* bytes of weights, caches and arena; refused before anything is mapped. 0: none */
} kvass_stream_options;

/* An empty stream with memory of its own. */
KVASS_API kvass_code kvass_sequence_new(const kvass_model* model, kvass_sequence** sequence);
KVASS_API kvass_code kvass_sequence_open(const kvass_model* model, const kvass_stream_options* options,
                                         kvass_sequence** sequence);
/* options->sequences streams that share an arena and threads and may step together: sequences[options->sequences]. They
 * have one caller at a time together. */
KVASS_API kvass_code kvass_sequence_open_group(const kvass_model* model, const kvass_stream_options* options,
                                               kvass_sequence** sequences);
/* The stream that kvass_save saved, with the options that it had; threads, pin, checkpoints, memory_limit: `options`.
 */
KVASS_API kvass_code kvass_sequence_resume(const kvass_model* model, const char* path,
                                           const kvass_stream_options* options, kvass_sequence** sequence);
KVASS_API void kvass_sequence_free(kvass_sequence* sequence);

/* Appends `count` tokens, 1 to kvass_input_len. `method`: one of the program ("forward", or "prefill" and "decode")
 * that has so many rows, or NULL for the shortest method that has so many. The bits do not depend on which. */
KVASS_API kvass_code kvass_run(kvass_sequence* sequence, const char* method, const int32_t* tokens, size_t count);
/* Appends any number of tokens, in runs as planned. Cancelled, those that have run stay. */
KVASS_API kvass_code kvass_append(kvass_sequence* sequence, const int32_t* tokens, size_t count);
/* One step of several sequences of one group: all advance, or none. Together they bring at most input_len tokens and
 * one for each other sequence of the group. */
typedef struct kvass_part {
  kvass_sequence* sequence;
  const int32_t* tokens;
  size_t count;
} kvass_part;
KVASS_API kvass_code kvass_step(const kvass_part* parts, size_t count);

/* Logits after the last token: [kvass_vocabulary]. Valid until the next call on a sequence of its group. Tokens that
 * are not in the caches yet (kvass_length) run first; kvass_cancel ends that too. */
KVASS_API kvass_code kvass_logits(kvass_sequence* sequence, const float** logits);
/* The token of the largest logit (the lowest of those that share it). */
KVASS_API kvass_code kvass_argmax(kvass_sequence* sequence, int32_t* token);
/* Appends tokens, at least 2: nll[count − 1] gets −ln p of token i + 1 after tokens 0 … i. */
KVASS_API kvass_code kvass_score(kvass_sequence* sequence, const int32_t* tokens, size_t count, double* nll);

/* Tokens so far. Those of a generation that are not in the caches yet are counted: the last one that it chose, or the
 * rest of a prompt that was cancelled. They run before anything else. */
KVASS_API int64_t kvass_length(const kvass_sequence* sequence);
KVASS_API int64_t kvass_rewind_floor(const kvass_sequence* sequence); /* positions from here on can be rewound to */
KVASS_API kvass_code kvass_rewind(kvass_sequence* sequence, int64_t length); /* back to a position that is still held */
KVASS_API kvass_code kvass_checkpoint(kvass_sequence* sequence);             /* makes this position one for later */
KVASS_API kvass_code kvass_clear(kvass_sequence* sequence);                  /* an empty stream; nothing is freed */
/* The same stream a second time; share_arena not 0: in this one's group, otherwise with an arena of its own. */
KVASS_API kvass_code kvass_fork(kvass_sequence* sequence, int share_arena, kvass_sequence** fork);
KVASS_API size_t kvass_sequence_bytes(const kvass_sequence* sequence); /* caches and arena, as mapped */
/* The call that runs ends soon; without one nothing happens. The rest of a prompt of kvass_generate stays with the
 * sequence and runs before whatever comes next; kvass_rewind drops it. */
KVASS_API void kvass_cancel(kvass_sequence* sequence);

/* The stream as a file that appears whole or not at all, and back, bit for bit, into a sequence of the same model. */
KVASS_API kvass_code kvass_save(kvass_sequence* sequence, const char* path);
KVASS_API kvass_code kvass_resume(kvass_sequence* sequence, const char* path);

/* ---- Plans ---- */

typedef struct kvass_memory_plan {
  size_t struct_size;
  uint64_t weight_bytes;
  uint64_t cache_bytes; /* of all sequences */
  uint64_t arena_bytes; /* values, workspace and tables */
  uint64_t cross_bytes; /* encoder output */
  uint64_t total_bytes;
  int64_t layers;
  int64_t sequences;
} kvass_memory_plan;

typedef struct kvass_layer_plan {
  size_t struct_size; /* of the first element; all have it */
  int64_t sink_tokens;
  int64_t window; /* 0: sees everything that is cached */
  int64_t slots;  /* keys that are stored, in whole tiles */
  uint64_t bytes;
  int32_t endless; /* a ring; 0: the layer is full at `slots` */
  int32_t reserved;
} kvass_layer_plan;

/* What a file's streams take, to the byte, before anything is loaded. `layers` may be NULL; otherwise it has room for
 * `capacity` of them, and where the model has more the code is KVASS_BAD_INPUT. */
KVASS_API kvass_code kvass_plan(const char* path, const kvass_load_options* load, const kvass_stream_options* stream,
                                kvass_memory_plan* plan, kvass_layer_plan* layers, size_t capacity);

/* ---- Text ---- */

typedef struct kvass_logit_bias {
  int32_t id;
  float bias; /* added to the token's logit; minus infinity: never chosen */
} kvass_logit_bias;

typedef struct kvass_sampling {
  size_t struct_size;
  float temperature;     /* 0: the largest logit */
  float top_p;           /* 0: 1, all */
  float min_p;           /* 0: all */
  float repeat_penalty;  /* 0: 1, none */
  int32_t top_k;         /* 0: all */
  int32_t repeat_last_n; /* tokens that the penalty looks back at; 0: 64 */
  uint64_t seed;
  const kvass_logit_bias* logit_bias; /* logit_bias_count of them */
  size_t logit_bias_count;
} kvass_sampling;

typedef struct kvass_generate_options {
  size_t struct_size;
  int64_t max_tokens;             /* 0: no limit */
  const kvass_sampling* sampling; /* NULL: the largest logit */
  const char* const* stops;       /* stop_count texts that end the stream; not shown */
  size_t stop_count;
  int32_t ignore_eos; /* not 0: go on after an end-of-generation token */
  int32_t hold_text;  /* not 0: text that is incomplete stays with the stream for what goes on with it */
  int64_t save_every; /* tokens from one save to save_path to the next; 0: none */
  const char* save_path;
  int32_t* ids; /* get the tokens, ids_capacity at most; may be NULL */
  size_t ids_capacity;
} kvass_generate_options;

enum {
  KVASS_STOP_MAX_TOKENS = 0,
  KVASS_STOP_END = 1, /* the model ended the text */
  KVASS_STOP_TEXT = 2,
  KVASS_STOP_CANCELLED = 3,
  KVASS_STOP_CACHE_FULL = 4,
  KVASS_STOP_FAILED = 5
};

typedef struct kvass_generate_result {
  size_t struct_size;
  int64_t prompt_tokens; /* that have run: fewer than were given where the prompt was cancelled */
  int64_t tokens;        /* generated, including an end token */
  double prefill_seconds;
  double decode_seconds;
  int32_t reason; /* KVASS_STOP_… */
  int32_t reserved;
} kvass_generate_result;

/* Gets each piece of text once it is complete: whole UTF-8 characters, not terminated. 0 ends the generation. */
typedef int (*kvass_on_text)(void* user, const char* bytes, size_t count);

/* Runs the prompt and generates. `tokens` may be NULL with count 0: the stream goes on by itself. on_text and result
 * may be NULL. After an error *result is as it was. */
KVASS_API kvass_code kvass_generate(kvass_sequence* sequence, const int32_t* tokens, size_t count,
                                    const kvass_generate_options* options, kvass_on_text on_text, void* user,
                                    kvass_generate_result* result);

/* ---- Conversations ---- */

typedef struct kvass_chat_options {
  size_t struct_size;
  const char* system_text;   /* NULL: none; it stays in sight for ever, and takes half the context at most */
  const char* chat_template; /* jinja; NULL: the model's own */
  int64_t max_tokens;        /* of one answer; 0: no limit */
  const kvass_sampling* sampling;
  int32_t bounded; /* not 0: KVASS_CACHE_FULL when the context is full, instead of forgetting the middle */
  int32_t reserved;
  const char* tools;        /* for the template, a JSON array; NULL: none */
  const char* variables;    /* for the template, a JSON object; NULL: none */
  const char* const* stops; /* stop_count texts that end an answer; not shown */
  size_t stop_count;
} kvass_chat_options;

KVASS_API kvass_code kvass_chat_open(const kvass_model* model, const kvass_chat_options* options,
                                     const kvass_stream_options* stream, kvass_chat** chat);
/* The conversation that was saved, with its template and system text. */
KVASS_API kvass_code kvass_chat_resume(const kvass_model* model, const char* path, const kvass_chat_options* options,
                                       const kvass_stream_options* stream, kvass_chat** chat);
KVASS_API void kvass_chat_free(kvass_chat* chat);
/* A user's text, and the model's answer to on_text. */
KVASS_API kvass_code kvass_chat_answer(kvass_chat* chat, const char* text, size_t text_bytes, kvass_on_text on_text,
                                       void* user, kvass_generate_result* result);
KVASS_API kvass_code kvass_chat_clear(kvass_chat* chat);
KVASS_API kvass_code kvass_chat_save(kvass_chat* chat, const char* path);
KVASS_API int64_t kvass_chat_turns(const kvass_chat* chat);  /* while no call runs */
KVASS_API int64_t kvass_chat_length(const kvass_chat* chat); /* tokens */
KVASS_API void kvass_chat_cancel(kvass_chat* chat);

/* ---- Speech ---- */

typedef struct kvass_transcriber_options {
  size_t struct_size;
  int64_t sequences; /* beams or draws that live at a time; 0: 5 */
  int32_t kv;        /* KVASS_KV_… */
  int32_t threads;   /* 0: as kvass_load has it */
  uint64_t memory_limit;
} kvass_transcriber_options;

/* Thresholds: 0 is the default, a NaN means none. */
typedef struct kvass_transcribe_options {
  size_t struct_size;
  const char* language;    /* code or English name; NULL: the one that is heard */
  int32_t translate;       /* not 0: into English */
  int32_t word_timestamps; /* not 0: kvass_segment.words */
  int32_t no_timestamps;   /* not 0: text alone, a window at a time */
  int32_t vad;             /* not 0: only where it is not silent, by energy */
  int32_t no_condition;    /* not 0: a window does not see the text before it */
  int32_t allow_blank;     /* not 0: a text may begin with a blank */
  const char* initial_prompt;
  int64_t beam_size;     /* at temperature 0; 0: 5 */
  int64_t best_of;       /* texts that are drawn at a temperature above 0; 0: 5 */
  double patience;       /* 0: 1 */
  double length_penalty; /* 0: 1 */
  uint64_t seed;
  const float* temperatures; /* temperature_count of them, one after the other while a text is bad; NULL: 0, 0.2 … 1 */
  size_t temperature_count;
  double compression_ratio_threshold;
  double logprob_threshold;
  double no_speech_threshold;
  double prompt_reset_on_temperature;
  double max_initial_timestamp; /* seconds */
  const int32_t* suppressed;    /* suppressed_count ids never written, besides special tokens; NULL: the model's own */
  size_t suppressed_count;
  const char* prepend_punctuations;
  const char* append_punctuations;
} kvass_transcribe_options;

typedef struct kvass_word {
  double start, end; /* seconds */
  const char* text;  /* terminated, with the space before it */
  double probability;
} kvass_word;

typedef struct kvass_segment {
  double start, end; /* seconds */
  const char* text;  /* terminated */
  const int32_t* tokens;
  size_t token_count;
  const kvass_word* words;
  size_t word_count;
  double avg_logprob, no_speech_prob, compression_ratio, temperature;
} kvass_segment;

/* Each segment once it is written; it is the library's until the function returns. 0: enough. */
typedef int (*kvass_on_segment)(void* user, const kvass_segment* segment);

/* Of a model that kvass_load gave for a speech model. */
KVASS_API kvass_code kvass_transcriber_open(const kvass_model* model, const kvass_transcriber_options* options,
                                            kvass_transcriber** transcriber);
KVASS_API void kvass_transcriber_free(kvass_transcriber* transcriber);
/* WAV, FLAC, OGG or MP3; "-": stdin. KVASS_CANCELLED: what was written is there (kvass_transcript). */
KVASS_API kvass_code kvass_transcribe_file(kvass_transcriber* transcriber, const char* path,
                                           const kvass_transcribe_options* options, kvass_on_segment on_segment,
                                           void* user);
/* `count` samples of one channel at 16 kHz. */
KVASS_API kvass_code kvass_transcribe(kvass_transcriber* transcriber, const int16_t* samples, size_t count,
                                      const kvass_transcribe_options* options, kvass_on_segment on_segment, void* user);
/* The last transcript whole, terminated: format txt, srt, vtt, tsv or json. `bytes` may be NULL. */
KVASS_API kvass_code kvass_transcript(kvass_transcriber* transcriber, const char* format, const char** text,
                                      size_t* bytes);
KVASS_API void kvass_transcriber_cancel(kvass_transcriber* transcriber);

#ifdef __cplusplus
}
#endif

#endif
