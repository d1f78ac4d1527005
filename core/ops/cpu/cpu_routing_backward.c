#include <math.h>

#include "core/ops/cpu/cpu_rows_backward.h"
#include "core/ops/cpu/rows_internal.h"
#include "core/ops/plain_experts.h"
#include "core/ops/routing_rules.h"
#include "core/threads.h"

typedef struct route_job {
    const mz_row_kernels *kernels;
    const mz_tensor *d_logits, *d_gate_weights;
    const mz_router *router;
    const mz_routing *routing;
} route_job;

static void route_by_rules_task(void *arg, int64_t begin, int64_t end, int thread) {
    const route_job *job = arg;
    (void)thread;
    for (int64_t t = begin; t < end; t++) {
        mz_route_token_backward(mz_tensor_f32(job->d_logits, t),
                                mz_tensor_f32(job->d_gate_weights, t), job->router, job->routing,
                                t);
    }
}

/* The simple kind with weights as they are. */
static void route_task(void *arg, int64_t begin, int64_t end, int thread) {
    const route_job *job = arg;
    (void)thread;
    const int32_t top_k = job->router->top_k;
    for (int64_t t = begin; t < end; t++) {
        const float *logits = mz_tensor_f32(&job->routing->logits, t);
        const int32_t *ids = job->routing->expert_ids + t * top_k;
        const float *p = job->routing->gate_weights + t * top_k;
        const float *g = mz_tensor_f32(job->d_gate_weights, t);
        float *d_logits = mz_tensor_f32(job->d_logits, t);
        float max = 0;
        const double sum = job->kernels->exp_sum(logits, job->router->n_experts, &max);
        if (!(sum > 0)) {
            continue; /* only -inf and NaN: the weights are constant zeros */
        }
        double mean = 0; /* of the gradients, under p */
        for (int32_t k = 0; k < top_k; k++) {
            mean += (double)g[k] * (double)p[k];
            d_logits[ids[k]] += g[k] * p[k];
        }
        job->kernels->add_exp(d_logits, (float)(-mean / sum), logits, max, job->router->n_experts);
    }
}

mz_status mz_cpu_route_backward(mz_stream *s, const mz_tensor *d_logits,
                                const mz_tensor *d_gate_weights, const mz_router *router,
                                const mz_routing *routing) {
    if (!mz_gradient_wanted(d_logits)) {
        return MZ_OK;
    }
    route_job job = {.kernels = mz_row_kernels_for(s->ctx->isa),
                     .d_logits = d_logits,
                     .d_gate_weights = d_gate_weights,
                     .router = router,
                     .routing = routing};
    const int64_t work = 8 * ((int64_t)router->n_experts + (int64_t)router->top_k);
    const bool is_plain = mz_route_is_simple(router) && !router->renormalise && router->scale == 0;
    mz_cpu_run_rows(s, routing->n_tokens, work, is_plain ? route_task : route_by_rules_task, &job);
    return MZ_OK;
}

typedef struct combine_job {
    const mz_row_kernels *kernels;
    const mz_combine_gradient *d;
    const mz_tensor *d_y, *expert_out, *shared_out, *shared_logit;
    const mz_routing *routing;
} combine_job;

static void combine_slots(const combine_job *job, int64_t token) {
    const mz_combine_gradient *d = job->d;
    const float *d_y = mz_tensor_f32(job->d_y, token);
    const int64_t n = job->d_y->shape[1];
    const int32_t top_k = job->routing->top_k;
    for (int32_t k = 0; k < top_k; k++) {
        const int64_t slot = token * top_k + k;
        const int64_t row = job->routing->slot_row[slot];
        if (row < 0) {
            continue;
        }
        if (mz_gradient_wanted(&d->expert_out)) {
            job->kernels->add_scaled(mz_tensor_f32(&d->expert_out, row),
                                     job->routing->gate_weights[slot], d_y, n);
        }
        if (mz_gradient_wanted(&d->gate_weights)) {
            float *sum = mz_tensor_f32(&d->gate_weights, token) + k;
            *sum = (float)((double)*sum +
                           job->kernels->dot(d_y, mz_tensor_f32(job->expert_out, row), n));
        }
    }
}

