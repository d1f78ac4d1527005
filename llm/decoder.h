/* The decoder: a stack of blocks with a final norm, and one ragged pass through it. */
#ifndef MZ_LLM_DECODER_H
#define MZ_LLM_DECODER_H

#include "experts/block.h"
#include "llm/kv_cache.h"
#include "llm/rope.h"

enum { MZ_MAX_ROPES = 2 };

/* Description and weights; filled by a family file, immutable afterwards, shared by threads. */
typedef struct mz_decoder {
    int64_t d_model;
    int64_t n_layers;
    mz_block *blocks; /* [n_layers] */
    mz_norm final_norm;
    mz_rope ropes[MZ_MAX_ROPES]; /* which blocks choose from */
    int n_ropes;
} mz_decoder;

/* Takes the tables of all rotations of a decoder, for mz_decoder_forward.
 *   out  [MZ_MAX_ROPES]
 * Errors: those of mz_rope_table_take. */
mz_status mz_decoder_take_ropes(mz_stream *s, const mz_decoder *decoder, int64_t n_positions,
                                mz_rope_table *out);

/* One pass, ragged and without padding. Host arrays; rows of one sequence are neighbours and ascend
 * in position. */
typedef struct mz_batch {
    int64_t n_tokens;
    const int32_t *sequence;     /* [n_tokens] row of the cache's page table */
    const int32_t *position;     /* [n_tokens] */
    const uint8_t *modality;     /* [n_tokens] mz_modality; NULL: all text */
    int64_t n_out;               /* rows whose hidden state is wanted */
    const int32_t *out_index;    /* [n_out] ascending; NULL: all rows, n_out = n_tokens */
    const int32_t *out_sequence; /* [n_out] sequence and position of those rows; unused when
                                    out_index is NULL */
    const int32_t *out_position;
    const uint8_t *out_modality; /* [n_out], where there is a modality */
    const mz_routing *routings; /* [n_layers] taken by a caller who wants to look at them, filled by
                                   layers with experts; NULL: none. Only with out_index NULL */
} mz_batch;

/* Runs the rows through all blocks. In the last block only what the wanted rows need is computed,
 * beside the keys and values of all rows. Pages must exist (mz_kv_cache_extend). Without a cache
 * (NULL) the rows are whole sequences: this is how a tape is recorded, each block a segment of it
 * (mz_tape_run_segment).
 *   x       [n_tokens, d_model] embedded rows
 *   ropes   [n_ropes] for the positions of the batch at least
 *   hidden  [n_out, d_model], after the final norm
 * Blocks whose router reads the logits of the mixture layer before get them.
 * Trace: what the blocks record, then final_norm (layer -1). Errors: those of the ops;
 * UNSUPPORTED for a cache on a stream with a tape, and for such routers there without the caller's
 * routings. */
mz_status mz_decoder_forward(mz_stream *s, const mz_tensor *hidden, const mz_tensor *x,
                             const mz_decoder *decoder, const mz_batch *batch, mz_kv_cache *cache,
                             const mz_rope_table *ropes, const mz_trace *trace);

#endif
