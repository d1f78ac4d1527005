/* Router kinds: what each does with its logits, and which configurations are valid. */
#ifndef MZ_EXPERTS_ROUTER_H
#define MZ_EXPERTS_ROUTER_H

#include "core/ops.h"

/* One row per kind: the contract that every backend's `route` keeps (core/ops.h). */
typedef struct mz_router_kind_info {
    mz_router_kind kind;
    const char *name;
    const char *scores;  /* what is compared */
    const char *weights; /* what the chosen experts are weighted with */
    bool ragged;         /* slots of a token may stay unused */
    bool has_capacity;   /* slots may be dropped */
} mz_router_kind_info;

/* NULL for a number that is no kind. */
const mz_router_kind_info *mz_router_kind_get(mz_router_kind kind);

/* Errors: LIMIT for n_experts outside 1..MZ_MAX_EXPERTS; ARG for an unknown kind, top_k outside
 * 1..n_experts, and for options that are out of range or that the kind does not have. */
mz_status mz_router_validate(const mz_router *router, mz_error *err);

/* Whether a row's routing depends on other rows of its sequence, so that it has to be computed with
 * all of them: capacity is counted over the prompt, text_before_text looks at the next row. */
bool mz_router_needs_sequences(const mz_router *router);

/* Balances without a loss (Wang et al. 2024, algorithm 1): bias[e] += step * sign(mean load -
 * load[e]), where load[e] counts the slots of expert e in all routings, which are in host memory,
 * have been dispatched and are of n_experts experts.
 *   bias  [n_experts] f32: the router's selection_bias */
void mz_router_balance_bias(float *bias, int32_t n_experts, const mz_routing *routings,
                            int n_routings, float step);

#endif
