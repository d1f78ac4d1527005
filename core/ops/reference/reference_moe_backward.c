#include <math.h>

#include "core/ops/plain_experts.h"
#include "core/ops/reference/reference_ops.h"
#include "core/ops/routing_rules.h"

mz_status mz_ref_route_backward(mz_stream *s, const mz_tensor *d_logits,
                                const mz_tensor *d_gate_weights, const mz_router *router,
                                const mz_routing *routing) {
    (void)s;
    for (int64_t t = 0; t < routing->n_tokens && mz_gradient_wanted(d_logits); t++) {
        mz_route_token_backward(mz_tensor_f32(d_logits, t), mz_tensor_f32(d_gate_weights, t),
                                router, routing, t);
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
            if (row < 0) {
                continue;
            }
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
        const double sigmoid = shared_logit != NULL
                                   ? 1.0 / (1.0 + exp(-(double)mz_tensor_f32(shared_logit, t)[0]))
                                   : 1;
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

mz_status mz_ref_mask_logits_backward(mz_stream *s, const mz_tensor *d_in,
                                      const mz_tensor *d_logits, const mz_router *router,
                                      const mz_rows *rows) {
    (void)s;
    mz_mask_logits_rows_backward(d_in, d_logits, router, rows, 0, d_logits->shape[0]);
    return MZ_OK;
}

mz_status mz_ref_plain_experts_backward(mz_stream *s, const mz_plain_gradient *d,
                                        const mz_tensor *d_expert_out, const mz_tensor *x,
                                        const mz_plain_experts *plain, const mz_routing *routing) {
    (void)s;
    for (int64_t t = 0; t < routing->n_tokens && mz_gradient_wanted(&d->x); t++) {
        mz_plain_experts_token_backward(&d->x, d_expert_out, x, plain, routing, t);
    }
    for (int32_t i = 0; i < plain->n_constant; i++) {
        mz_constant_expert_backward(d, d_expert_out, x, plain, routing, i);
    }
    return MZ_OK;
}
