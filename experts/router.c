#include "experts/router.h"

#include <math.h>

static const mz_router_kind_info kinds[MZ_ROUTER_KIND_COUNT] = {
    {MZ_ROUTER_SOFTMAX_TOPK, "softmax-topk",
     "logits (the order of their softmax), ties to the lower id",
     "softmax over all experts, as it is or renormalised", false, false},
    {MZ_ROUTER_SIGMOID_TOPK, "sigmoid-topk", "sigmoid of the logits",
     "sigmoid, as it is or renormalised", false, false},
    {MZ_ROUTER_TOP_P, "top-p", "softmax over all experts, until the sum exceeds the threshold",
     "softmax over all experts, as it is or renormalised", true, false},
    {MZ_ROUTER_DEEPSPEED_TOP1, "deepspeed-top1", "logits, places by noise",
     "softmax over all experts, as it is", true, true},
    {MZ_ROUTER_DEEPSPEED_TOP2, "deepspeed-top2", "logits, the second choice with noise",
     "softmax over all experts, renormalised over what was not dropped", true, true},
};

const mz_router_kind_info *mz_router_kind_get(mz_router_kind kind) {
    return (int)kind >= 0 && kind < MZ_ROUTER_KIND_COUNT ? &kinds[kind] : NULL;
}

static mz_status validate_groups(const mz_router *r, mz_error *err) {
    if (r->n_groups == 0) {
        return MZ_OK;
    }
    if (r->n_groups < 1 || r->n_experts % r->n_groups != 0 || r->n_top_groups < 1 ||
        r->n_top_groups > r->n_groups) {
        return mz_fail(err, MZ_ERR_ARG, "the best %d of %d groups of %d experts", r->n_top_groups,
                       r->n_groups, r->n_experts);
    }
    const int32_t n_open = r->n_experts / r->n_groups * r->n_top_groups;
    return r->top_k <= n_open
               ? MZ_OK
               : mz_fail(err, MZ_ERR_ARG, "%d experts per token from groups that hold %d", r->top_k,
                         n_open);
}

static mz_status validate_capacity(const mz_router *r, mz_error *err) {
    const bool top2 = r->kind == MZ_ROUTER_DEEPSPEED_TOP2;
    if (r->top_k != (top2 ? 2 : 1) || r->renormalise != top2) {
        return mz_fail(err, MZ_ERR_ARG, "%s: %d experts per token, %s", kinds[r->kind].name,
                       r->top_k, r->renormalise ? "renormalised" : "not renormalised");
    }
    if (r->selection_bias.n_dims > 0 || r->n_groups > 0) {
        return mz_fail(err, MZ_ERR_ARG, "%s: knows neither groups nor a selection bias",
                       kinds[r->kind].name);
    }
    if (r->drop &&
        (!isfinite(r->capacity_factor) || r->capacity_factor < 0 || r->min_capacity < 0)) {
        return mz_fail(err, MZ_ERR_ARG, "%s: capacity factor %g, at least %d places",
                       kinds[r->kind].name, (double)r->capacity_factor, r->min_capacity);
    }
    return MZ_OK;
}

static mz_status validate_ranges(const mz_router *r, mz_error *err) {
    for (int m = 0; m < MZ_MODALITY_COUNT && r->by_modality; m++) {
        const mz_expert_range range = r->ranges[m];
        if (range.first < 0 || range.n < 0 || range.n > r->n_experts ||
            range.first > r->n_experts - range.n) {
            return mz_fail(err, MZ_ERR_ARG, "modality %d: %d experts from %d on, of %d", m, range.n,
                           range.first, r->n_experts);
        }
    }
    return MZ_OK;
}

static mz_status validate_options(const mz_router *r, mz_error *err) {
    const mz_tensor *bias = &r->selection_bias;
    if (!isfinite(r->scale)) {
        return mz_fail(err, MZ_ERR_ARG, "weights are scaled by %g", (double)r->scale);
    }
    if (bias->n_dims > 0 && (bias->n_dims != 1 || bias->shape[0] != r->n_experts)) {
        return mz_fail(err, MZ_ERR_ARG, "a selection bias of %lld values for %d experts",
                       (long long)bias->shape[0], r->n_experts);
    }
    if (r->n_zero < 0 || r->n_zero > r->n_experts) {
        return mz_fail(err, MZ_ERR_ARG, "%d silent experts of %d", r->n_zero, r->n_experts);
    }
    if (r->kind == MZ_ROUTER_TOP_P && !(r->threshold >= 0 && r->threshold <= 1)) {
        return mz_fail(err, MZ_ERR_ARG, "top-p: threshold %g, expected 0 to 1",
                       (double)r->threshold);
    }
    return validate_ranges(r, err);
}

mz_status mz_router_validate(const mz_router *router, mz_error *err) {
    const mz_router_kind_info *info = mz_router_kind_get(router->kind);
    if (info == NULL) {
        return mz_fail(err, MZ_ERR_ARG, "router kind %d, expected 0 to %d", (int)router->kind,
                       (int)MZ_ROUTER_KIND_COUNT - 1);
    }
    if (router->n_experts < 1 || router->n_experts > MZ_MAX_EXPERTS) {
        return mz_fail(err, MZ_ERR_LIMIT, "%d experts, expected 1 to %d", router->n_experts,
                       (int)MZ_MAX_EXPERTS);
    }
    if (router->top_k < 1 || router->top_k > router->n_experts) {
        return mz_fail(err, MZ_ERR_ARG, "%d experts per token, expected 1 to %d", router->top_k,
                       router->n_experts);
    }
    if (info->has_capacity) {
        MZ_TRY(validate_capacity(router, err));
    }
    MZ_TRY(validate_groups(router, err));
    return validate_options(router, err);
}

bool mz_router_needs_sequences(const mz_router *router) {
    return router->kind == MZ_ROUTER_DEEPSPEED_TOP1 || router->kind == MZ_ROUTER_DEEPSPEED_TOP2 ||
           (router->by_modality && router->text_before_text);
}

/* Slots of an expert in all routings; of all experts with `expert` -1. */
static int64_t load_of(const mz_routing *routings, int n_routings, int32_t expert) {
    int64_t n = 0;
    for (int i = 0; i < n_routings; i++) {
        const int32_t *offsets = routings[i].expert_offsets;
        n += expert < 0 ? offsets[routings[i].n_experts] : offsets[expert + 1] - offsets[expert];
    }
    return n;
}

void mz_router_balance_bias(float *bias, int32_t n_experts, const mz_routing *routings,
                            int n_routings, float step) {
    const int64_t all = load_of(routings, n_routings, -1);
    for (int32_t e = 0; e < n_experts; e++) {
        const int64_t load = load_of(routings, n_routings, e) * n_experts; /* exact */
        bias[e] += load < all ? step : load > all ? -step : 0.0f;
    }
}
