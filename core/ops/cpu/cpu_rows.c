#include "core/ops/cpu/cpu_rows.h"

#include <string.h>

#include "core/ops/cpu/rows_internal.h"
#include "core/threads.h"

/* Work below this many value operations is not worth handing to another thread (about 5 us). */
enum { CHUNK_WORK = 16384 };

/* Exponential and division cost about as much as this many additions with their memory traffic. */
enum { EXP_COST = 4 };

/* The arguments of a row op, shared by the threads; each op uses what it needs. */
typedef struct row_job {
    const mz_row_kernels *kernels;
    const mz_tensor *y, *a, *b;
    const float *weight;
    float eps, scale;
    const mz_rope_table *table;
    const int32_t *index;
} row_job;

const mz_row_kernels *mz_row_kernels_for(mz_isa isa) {
    return isa >= MZ_ISA_AVX512 ? &mz_row_kernels_avx512
           : isa == MZ_ISA_AVX2 ? &mz_row_kernels_avx2
                                : &mz_row_kernels_scalar;
}

void mz_cpu_run_rows(mz_stream *s, int64_t n_rows, int64_t width, mz_row_task task, void *arg) {
    const int64_t grain = width > 0 && width < CHUNK_WORK ? CHUNK_WORK / width : 1;
    mz_pool_run(s->ctx->pool, n_rows, grain, task, arg);
}

static void rms_norm_task(void *arg, int64_t begin, int64_t end, int thread) {
    const row_job *job = arg;
    (void)thread;
    for (int64_t t = begin; t < end; t++) {
        job->kernels->rms_norm(mz_tensor_f32(job->y, t), mz_tensor_f32(job->a, t), job->weight,
                               job->y->shape[1], job->eps);
    }
}

mz_status mz_cpu_rms_norm(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                          const mz_tensor *weight, float eps) {
    row_job job = {.kernels = mz_row_kernels_for(s->ctx->isa),
                   .y = y,
                   .a = x,
                   .weight = weight->data,
                   .eps = eps};
    mz_cpu_run_rows(s, y->shape[0], y->shape[1], rms_norm_task, &job);
    return MZ_OK;
}

static void rope_task(void *arg, int64_t begin, int64_t end, int thread) {
    const row_job *job = arg;
    (void)thread;
    const int64_t half = job->table->half_dim;
    const int64_t n_heads = job->y->shape[1] / (2 * half);
    for (int64_t t = begin; t < end; t++) {
        const int64_t angle = job->index[t] * half;
        job->kernels->rope(mz_tensor_f32(job->y, t), mz_tensor_f32(job->a, t),
                           job->table->cos + angle, job->table->sin + angle, n_heads, half);
    }
}

mz_status mz_cpu_rope(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                      const mz_rope_table *table, const mz_rows *rows) {
    row_job job = {.kernels = mz_row_kernels_for(s->ctx->isa),
                   .y = y,
                   .a = x,
                   .table = table,
                   .index = rows->position};
    mz_cpu_run_rows(s, rows->n_rows, y->shape[1], rope_task, &job);
    return MZ_OK;
}

static void softmax_task(void *arg, int64_t begin, int64_t end, int thread) {
    const row_job *job = arg;
    (void)thread;
    for (int64_t t = begin; t < end; t++) {
        job->kernels->softmax(mz_tensor_f32(job->y, t), mz_tensor_f32(job->a, t), job->y->shape[1]);
    }
}

mz_status mz_cpu_softmax(mz_stream *s, const mz_tensor *y, const mz_tensor *x) {
    row_job job = {.kernels = mz_row_kernels_for(s->ctx->isa), .y = y, .a = x};
    mz_cpu_run_rows(s, y->shape[0], y->shape[1] * EXP_COST, softmax_task, &job);
    return MZ_OK;
}

static void gated_activation_task(void *arg, int64_t begin, int64_t end, int thread) {
    const row_job *job = arg;
    (void)thread;
    for (int64_t t = begin; t < end; t++) {
        job->kernels->silu_mul(mz_tensor_f32(job->y, t), mz_tensor_f32(job->a, t),
                               mz_tensor_f32(job->b, t), job->y->shape[1]);
    }
}

mz_status mz_cpu_gated_activation(mz_stream *s, const mz_tensor *y, const mz_tensor *gate,
                                  const mz_tensor *up, mz_activation activation) {
    (void)activation; /* SiLU is the only one */
    row_job job = {.kernels = mz_row_kernels_for(s->ctx->isa), .y = y, .a = gate, .b = up};
    mz_cpu_run_rows(s, y->shape[0], y->shape[1] * EXP_COST, gated_activation_task, &job);
    return MZ_OK;
}

static void add_task(void *arg, int64_t begin, int64_t end, int thread) {
    const row_job *job = arg;
    (void)thread;
    for (int64_t t = begin; t < end; t++) {
        job->kernels->add(mz_tensor_f32(job->y, t), mz_tensor_f32(job->a, t),
                          mz_tensor_f32(job->b, t), job->scale, job->y->shape[1]);
    }
}

mz_status mz_cpu_add(mz_stream *s, const mz_tensor *y, const mz_tensor *a, const mz_tensor *b,
                     float scale) {
    row_job job = {
        .kernels = mz_row_kernels_for(s->ctx->isa), .y = y, .a = a, .b = b, .scale = scale};
    mz_cpu_run_rows(s, y->shape[0], y->shape[1], add_task, &job);
    return MZ_OK;
}

static void gather_task(void *arg, int64_t begin, int64_t end, int thread) {
    const row_job *job = arg;
    (void)thread;
    for (int64_t t = begin; t < end; t++) {
        memcpy(mz_tensor_f32(job->y, t), mz_tensor_f32(job->a, job->index[t]),
               (size_t)job->y->shape[1] * sizeof(float));
    }
}

mz_status mz_cpu_gather_rows(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                             const int32_t *rows) {
    row_job job = {.y = y, .a = x, .index = rows};
    mz_cpu_run_rows(s, y->shape[0], y->shape[1], gather_task, &job);
    return MZ_OK;
}