static void combine_shared(const combine_job *job, int64_t token) {
    const mz_combine_gradient *d = job->d;
    const float *d_y = mz_tensor_f32(job->d_y, token);
    const int64_t n = job->d_y->shape[1];
    const bool gated = job->shared_logit != NULL;
    const double logit = gated ? (double)mz_tensor_f32(job->shared_logit, token)[0] : 0;
    const double sigmoid = gated ? 1.0 / (1.0 + exp(-logit)) : 1;
    if (mz_gradient_wanted(&d->shared_out)) {
        job->kernels->add_scaled(mz_tensor_f32(&d->shared_out, token), (float)sigmoid, d_y, n);
    }
    if (mz_gradient_wanted(&d->shared_logit)) {
        float *sum = mz_tensor_f32(&d->shared_logit, token);
        const double dot = job->kernels->dot(d_y, mz_tensor_f32(job->shared_out, token), n);
        *sum = (float)((double)*sum + dot * sigmoid * (1.0 - sigmoid));
    }
}

/* Tokens own their slots: no two write one row. */
static void combine_task(void *arg, int64_t begin, int64_t end, int thread) {
    const combine_job *job = arg;
    (void)thread;
    for (int64_t t = begin; t < end; t++) {
        combine_slots(job, t);
        if (job->shared_out != NULL) {
            combine_shared(job, t);
        }
    }
}

mz_status mz_cpu_combine_backward(mz_stream *s, const mz_combine_gradient *d, const mz_tensor *d_y,
                                  const mz_tensor *expert_out, const mz_routing *routing,
                                  const mz_tensor *shared_out, const mz_tensor *shared_logit) {
    combine_job job = {.kernels = mz_row_kernels_for(s->ctx->isa),
                       .d = d,
                       .d_y = d_y,
                       .expert_out = expert_out,
                       .shared_out = shared_out,
                       .shared_logit = shared_logit,
                       .routing = routing};
    mz_cpu_run_rows(s, routing->n_tokens, 2 * d_y->shape[1] * (routing->top_k + 1), combine_task,
                    &job);
    return MZ_OK;
}

mz_status mz_cpu_mask_logits_backward(mz_stream *s, const mz_tensor *d_in,
                                      const mz_tensor *d_logits, const mz_router *router,
                                      const mz_rows *rows) {
    (void)s;
    mz_mask_logits_rows_backward(d_in, d_logits, router, rows, 0, d_logits->shape[0]);
    return MZ_OK;
}

typedef struct plain_job {
    const mz_plain_gradient *d;
    const mz_tensor *d_expert_out, *x;
    const mz_plain_experts *plain;
    const mz_routing *routing;
} plain_job;

static void plain_token_task(void *arg, int64_t begin, int64_t end, int thread) {
    const plain_job *job = arg;
    (void)thread;
    for (int64_t t = begin; t < end; t++) {
        mz_plain_experts_token_backward(&job->d->x, job->d_expert_out, job->x, job->plain,
                                        job->routing, t);
    }
}

static void constant_task(void *arg, int64_t begin, int64_t end, int thread) {
    const plain_job *job = arg;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        mz_constant_expert_backward(job->d, job->d_expert_out, job->x, job->plain, job->routing,
                                    (int32_t)i);
    }
}

/* Tokens own their rows of d->x, constant experts their gradients. */
mz_status mz_cpu_plain_experts_backward(mz_stream *s, const mz_plain_gradient *d,
                                        const mz_tensor *d_expert_out, const mz_tensor *x,
                                        const mz_plain_experts *plain, const mz_routing *routing) {
    plain_job job = {
        .d = d, .d_expert_out = d_expert_out, .x = x, .plain = plain, .routing = routing};
    if (mz_gradient_wanted(&d->x)) {
        mz_cpu_run_rows(s, routing->n_tokens, x->shape[1] * routing->top_k, plain_token_task, &job);
    }
    mz_pool_run(s->ctx->pool, plain->n_constant, 1, constant_task, &job);
    return MZ_OK;
}
