#include "core/ops/cpu/cpu_rows_backward.h"

#include <string.h>

#include "core/ops/cpu/rows_internal.h"
#include "core/threads.h"

/* Rows whose part of a sum over rows is made by one thread: short enough for an f32 sum, long
 * enough that the partial sums are little beside the rows. */
enum { SUM_ROWS = 32 };

/* Columns whose partial sums are added at a time. */
enum { SUM_COLS = 64 };

/* Exponential and division cost about as much as this many additions with their memory traffic. */
enum { EXP_COST = 4 };

/* Values that are worth another thread's while, and parts a thread of a gather. */
enum { GATHER_WORK = 16384, GATHER_PARTS = 4 };

/* The arguments of a backward, shared by the threads; each op uses what it needs. */
typedef struct backward_job {
    const mz_row_kernels *kernels;
    const mz_tensor *d_a, *d_b; /* gradients to add to; NULL: not wanted */
    const mz_tensor *d_y, *a, *b;
    const mz_norm *norm;
    const mz_tensor *d_vectors[2]; /* of a norm's weight and bias; NULL: not wanted */
    int64_t n_sums;                /* their elements */
    float *partial;                /* [chunks of SUM_ROWS, n_sums] weight, then bias */
    float scale;
    mz_activation activation;
    const mz_rope_table *table;
    const int32_t *index;
} backward_job;

static const mz_tensor *wanted(const mz_tensor *gradient) {
    return mz_gradient_wanted(gradient) ? gradient : NULL;
}

static float *row_or_null(const mz_tensor *t, int64_t row) {
    return t != NULL ? mz_tensor_f32(t, row) : NULL;
}

static int64_t n_sum_chunks(int64_t n_rows) {
    return n_rows / SUM_ROWS + (n_rows % SUM_ROWS != 0);
}

size_t mz_cpu_norm_backward_scratch(int64_t n_rows, int64_t n_sums) {
    return (size_t)n_sum_chunks(n_rows) * (size_t)n_sums * sizeof(float);
}

static int64_t n_elements_or_0(const mz_tensor *t) {
    return t != NULL ? mz_tensor_n_elements(t) : 0;
}

/* The groups of one row; `sums` is the chunk's part of `partial`. */
static void norm_row_backward(const backward_job *job, int64_t t, float *sums) {
    const int64_t width = job->a->shape[1];
    const int64_t n = job->norm->group > 0 ? job->norm->group : width;
    const int64_t n_weights = n_elements_or_0(job->d_vectors[0]);
    for (int64_t i = 0; i < width; i += n) {
        const mz_norm_row row = {job->norm, mz_cpu_norm_vector(&job->norm->weight, i),
                                 mz_cpu_norm_vector(&job->norm->bias, i)};
        mz_norm_row_gradient d = {.y = mz_tensor_f32(job->d_y, t) + i};
        if (job->d_a != NULL) {
            d.x = mz_tensor_f32(job->d_a, t) + i;
        }
        if (job->d_vectors[0] != NULL) {
            d.weight = sums + (i < n_weights ? i : 0);
        }
        if (job->d_vectors[1] != NULL) {
            d.bias = sums + n_weights + (i < n_elements_or_0(job->d_vectors[1]) ? i : 0);
        }
        job->kernels->norm_backward(&d, mz_tensor_f32(job->a, t) + i, &row, n);
    }
}

/* Chunks of SUM_ROWS rows, each with a partial sum of its own. */
static void norm_task(void *arg, int64_t begin, int64_t end, int thread) {
    const backward_job *job = arg;
    (void)thread;
    const int64_t n_rows = job->a->shape[0];
    for (int64_t c = begin; c < end; c++) {
        float *sums = job->partial != NULL ? job->partial + c * job->n_sums : NULL;
        if (sums != NULL) {
            memset(sums, 0, (size_t)job->n_sums * sizeof(float));
        }
        const int64_t first = c * SUM_ROWS;
        const int64_t stop = n_rows - first < SUM_ROWS ? n_rows : first + SUM_ROWS;
        for (int64_t t = first; t < stop; t++) {
            norm_row_backward(job, t, sums);
        }
    }
}

/* The element of d_weight or d_bias that sum i is for. */
static float *sum_target(const backward_job *job, int64_t i) {
    const int64_t n_weights = n_elements_or_0(job->d_vectors[0]);
    const int vector = i < n_weights ? 0 : 1;
    return (float *)job->d_vectors[vector]->data + (vector == 0 ? i : i - n_weights);
}

