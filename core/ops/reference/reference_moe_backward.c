#include <math.h>

#include "core/ops/reference/reference_ops.h"

/* What softmax divides exp(logit - *max) by; NaN logits count as -inf, a row of only those gives
 * 0. */
static double softmax_sum(const float *logits, int32_t n, double *max) {
    double sum = 0;
    *max = -INFINITY;
    for (int32_t e = 0; e < n; e++) {
        *max = fmax(*max, (double)logits[e]); /* fmax passes over NaN */
    }
    for (int32_t e = 0; e<n && * max> - INFINITY; e++) {
        sum += isnan(logits[e]) ? 0 : exp((double)logits[e] - *max);
    }
    return sum;
}

static void route_token(float *d_logits, const float *d_weights, const int32_t *ids,
                        const mz_router *router, const float *logits) {
    double max = 0;
    const double sum = softmax_sum(logits, router->n_experts, &max);
    double mean = 0; /* of the gradients, under p */
    for (int32_t e = 0; e < router->n_experts && sum > 0; e++) {
        for (int32_t k = 0; k < router->top_k; k++) {
            const bool chosen = ids[k] == e && !isnan(logits[e]);
            mean += chosen ? exp((double)logits[e] - max) / sum * (double)d_weights[k] : 0;
        }
    }
    for (int32_t e = 0; e < router->n_experts && sum > 0; e++) {
        double g = 0;
        for (int32_t k = 0; k < router->top_k; k++) {
            g = ids[k] == e ? (double)d_weights[k] : g;
        }
        if (!isnan(logits[e])) {
            mz_ref_add_to(&d_logits[e], exp((double)logits[e] - max) / sum * (g - mean));
        }
    }
}

mz_status mz_ref_route_backward(mz_stream *s, const mz_tensor *d_logits,
                                const mz_tensor *d_gate_weights, const mz_router *router,
                                const mz_routing *routing) {
    (void)s;
    for (int64_t t = 0; t < routing->n_tokens && mz_gradient_wanted(d_logits); t++) {
        route_token(mz_tensor_f32(d_logits, t), mz_tensor_f32(d_gate_weights, t),
                    routing->expert_ids + t * router->top_k, router,
                    mz_tensor_f32(&routing->logits, t));
    }
    return MZ_OK;
}

static double dot(const float *a, const float *b, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += (double)a[i] * (double)b[i];
    }
    return sum;
}

static void add_scaled(float *y, double scale, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        mz_ref_add_to(&y[i], scale * (double)x[i]);
    }
}

mz_status mz_ref_combine_backward(mz_stream *s, const mz_combine_gradient *d, const mz_tensor *d_y,
                                  const mz_tensor *expert_out, const mz_routing *routing,
                                  const mz_tensor *shared_out, const mz_tensor *shared_logit) {
    (void)s;
    const int64_t n = d_y->shape[1];
    for (int64_t t = 0; t < routing->n_tokens; t++) {
        const float *g = mz_tensor_f32(d_y, t);
        for (int32_t k = 0; k < routing->top_k; k++) {
            const int64_t j = t * routing->top_k + k;
            const int32_t row = routing->slot_row[j];
            if (mz_gradient_wanted(&d->expert_out)) {
                add_scaled(mz_tensor_f32(&d->expert_out, row), (double)routing->gate_weights[j], g,
                           n);
            }
            if (mz_gradient_wanted(&d->gate_weights)) {
                mz_ref_add_to(&mz_tensor_f32(&d->gate_weights, t)[k],
                              dot(g, mz_tensor_f32(expert_out, row), n));
            }
        }
        if (shared_out == NULL) {
            continue;
        }
        const double sigmoid = 1.0 / (1.0 + exp(-(double)mz_tensor_f32(shared_logit, t)[0]));
        if (mz_gradient_wanted(&d->shared_out)) {
            add_scaled(mz_tensor_f32(&d->shared_out, t), sigmoid, g, n);
        }
        if (mz_gradient_wanted(&d->shared_logit)) {
            mz_ref_add_to(mz_tensor_f32(&d->shared_logit, t),
                          dot(g, mz_tensor_f32(shared_out, t), n) * sigmoid * (1.0 - sigmoid));
        }
    }
    return MZ_OK;
}
