/* The two ends of a language model: token ids to embedded rows, and final states to logits. */
#ifndef MZ_LLM_EMBEDDING_H
#define MZ_LLM_EMBEDDING_H

#include "core/backend.h"

/* Filled by a family file, immutable afterwards, shared by threads. */
typedef struct mz_embedding {
    int64_t size;
    mz_linear table; /* [size, d_model], without bias; any type that holds weights */
    float scale;     /* of embedded rows */
    mz_linear head;  /* [size, d_model]; where it is tied the matrix is the table's */
} mz_embedding;

/* y[i] = scale * table[ids[i]].
 *   ids  [n] host memory, each 0 to size - 1, which is the caller's duty
 *   y    [n, d_model] */
mz_status mz_embedding_rows(mz_stream *s, const mz_tensor *y, const mz_embedding *embedding,
                            const int32_t *ids);

/* Logits of final states.
 *   hidden  [n, d_model]
 *   y       [n, size] */
mz_status mz_embedding_logits(mz_stream *s, const mz_tensor *y, const mz_embedding *embedding,
                              const mz_tensor *hidden);

#endif
