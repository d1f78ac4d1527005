#include <math.h>
#include <string.h>

#include "core/ops/cpu/cpu_rows.h"
#include "core/ops/cpu/rows_internal.h"
#include "core/ops/plain_experts.h"
#include "core/ops/routing_rules.h"

typedef struct route_job {
    const mz_row_kernels *kernels;
    const mz_router *router;
    const mz_routing *routing;
} route_job;

/* Whether a logit beats another one; experts are offered in ascending order, so that equal ones
 * keep the lower id. */
static bool beats(float a, float b) {
    return a > b || (isnan(b) && !isnan(a));
}

/* Insertion into the list of the best so far: top_k is small beside n_experts. */
static void select_experts(int32_t *ids, int32_t top_k, const float *logits, int32_t n_experts) {
    int32_t n = 0;
    for (int32_t e = 0; e < n_experts; e++) {
        if (n == top_k && !beats(logits[e], logits[ids[n - 1]])) {
            continue;
        }
        int32_t at = n < top_k ? n++ : n - 1;
        for (; at > 0 && beats(logits[e], logits[ids[at - 1]]); at--) {
            ids[at] = ids[at - 1];
        }
        ids[at] = e;
    }
}

static double sum_of(const float *x, int32_t n) {
    double sum = 0;
    for (int32_t i = 0; i < n; i++) {
        sum += (double)x[i];
    }
    return sum;
}

/* The simple kind. */
static void route_task(void *arg, int64_t begin, int64_t end, int thread) {
    const route_job *job = arg;
    (void)thread;
    const int32_t top_k = job->router->top_k;
    const double scale = job->router->scale != 0 ? (double)job->router->scale : 1;
    for (int64_t t = begin; t < end; t++) {
        const float *logits = mz_tensor_f32(&job->routing->logits, t);
        int32_t *ids = job->routing->expert_ids + t * top_k;
        float *weights = job->routing->gate_weights + t * top_k;
        float max = 0;
        select_experts(ids, top_k, logits, job->router->n_experts);
        const double sum = job->kernels->exp_sum(logits, job->router->n_experts, &max);
        for (int32_t k = 0; k < top_k; k++) {
            const float logit = logits[ids[k]];
            weights[k] = isnan(logit) || max == -INFINITY ? -INFINITY : logit - max;
        }
        job->kernels->exp(weights, weights, top_k);
        const double divisor = job->router->renormalise ? sum_of(weights, top_k) : sum;
        for (int32_t k = 0; k < top_k; k++) {
            weights[k] = weights[k] == 0.0f ? 0.0f : (float)(scale * (double)weights[k] / divisor);
        }
    }
}

static void route_by_rules_task(void *arg, int64_t begin, int64_t end, int thread) {
    const route_job *job = arg;
    (void)thread;
    for (int64_t t = begin; t < end; t++) {
        mz_route_token(job->router, job->routing, t);
    }
}

mz_status mz_cpu_route(mz_stream *s, const mz_router *router, const mz_routing *routing) {
    route_job job = {
        .kernels = mz_row_kernels_for(s->ctx->isa), .router = router, .routing = routing};
    const int64_t work = 8 * ((int64_t)router->n_experts + 8 * (int64_t)router->top_k);
    const bool is_simple = mz_route_is_simple(router);
    mz_cpu_run_rows(s, routing->n_tokens, work, is_simple ? route_task : route_by_rules_task, &job);
    if (mz_route_has_capacity(router)) {
        mz_route_places(router, routing); /* serial: places are given in order */
    }
    return MZ_OK;
}

/* Serial: a few microseconds for a thousand slots. expert_offsets[e + 1] first counts, then is the
 * place of the next slot of expert e, and ends as the end of e, which is what it must hold. */
mz_status mz_cpu_dispatch(mz_stream *s, const mz_routing *routing) {
    (void)s;
    const int64_t n_slots = routing->n_tokens * routing->top_k;
    const int32_t n_experts = routing->n_experts;
    int32_t *offsets = routing->expert_offsets;
    memset(offsets, 0, ((size_t)n_experts + 1) * sizeof *offsets);
    for (int64_t j = 0; j < n_slots; j++) {
        if (routing->expert_ids[j] >= 0) {
            offsets[routing->expert_ids[j] + 1]++;
        }
    }
    int32_t begin = 0;
    for (int32_t e = 0; e < n_experts; e++) {
        const int32_t count = offsets[e + 1];
        offsets[e + 1] = begin;
        begin += count;
    }
    for (int64_t j = 0; j < n_slots; j++) {
        if (routing->expert_ids[j] < 0) {
            routing->slot_row[j] = -1;
            continue;
        }
        const int32_t row = offsets[routing->expert_ids[j] + 1]++;
        routing->row_index[row] = (int32_t)j;
        routing->slot_row[j] = row;
    }
    return MZ_OK;
}

typedef struct combine_task_arg {
    const mz_row_kernels *kernels;
    mz_combine_job job;
} combine_task_arg;

static void combine_task(void *arg, int64_t begin, int64_t end, int thread) {
    const combine_task_arg *a = arg;
    (void)thread;
    for (int64_t t = begin; t < end; t++) {
        a->kernels->combine(&a->job, t);
    }
}

mz_status mz_cpu_combine(mz_stream *s, const mz_tensor *y, const mz_tensor *expert_out,
                         const mz_routing *routing, const mz_tensor *shared_out,
                         const mz_tensor *shared_logit) {
    combine_task_arg arg = {.kernels = mz_row_kernels_for(s->ctx->isa)};
    arg.job = (mz_combine_job){.y = y,
                               .expert_out = expert_out,
                               .shared_out = shared_out,
                               .shared_logit = shared_logit,
                               .routing = routing};
    mz_cpu_run_rows(s, routing->n_tokens, y->shape[1] * (routing->top_k + 1), combine_task, &arg);
    return MZ_OK;
}

/* Serial: a few values a row. */
mz_status mz_cpu_mask_logits(mz_stream *s, const mz_tensor *logits, const mz_tensor *in,
                             const mz_router *router, const mz_rows *rows) {
    const int64_t bad = mz_mask_logits_rows(logits, in, router, rows, 0, logits->shape[0]);
    return bad < 0
               ? MZ_OK
               : mz_fail(&s->ctx->error, MZ_ERR_ARG,
                         "mask_logits: row %lld is of modality %d, for which there is no router",
                         (long long)bad, (int)mz_route_modality(router, rows, bad));
}

typedef struct plain_job {
    const mz_tensor *expert_out, *x;
    const mz_plain_experts *plain;
    const mz_routing *routing;
} plain_job;

static void plain_task(void *arg, int64_t begin, int64_t end, int thread) {
    const plain_job *job = arg;
    (void)thread;
    for (int64_t t = begin; t < end; t++) {
        mz_plain_experts_token(job->expert_out, job->x, job->plain, job->routing, t);
    }
}

mz_status mz_cpu_plain_experts(mz_stream *s, const mz_tensor *expert_out, const mz_tensor *x,
                               const mz_plain_experts *plain, const mz_routing *routing) {
    plain_job job = {.expert_out = expert_out, .x = x, .plain = plain, .routing = routing};
    mz_cpu_run_rows(s, routing->n_tokens, x->shape[1] * routing->top_k, plain_task, &job);
    return MZ_OK;
}
