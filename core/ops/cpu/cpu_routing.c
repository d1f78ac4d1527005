#include <math.h>
#include <string.h>

#include "core/ops/cpu/cpu_rows.h"
#include "core/ops/cpu/rows_internal.h"

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

static void route_task(void *arg, int64_t begin, int64_t end, int thread) {
    const route_job *job = arg;
    (void)thread;
    const int32_t top_k = job->router->top_k;
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
        for (int32_t k = 0; k < top_k; k++) {
            weights[k] = weights[k] == 0.0f ? 0.0f : (float)(weights[k] / sum);
        }
    }
}

mz_status mz_cpu_route(mz_stream *s, const mz_router *router, const mz_routing *routing) {
    route_job job = {
        .kernels = mz_row_kernels_for(s->ctx->isa), .router = router, .routing = routing};
    const int64_t work = 8 * ((int64_t)router->n_experts + 8 * (int64_t)router->top_k);
    mz_cpu_run_rows(s, routing->n_tokens, work, route_task, &job);
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
        offsets[routing->expert_ids[j] + 1]++;
    }
    int32_t begin = 0;
    for (int32_t e = 0; e < n_experts; e++) {
        const int32_t count = offsets[e + 1];
        offsets[e + 1] = begin;
        begin += count;
    }
    for (int64_t j = 0; j < n_slots; j++) {
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
