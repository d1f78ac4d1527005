/* Language models of any family: loaded from a published checkpoint, and run in sessions. */
#ifndef MZ_APPS_ZOO_LANGUAGE_MODEL_H
#define MZ_APPS_ZOO_LANGUAGE_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "apps/zoo/zoo.h"
#include "experts/trace.h"
#include "llm/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Opaque; immutable after loading, may be shared by threads. */
typedef struct mz_language_model mz_language_model;

/* What a caller has to know of one. */
typedef struct mz_language_model_info {
    const char *family; /* "llama", as in the registry */
    int64_t vocab_size; /* rows of the embedding */
    int64_t d_model, n_layers, n_kv_heads, head_dim, head_dim_v;
    int64_t max_positions; /* the longest context that the checkpoint was made for */
    int32_t end_tokens[8]; /* at which an answer ends: the config's eos ids and the tokenizer's */
    int n_end_tokens;
    size_t file_bytes; /* of the weight files */
} mz_language_model_info;

/* Loads the checkpoint at `path`: a folder (config.json, weights, tokenizer files) or a GGUF file.
 * A checkpoint without a tokenizer loads; mz_language_model_tokenizer says MISSING then.
 * options->precision: see mz_precision; INT8 is what block-quantised weights are made for.
 * Errors: those of mz_zoo_identify and of opening weights; UNSUPPORTED for a model of another job
 * or an architecture that is not known, naming the known ones; SHAPE where the tokenizer has more
 * ids than the embedding has rows. */
mz_status mz_zoo_load_language_model(mz_context *ctx, const char *path,
                                     const mz_load_options *options, mz_language_model **out);

/* Whether the config and all tensors at `path` are those of a language model; the tokenizer does
 * not matter. Errors: as above. */
mz_status mz_zoo_check_language_model(mz_context *ctx, const char *path);

/* A fresh one of the family that `config` asks for, without a tokenizer (see
 * mz_zoo_create_forecaster); `weights_dtype` other than f32: random weights of that type, for
 * measuring speed only, where options->weights asks for none. */
mz_status mz_zoo_create_language_model(mz_context *ctx, const json_t *config, const char *name,
                                       const mz_load_options *options, mz_dtype weights_dtype,
                                       mz_language_model **out);
void mz_language_model_close(mz_language_model *model); /* accepts NULL */

const mz_language_model_info *mz_language_model_info_of(const mz_language_model *model);

/* Errors: MISSING, saying what was looked for. The tokenizer is the model's. */
mz_status mz_language_model_tokenizer(mz_context *ctx, const mz_language_model *model,
                                      const mz_tokenizer **out);

/* What changes while a model runs: KV cache, activations. Opaque; one thread. */
typedef struct mz_lm_session mz_lm_session;

typedef struct mz_lm_session_options {
    int64_t n_sequences; /* that are alive at once; 0: 1 */
    int64_t n_positions; /* of one sequence at most; 0: the model's max_positions, at most 4096 */
    int64_t n_batch;     /* rows of one forward pass at most, longer calls are cut into passes;
                            0: 512 */
    mz_dtype kv_dtype;   /* F32 (0), F16 or Q8_0 */
    mz_profile *profile; /* NULL: ops are not timed */
} mz_lm_session_options;

/* Errors: NOMEM; LIMIT naming a size out of range; DTYPE for another kv_dtype. */
mz_status mz_lm_session_create(mz_context *ctx, const mz_language_model *model,
                               const mz_lm_session_options *options, mz_lm_session **out);
void mz_lm_session_destroy(mz_lm_session *session); /* accepts NULL */

/* New tokens for one or several sequences. Host arrays. */
typedef struct mz_lm_input {
    int64_t n_tokens;
    const int32_t *ids;      /* [n_tokens]; checked */
    const int32_t *sequence; /* [n_tokens] rows of a sequence are neighbours; NULL: all 0. They
                                follow what the sequence holds already */
    const uint8_t *modality; /* [n_tokens] mz_modality; NULL: all text */
    const uint8_t *wanted;   /* [n_tokens] 1 where logits are wanted; NULL: the last row of each
                                sequence */
} mz_lm_input;

/* Runs the tokens through the model and appends them to their sequences. A batch answers as single
 * calls do, bit for bit, however it is cut into passes.
 *   logits  [rows wanted, vocab_size] f32, in the order of the rows; the caller's
 *   trace   NULL: none; names as in the published implementations (experts/trace.h)
 * Errors: LIMIT naming the sequence whose context is full, or an id outside the vocabulary; ARG for
 * a sequence that the session has not, or whose rows are not neighbours; those of the ops. Then the
 * sequences hold what they held. */
mz_status mz_lm_session_run(mz_lm_session *session, const mz_lm_input *input, const mz_trace *trace,
                            float *logits);

/* Positions that a sequence (0 to n_sequences - 1) holds, and the most it can hold. */
int64_t mz_lm_session_n_positions(const mz_lm_session *session, int64_t sequence);
int64_t mz_lm_session_max_positions(const mz_lm_session *session);

/* Forgets positions from n on (0: all of it). */
void mz_lm_session_truncate(mz_lm_session *session, int64_t sequence, int64_t n);

/* `to` becomes a copy of `from`: pages are shared until one of them is written. Errors: ARG for a
 * sequence that the session has not. */
mz_status mz_lm_session_fork(mz_lm_session *session, int64_t from, int64_t to);

/* Forgets n positions from `first` on, both multiples of MZ_KV_PAGE; later keys are rotated to
 * their new positions (--context-shift). Errors: those of mz_kv_cache_shift; UNSUPPORTED for models
 * whose keys cannot be moved. */
mz_status mz_lm_session_shift(mz_lm_session *session, int64_t sequence, int64_t first, int64_t n);

/* Bytes of the KV cache when it is full. */
size_t mz_lm_session_kv_bytes(const mz_lm_session *session);

#ifdef __cplusplus
}
#endif
#endif
