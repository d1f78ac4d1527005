#include "experts/router.h"

static const mz_router_kind_info kinds[] = {
    {MZ_ROUTER_SOFTMAX_TOPK, "softmax-topk",
     "logits (the order of their softmax), ties to the lower id",
     "softmax over all experts, as it is", false, false},
};

const mz_router_kind_info *mz_router_kind_get(mz_router_kind kind) {
    return &kinds[kind];
}

mz_status mz_router_validate(const mz_router *router, mz_error *err) {
    if (router->n_experts < 1 || router->n_experts > MZ_MAX_EXPERTS) {
        return mz_fail(err, MZ_ERR_LIMIT, "%d experts, expected 1 to %d", router->n_experts,
                       (int)MZ_MAX_EXPERTS);
    }
    if (router->top_k < 1 || router->top_k > router->n_experts) {
        return mz_fail(err, MZ_ERR_ARG, "%d experts per token, expected 1 to %d", router->top_k,
                       router->n_experts);
    }
    return MZ_OK;
}
