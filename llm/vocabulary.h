/* The two ends of a language model: token ids to embedded rows, and final states to logits. */
#ifndef MZ_LLM_VOCABULARY_H
#define MZ_LLM_VOCABULARY_H

#include "core/backend.h"

/* Filled by a family file, immutable afterwards, shared by threads. */
typedef struct mz_vocabulary {
    int64_t size;
    mz_linear embedding; /* [size, d_model], without bias; any type that holds weights */
    float scale;         /* of embedded rows */
    mz_linear head;      /* [size, d_model]; where it is tied the matrix is the embedding's */
} mz_vocabulary;

/* y[i] = scale * embedding[ids[i]].
 *   ids  [n] host memory, each 0 to size - 1, which is the caller's duty
 *   y    [n, d_model] */
mz_status mz_vocabulary_embed(mz_stream *s, const mz_tensor *y, const mz_vocabulary *vocabulary,
                              const int32_t *ids);

/* Logits of final states.
 *   hidden  [n, d_model]
 *   y       [n, size] */
mz_status mz_vocabulary_logits(mz_stream *s, const mz_tensor *y, const mz_vocabulary *vocabulary,
                               const mz_tensor *hidden);

#endif
