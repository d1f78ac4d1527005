/* Tables of rotary angles. */
#ifndef MZ_LLM_ROPE_H
#define MZ_LLM_ROPE_H

#include "core/backend.h"

typedef enum mz_rope_scaling {
    MZ_ROPE_UNSCALED = 0,
    MZ_ROPE_LINEAR, /* each frequency over factor (Chen et al. 2023) */
    MZ_ROPE_LLAMA3, /* slow frequencies over factor, fast ones as they are (Llama team 2024) */
    MZ_ROPE_YARN,   /* likewise by dimension, cosines and sines times attention_factor (Peng et al.
                       2023) */
} mz_rope_scaling;

/* What a rotation is; filled by a family file. */
typedef struct mz_rope {
    double theta;
    int64_t n_dims;   /* of a head are rotated, an even number */
    int64_t head_dim; /* 0: n_dims */
    int64_t first;    /* where in a head they begin */
    bool interleaved; /* pairs are neighbours (2i, 2i + 1), not (i, i + n_dims / 2) */
    mz_rope_scaling scaling;
    double factor;
    double original_positions; /* LLAMA3, YARN: length of the training before it was stretched */
    double low_factor, high_factor; /* LLAMA3: wavelengths above original_positions / low_factor are
                                       stretched in full, those below ... / high_factor not */
    double beta_fast, beta_slow;    /* YARN: the same as turns within original_positions */
    double attention_factor;        /* YARN */
} mz_rope;

/* Frequency of pair i, 0 <= i < n_dims / 2, in radians a position. */
double mz_rope_frequency(const mz_rope *rope, int64_t i);

/* Takes a table for positions 0..n_positions-1 from the stream's arena and fills it: angle =
 * position * frequency, the frequency and the product rounded to f32 as the published
 * implementations do, its cosine and sine rounded once. `n_positions` up to 2^24, so that positions
 * are exact in f32. Errors: LIMIT, NOMEM, DEVICE. */
mz_status mz_rope_table_take(mz_stream *s, int64_t n_positions, const mz_rope *rope,
                             mz_rope_table *out);

#endif