/* Blocks of SUM_COLS sums: partial sums in the order of their rows, in f64. */
static void sum_partial_task(void *arg, int64_t begin, int64_t end, int thread) {
    const backward_job *job = arg;
    (void)thread;
    const int64_t n_chunks = n_sum_chunks(job->a->shape[0]);
    for (int64_t block = begin; block < end; block++) {
        double sums[SUM_COLS] = {0};
        const int64_t first = block * SUM_COLS;
        const int64_t n = job->n_sums - first < SUM_COLS ? job->n_sums - first : SUM_COLS;
        for (int64_t c = 0; c < n_chunks; c++) {
            const float *partial = job->partial + c * job->n_sums + first;
            for (int64_t i = 0; i < n; i++) {
                sums[i] += (double)partial[i];
            }
        }
        for (int64_t i = 0; i < n; i++) {
            float *target = sum_target(job, first + i);
            *target = (float)((double)*target + sums[i]);
        }
    }
}

mz_status mz_cpu_norm_backward(mz_stream *s, const mz_norm_gradient *d, const mz_tensor *d_y,
                               const mz_tensor *x, const mz_norm *norm) {
    backward_job job = {.kernels = mz_row_kernels_for(s->ctx->isa),
                        .d_a = wanted(&d->x),
                        .d_vectors = {wanted(&d->weight), wanted(&d->bias)},
                        .d_y = d_y,
                        .a = x,
                        .norm = norm};
    const int64_t n_chunks = n_sum_chunks(x->shape[0]);
    const size_t mark = mz_arena_mark(&s->arena);
    job.n_sums = n_elements_or_0(job.d_vectors[0]) + n_elements_or_0(job.d_vectors[1]);
    if (job.n_sums > 0) {
        void *partial = NULL;
        MZ_TRY(mz_stream_take_bytes(s, mz_cpu_norm_backward_scratch(x->shape[0], job.n_sums),
                                    "norm backward", &partial));
        job.partial = partial;
    }
    if (job.d_a != NULL || job.n_sums > 0) {
        mz_cpu_run_rows(s, n_chunks, SUM_ROWS * x->shape[1], norm_task, &job);
    }
    if (job.n_sums > 0) {
        const int64_t n_blocks = job.n_sums / SUM_COLS + (job.n_sums % SUM_COLS != 0);
        mz_cpu_run_rows(s, n_blocks, SUM_COLS * n_chunks, sum_partial_task, &job);
    }
    mz_arena_release(&s->arena, mark);
    return MZ_OK;
}

static void rope_task(void *arg, int64_t begin, int64_t end, int thread) {
    const backward_job *job = arg;
    (void)thread;
    const int64_t half = job->table->half_dim;
    const int64_t n_heads = job->d_y->shape[1] / mz_rope_head_dim(job->table);
    for (int64_t t = begin; t < end; t++) {
        const int64_t angle = job->index[t] * half;
        job->kernels->rope_backward(mz_tensor_f32(job->d_a, t), mz_tensor_f32(job->d_y, t),
                                    job->table->cos + angle, job->table->sin + angle, job->table,
                                    n_heads);
    }
}

mz_status mz_cpu_rope_backward(mz_stream *s, const mz_tensor *d_x, const mz_tensor *d_y,
                               const mz_rope_table *table, const mz_rows *rows) {
    if (!mz_gradient_wanted(d_x)) {
        return MZ_OK;
    }
    backward_job job = {.kernels = mz_row_kernels_for(s->ctx->isa),
                        .d_a = d_x,
                        .d_y = d_y,
                        .table = table,
                        .index = rows->position};
    mz_cpu_run_rows(s, rows->n_rows, d_y->shape[1], rope_task, &job);
    return MZ_OK;
}

static void softmax_task(void *arg, int64_t begin, int64_t end, int thread) {
    const backward_job *job = arg;
    (void)thread;
    for (int64_t t = begin; t < end; t++) {
        job->kernels->softmax_backward(mz_tensor_f32(job->d_a, t), mz_tensor_f32(job->d_y, t),
                                       mz_tensor_f32(job->a, t), job->a->shape[1]);
    }
}

