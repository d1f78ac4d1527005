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

/* The order is: repetition penalty, temperature, top-k, top-p, min-p, draw. Each cut works on what
 * the one before left, with probabilities that sum to 1 again. A NaN counts as a logit of -inf. */
typedef struct mz_sampling {
    double temperature;    /* 0: greedy, the largest logit, equal ones: the lower id; else from
                              MZ_MIN_TEMPERATURE to MZ_MAX_TEMPERATURE */
    int64_t sample_top_k;  /* only the k most probable, equal ones: the lower ids; 0: all */
    double top_p;          /* the fewest whose probabilities sum to at least this (Holtzman et al.
                              2020), never none; 1: all */
    double min_p;          /* at least this share of the best one's probability (Nguyen et al.
                              2024), 0 to 1; 0: all */
    double repeat_penalty; /* logits of tokens among the last repeat_last_n: divided by it if
                              positive, else multiplied (Keskar et al. 2019); above 0, at most
                              100; 1: none */
    int64_t repeat_last_n; /* at most MZ_MAX_REPEAT_LAST_N */
    uint64_t seed;
} mz_sampling;

#define MZ_MIN_TEMPERATURE 1e-6
#define MZ_MAX_TEMPERATURE 100.0
enum { MZ_MAX_REPEAT_LAST_N = 1 << 20 };

/* Errors: ARG naming the value and its range. */
mz_status mz_sampling_check(mz_error *err, const mz_sampling *sampling);

/* Opaque; one sequence and one thread. */
typedef struct mz_sampler mz_sampler;

/* Takes some 12 bytes for each id of the vocabulary. Errors: those of mz_sampling_check; ARG for a
 * vocabulary of none; NOMEM. */
mz_status mz_sampler_create(mz_context *ctx, const mz_sampling *sampling, int64_t vocab_size,
                            mz_sampler **out);
void mz_sampler_destroy(mz_context *ctx, mz_sampler *sampler); /* accepts NULL */

/* Notes a token of the sequence (of the prompt as well) for the repetition penalty. Ids outside the
 * vocabulary are ignored. */
void mz_sampler_accept(mz_sampler *sampler, int32_t id);

/* Forgets the tokens noted so far: another sequence begins. Draws go on where they were. */
void mz_sampler_forget(mz_sampler *sampler);

/* The next token from `logits` [vocab_size], which stay as they are. *probability (may be NULL) is
 * its probability after penalty and temperature, before the cuts; with greedy choice the one at
 * temperature 1. Where no logit is finite the largest ones share the draw: +inf, else -inf. Equal
 * logits, seed and calls before give equal tokens on every machine: only additions, multiplications
 * and comparisons of IEEE 754 are used, in a fixed order. */
int32_t mz_sampler_next(mz_sampler *sampler, const float *logits, double *probability);

#ifdef __cplusplus
}
#endif
#endif
