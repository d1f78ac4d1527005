/* The decoder: a stack of blocks with a final norm, and one ragged pass through it. */
#ifndef MZ_LLM_DECODER_H
#define MZ_LLM_DECODER_H

#include "experts/block.h"
#include "llm/kv_cache.h"

/* Description and weights; filled by a family file, immutable afterwards, shared by threads. */
typedef struct mz_decoder {
    int64_t d_model;
    int64_t n_layers;
    mz_block *blocks;     /* [n_layers] */
    mz_tensor final_norm; /* [d_model] f32 */
    float norm_eps;
    double rope_theta;
} mz_decoder;

/* One pass, ragged and without padding. Host arrays; rows of one sequence are neighbours and ascend
 * in position. */
typedef struct mz_batch {
    int64_t n_tokens;
    const int32_t *sequence;     /* [n_tokens] row of the cache's page table */
    const int32_t *position;     /* [n_tokens] */
    int64_t n_out;               /* rows whose hidden state is wanted */
    const int32_t *out_index;    /* [n_out] ascending; NULL: all rows, n_out = n_tokens */
    const int32_t *out_sequence; /* [n_out] sequence and position of those rows; unused when
                                    out_index is NULL */
    const int32_t *out_position;
    const mz_routing *routings; /* [n_layers] taken by a caller who wants to look at them, filled by
                                   layers with experts; NULL: none. Only with out_index NULL */
} mz_batch;

/* Runs the rows through all blocks. In the last block only what the wanted rows need is computed,
 * beside the keys and values of all rows. Pages must exist (mz_kv_cache_extend). Without a cache
 * (NULL) the rows are whole sequences: this is how a tape is recorded, each block a segment of it
 * (mz_tape_run_segment).
 *   x       [n_tokens, d_model] embedded rows
 *   hidden  [n_out, d_model], after the final norm
 * Trace: what the blocks record, then final_norm (layer -1). Errors: those of the ops;
 * UNSUPPORTED for a cache on a stream with a tape. */
mz_status mz_decoder_forward(mz_stream *s, const mz_tensor *hidden, const mz_tensor *x,
                             const mz_decoder *decoder, const mz_batch *batch, mz_kv_cache *cache,
                             const mz_rope_table *rope, const mz_trace *trace);

#endif