mz_status mz_cpu_softmax_backward(mz_stream *s, const mz_tensor *d_x, const mz_tensor *d_y,
                                  const mz_tensor *y) {
    if (!mz_gradient_wanted(d_x)) {
        return MZ_OK;
    }
    backward_job job = {.kernels = mz_row_kernels_for(s->ctx->isa), .d_a = d_x, .d_y = d_y, .a = y};
    mz_cpu_run_rows(s, y->shape[0], y->shape[1], softmax_task, &job);
    return MZ_OK;
}

static void gated_activation_task(void *arg, int64_t begin, int64_t end, int thread) {
    const backward_job *job = arg;
    (void)thread;
    for (int64_t t = begin; t < end; t++) {
        const mz_activation_gradient d = {row_or_null(job->d_a, t), row_or_null(job->d_b, t),
                                          mz_tensor_f32(job->d_y, t)};
        job->kernels->activate_backward(&d, mz_tensor_f32(job->a, t), row_or_null(job->b, t),
                                        job->a->shape[1], job->activation);
    }
}

mz_status mz_cpu_gated_activation_backward(mz_stream *s, const mz_gated_gradient *d,
                                           const mz_tensor *d_y, const mz_tensor *gate,
                                           const mz_tensor *up, mz_activation activation) {
    backward_job job = {.kernels = mz_row_kernels_for(s->ctx->isa),
                        .d_a = wanted(&d->gate),
                        .d_b = up != NULL ? wanted(&d->up) : NULL,
                        .d_y = d_y,
                        .a = gate,
                        .b = up,
                        .activation = activation};
    if (job.d_a != NULL || job.d_b != NULL) {
        mz_cpu_run_rows(s, gate->shape[0], gate->shape[1] * EXP_COST, gated_activation_task, &job);
    }
    return MZ_OK;
}

static void accumulate_task(void *arg, int64_t begin, int64_t end, int thread) {
    const backward_job *job = arg;
    (void)thread;
    for (int64_t t = begin; t < end; t++) {
        job->kernels->add_scaled(mz_tensor_f32(job->d_a, t), job->scale, mz_tensor_f32(job->d_y, t),
                                 job->d_y->shape[1]);
    }
}

mz_status mz_cpu_accumulate(mz_stream *s, const mz_tensor *d_x, const mz_tensor *d_y, float scale) {
    if (!mz_gradient_wanted(d_x)) {
        return MZ_OK;
    }
    backward_job job = {
        .kernels = mz_row_kernels_for(s->ctx->isa), .d_a = d_x, .d_y = d_y, .scale = scale};
    mz_cpu_run_rows(s, d_y->shape[0], d_y->shape[1], accumulate_task, &job);
    return MZ_OK;
}

/* Rows [begin, end) of d_x: each part looks through all indices, which is little beside the rows
 * that they name. */
static void gather_task(void *arg, int64_t begin, int64_t end, int thread) {
    const backward_job *job = arg;
    (void)thread;
    for (int64_t i = 0; i < job->d_y->shape[0]; i++) {
        const int64_t row = job->index[i];
        if (row >= begin && row < end) {
            job->kernels->add_scaled(mz_tensor_f32(job->d_a, row), job->scale,
                                     mz_tensor_f32(job->d_y, i), job->d_y->shape[1]);
        }
    }
}

mz_status mz_cpu_gather_rows_backward(mz_stream *s, const mz_tensor *d_x, const mz_tensor *d_y,
                                      const int32_t *rows, float scale) {
    if (!mz_gradient_wanted(d_x)) {
        return MZ_OK;
    }
    backward_job job = {.kernels = mz_row_kernels_for(s->ctx->isa),
                        .d_a = d_x,
                        .d_y = d_y,
                        .index = rows,
                        .scale = scale};
    if (rows == NULL) {
        return mz_cpu_accumulate(s, d_x, d_y, scale);
    }
    const int64_t n_threads = mz_pool_n_threads(s->ctx->pool);
    const int64_t most = n_threads > 1 ? n_threads * GATHER_PARTS : 1;
    const int64_t worth = 1 + mz_tensor_n_elements(d_y) / GATHER_WORK;
    const int64_t n_parts = worth < most ? worth : most;
    const int64_t n_rows = d_x->shape[0];
    mz_pool_run(s->ctx->pool, n_rows, 1 + n_rows / n_parts, gather_task, &job);
    return MZ_OK;
}
