/* Sampling: from logits to the next token. */
#ifndef MZ_LLM_SAMPLER_H
#define MZ_LLM_SAMPLER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/context.h"
#include "core/rng.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The order is: repetition penalty, temperature, top-k, top-p, min-p, draw. */
typedef struct mz_sampling {
    double temperature;   /* 0: greedy, the largest logit; equal ones: the lower id */
    int64_t sample_top_k; /* only the k most probable; 0: all */
    double top_p; /* the fewest whose probabilities sum to at least this; 1: all (Holtzman et
                     al. 2020) */
    double min_p; /* at least this share of the best one's probability; 0: all (Nguyen et al.
                     2024) */
    double repeat_penalty; /* logits of tokens among the last repeat_last_n: divided by it if
                              positive, else multiplied (Keskar et al. 2019); 1: none */
    int64_t repeat_last_n;
    uint64_t seed;
} mz_sampling;

/* Errors: ARG naming the value and its range. */
mz_status mz_sampling_check(mz_error *err, const mz_sampling *sampling);

/* Opaque; one sequence and one thread. */
typedef struct mz_sampler mz_sampler;

/* Errors: those of mz_sampling_check; NOMEM. */
mz_status mz_sampler_create(mz_context *ctx, const mz_sampling *sampling, int64_t vocab_size,
                            mz_sampler **out);
void mz_sampler_destroy(mz_context *ctx, mz_sampler *sampler); /* accepts NULL */

/* Notes a token of the sequence (of the prompt as well) for the repetition penalty. */
void mz_sampler_accept(mz_sampler *sampler, int32_t id);

/* The next token from `logits` [vocab_size], which stay as they are; NaN loses every comparison.
 * *probability (may be NULL) is its probability after temperature, before the cuts. Equal logits,
 * seed and history give equal tokens on every machine. */
int32_t mz_sampler_next(mz_sampler *sampler, const float *logits, double *probability);

#ifdef __cplusplus
}
#endif
#endif
