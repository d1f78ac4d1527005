#include "core/ops/cpu/cpu_rows.h"

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
    const mz_norm *norm;
    float scale;
    mz_activation activation;
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

const float *mz_cpu_norm_vector(const mz_tensor *vector, int64_t begin) {
    if (vector->n_dims == 0) {
        return NULL;
    }
    return (const float *)vector->data + (begin < vector->shape[0] ? begin : 0);
}

static void norm_task(void *arg, int64_t begin, int64_t end, int thread) {
    const row_job *job = arg;
    (void)thread;
    const int64_t width = job->y->shape[1];
    const int64_t n = job->norm->group > 0 ? job->norm->group : width;
    for (int64_t t = begin; t < end; t++) {
        for (int64_t i = 0; i < width; i += n) {
            const mz_norm_row row = {job->norm, mz_cpu_norm_vector(&job->norm->weight, i),
                                     mz_cpu_norm_vector(&job->norm->bias, i)};
            job->kernels->norm(mz_tensor_f32(job->y, t) + i, mz_tensor_f32(job->a, t) + i, &row, n);
        }
    }
}

mz_status mz_cpu_norm(mz_stream *s, const mz_tensor *y, const mz_tensor *x, const mz_norm *norm) {
    row_job job = {.kernels = mz_row_kernels_for(s->ctx->isa), .y = y, .a = x, .norm = norm};
    mz_cpu_run_rows(s, y->shape[0], y->shape[1], norm_task, &job);
    return MZ_OK;
}

static void rope_task(void *arg, int64_t begin, int64_t end, int thread) {
    const row_job *job = arg;
    (void)thread;
    const int64_t half = job->table->half_dim;
    const int64_t n_heads = job->y->shape[1] / mz_rope_head_dim(job->table);
    for (int64_t t = begin; t < end; t++) {
        const int64_t angle = job->index[t] * half;
        job->kernels->rope(mz_tensor_f32(job->y, t), mz_tensor_f32(job->a, t),
                           job->table->cos + angle, job->table->sin + angle, job->table, n_heads);
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
        job->kernels->activate(mz_tensor_f32(job->y, t), mz_tensor_f32(job->a, t),
                               job->b != NULL ? mz_tensor_f32(job->b, t) : NULL, job->y->shape[1],
                               job->activation);
    }
}

mz_status mz_cpu_gated_activation(mz_stream *s, const mz_tensor *y, const mz_tensor *gate,
                                  const mz_tensor *up, mz_activation activation) {
    row_job job = {.kernels = mz_row_kernels_for(s->ctx->isa),
                   .y = y,
                   .a = gate,
                   .b = up,
                   .activation = activation};
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
    const int64_t width = job->y->shape[1];
    for (int64_t t = begin; t < end; t++) {
        float *y = mz_tensor_f32(job->y, t);
        const int64_t row = job->index != NULL ? job->index[t] : t;
        mz_dtype_get(job->a->dtype)->to_f32(y, mz_tensor_row(job->a, row), width);
        for (int64_t i = 0; i < width && job->scale != 1.0f; i++) {
            y[i] *= job->scale;
        }
    }
}

mz_status mz_cpu_gather_rows(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                             const int32_t *rows, float scale) {
    row_job job = {.y = y, .a = x, .index = rows, .scale = scale};
    mz_cpu_run_rows(s, y->shape[0], y->shape[1], gather_task, &job);
    return MZ_OK;
}
