/* Router kinds: what each does with its logits, and which configurations are valid. */
#ifndef MZ_EXPERTS_ROUTER_H
#define MZ_EXPERTS_ROUTER_H

#include "core/ops.h"

enum { MZ_MAX_EXPERTS = 1024 };

/* One row per kind: the contract that every backend's `route` keeps. */
typedef struct mz_router_kind_info {
    mz_router_kind kind;
    const char *name;
    const char *scores;  /* what is compared */
    const char *weights; /* what the chosen experts are weighted with */
    bool renormalised;   /* chosen weights sum to 1 */
    bool has_capacity;   /* slots may be dropped */
} mz_router_kind_info;

const mz_router_kind_info *mz_router_kind_get(mz_router_kind kind);

/* Errors: LIMIT for n_experts outside 1..MZ_MAX_EXPERTS; ARG for top_k outside 1..n_experts. */
mz_status mz_router_validate(const mz_router *router, mz_error *err);

#endif
