#include <math.h>

#include "core/ops/plain_experts.h"
#include "core/ops/reference/reference_ops.h"
#include "core/ops/routing_rules.h"

/* The best expert not yet chosen: largest score, ties to the lower id, NaN after every number. */
static int32_t best_of(const float *logits, int32_t n_experts, const int32_t *chosen,
                       int32_t n_chosen) {
    int32_t best = -1;
    for (int32_t e = 0; e < n_experts; e++) {
        bool taken = false;
        for (int32_t k = 0; k < n_chosen; k++) {
            taken = taken || chosen[k] == e;
        }
        if (!taken &&
            (best < 0 || logits[e] > logits[best] || (isnan(logits[best]) && !isnan(logits[e])))) {
            best = e;
        }
    }
    return best;
}

/* Softmax probability of each chosen expert, over all experts or over the chosen, times the scale;
 * NaN logits count as -inf, a row of only those gives zeros. */
static void softmax_weights(float *weights, const mz_router *router, const int32_t *ids,
                            const float *logits) {
    const double scale = router->scale != 0 ? (double)router->scale : 1;
    const int32_t n_experts = router->n_experts;
    const int32_t n_sum = router->renormalise ? router->top_k : n_experts;
    double max = -INFINITY;
    double sum = 0;
    for (int32_t e = 0; e < n_experts; e++) {
        max = fmax(max, (double)logits[e]); /* fmax passes over NaN */
    }
    for (int32_t i = 0; i < n_sum && max > -INFINITY; i++) {
        const double logit = logits[router->renormalise ? ids[i] : i];
        sum += isnan(logit) ? 0 : exp(logit - max);
    }
    for (int32_t k = 0; k < router->top_k; k++) {
        const double logit = logits[ids[k]];
        const bool counts = max > -INFINITY && !isnan(logit);
        weights[k] = counts ? (float)(scale * exp(logit - max) / sum) : 0.0f;
    }
}

mz_status mz_ref_route(mz_stream *s, const mz_router *router, const mz_routing *routing) {
    (void)s;
    for (int64_t t = 0; t < routing->n_tokens; t++) {
        if (!mz_route_is_simple(router)) {
            mz_route_token(router, routing, t);
            continue;
        }
        const float *logits = mz_tensor_f32(&routing->logits, t);
        int32_t *ids = routing->expert_ids + t * router->top_k;
        for (int32_t k = 0; k < router->top_k; k++) {
            ids[k] = best_of(logits, router->n_experts, ids, k);
        }
        softmax_weights(routing->gate_weights + t * router->top_k, router, ids, logits);
    }
    if (mz_route_has_capacity(router)) {
        mz_route_places(router, routing);
    }
    return MZ_OK;
}

mz_status mz_ref_dispatch(mz_stream *s, const mz_routing *routing) {
    (void)s;
    const int64_t n_slots = routing->n_tokens * routing->top_k;
    int32_t row = 0;
    for (int64_t j = 0; j < n_slots; j++) {
        routing->slot_row[j] = -1;
    }
    for (int32_t e = 0; e < routing->n_experts; e++) {
        routing->expert_offsets[e] = row;
        for (int64_t j = 0; j < n_slots; j++) {
            if (routing->expert_ids[j] == e) {
                routing->row_index[row] = (int32_t)j;
                routing->slot_row[j] = row++;
            }
        }
    }
    routing->expert_offsets[routing->n_experts] = row;
    return MZ_OK;
}

mz_status mz_ref_combine(mz_stream *s, const mz_tensor *y, const mz_tensor *expert_out,
                         const mz_routing *routing, const mz_tensor *shared_out,
                         const mz_tensor *shared_logit) {
    (void)s;
    for (int64_t t = 0; t < routing->n_tokens; t++) {
        for (int64_t i = 0; i < y->shape[1]; i++) {
            double sum = 0;
            for (int32_t k = 0; k < routing->top_k; k++) {
                const int64_t j = t * routing->top_k + k;
                if (routing->slot_row[j] < 0) {
                    continue;
                }
                sum += (double)routing->gate_weights[j] *
                       (double)mz_tensor_f32(expert_out, routing->slot_row[j])[i];
            }
            if (shared_out != NULL) {
                const double gate =
                    shared_logit != NULL
                        ? 1.0 / (1.0 + exp(-(double)mz_tensor_f32(shared_logit, t)[0]))
                        : 1.0;
                sum += gate * (double)mz_tensor_f32(shared_out, t)[i];
            }
            mz_tensor_f32(y, t)[i] = (float)sum;
        }
    }
    return MZ_OK;
}

mz_status mz_ref_mask_logits(mz_stream *s, const mz_tensor *logits, const mz_tensor *in,
                             const mz_router *router, const mz_rows *rows) {
    const int64_t bad = mz_mask_logits_rows(logits, in, router, rows, 0, logits->shape[0]);
    return bad < 0
               ? MZ_OK
               : mz_fail(&s->ctx->error, MZ_ERR_ARG,
                         "mask_logits: row %lld is of modality %d, for which there is no router",
                         (long long)bad, (int)mz_route_modality(router, rows, bad));
}

mz_status mz_ref_plain_experts(mz_stream *s, const mz_tensor *expert_out, const mz_tensor *x,
                               const mz_plain_experts *plain, const mz_routing *routing) {
    (void)s;
    for (int64_t t = 0; t < routing->n_tokens; t++) {
        mz_plain_experts_token(expert_out, x, plain, routing, t);
    }
    return MZ_OK;
}
