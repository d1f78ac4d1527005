/* Tables of rotary angles. */
#ifndef MZ_LLM_ROPE_H
#define MZ_LLM_ROPE_H

#include "core/backend.h"

/* Takes a table for positions 0..n_positions-1 from the stream's arena and fills it: angle =
 * position * theta^(-2i / head_dim), the frequency and the product rounded to f32 as the published
 * implementations do, its cosine and sine rounded once. `n_positions` up to 2^24, so that positions
 * are exact in f32. Errors: LIMIT, NOMEM, DEVICE. */
mz_status mz_rope_table_take(mz_stream *s, int64_t n_positions, int64_t head_dim, double theta,
                             mz_rope_table *out);

#endif
