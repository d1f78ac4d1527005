/* Which experts the routers of a model choose as a series goes on: counts and measures of balance.
 */
#ifndef MZ_APPS_EXPERT_USAGE_H
#define MZ_APPS_EXPERT_USAGE_H

#include <stdint.h>

#include "apps/zoo/forecaster.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Choices of all routers, summed over series. A series is cut into n_blocks of equal length, the
 * last values of all series lie in the last block. Created by mz_expert_usage_open; one thread. */
typedef struct mz_expert_usage {
    mz_context *ctx;
    int64_t n_layers, n_experts, n_blocks;
    int64_t *counts; /* [n_layers, n_blocks, n_experts] */
    int64_t n_series, n_points;
} mz_expert_usage;

/* Errors: NOMEM. Closed after a failure too. */
mz_status mz_expert_usage_open(mz_context *ctx, int64_t n_layers, int64_t n_experts,
                               int64_t n_blocks, mz_expert_usage *out);
void mz_expert_usage_close(mz_expert_usage *usage);

/* Runs n values of a series, scaled already, through the model and counts. Errors: those of
 * mz_forecaster_trace; FORMAT where the model has other layers or experts. */
mz_status mz_expert_usage_add(mz_expert_usage *usage, mz_forecaster *forecaster,
                              const float *values, int64_t n_values);

/* Counts one layer's choices for n_points points: `ids` [n_points, top_k]. Errors: FORMAT. */
mz_status mz_expert_usage_count(mz_expert_usage *usage, int64_t layer, const int32_t *ids,
                                int64_t n_points, int64_t top_k);

/* Choices of an expert over all blocks. */
int64_t mz_expert_usage_total(const mz_expert_usage *usage, int64_t layer, int64_t expert);

/* How evenly a layer uses its experts. */
typedef struct mz_expert_balance {
    double effective;     /* exp(entropy of the shares): 1, one expert does all, to n_experts */
    double largest_share; /* of all choices */
    int64_t largest;      /* the expert that has it, the lowest of equals */
    int64_t n_dead;       /* experts that were never chosen */
} mz_expert_balance;

/* All zero where nothing was counted. */
mz_expert_balance mz_expert_usage_balance(const mz_expert_usage *usage, int64_t layer);

/* Fills `shares` [n_layers, n_experts] with each expert's share of its layer's choices, NaN where
 * there are none; and [n_experts, n_blocks] of one layer with those of each block's choices. */
void mz_expert_usage_by_layer(const mz_expert_usage *usage, double *shares);
void mz_expert_usage_by_block(const mz_expert_usage *usage, int64_t layer, double *shares);

#ifdef __cplusplus
}
#endif
#endif
