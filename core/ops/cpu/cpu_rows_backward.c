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
    const float *weight;
    float *partial; /* [chunks of SUM_ROWS, width], NULL: no sum over rows is wanted */
    float eps, scale;
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

size_t mz_cpu_rms_norm_backward_scratch(int64_t n_rows, int64_t width) {
    return (size_t)n_sum_chunks(n_rows) * (size_t)width * sizeof(float);
}

/* Chunks of SUM_ROWS rows, each with a partial sum of its own. */
static void rms_norm_task(void *arg, int64_t begin, int64_t end, int thread) {
    const backward_job *job = arg;
    (void)thread;
    const int64_t n_rows = job->a->shape[0];
    const int64_t width = job->a->shape[1];
    for (int64_t c = begin; c < end; c++) {
        mz_rms_norm_gradient d = {0};
        if (job->partial != NULL) {
            d.weight = job->partial + c * width;
            memset(d.weight, 0, (size_t)width * sizeof(float));
        }
        const int64_t first = c * SUM_ROWS;
        const int64_t stop = n_rows - first < SUM_ROWS ? n_rows : first + SUM_ROWS;
        for (int64_t t = first; t < stop; t++) {
            d.x = row_or_null(job->d_a, t);
            d.y = mz_tensor_f32(job->d_y, t);
            job->kernels->rms_norm_backward(&d, mz_tensor_f32(job->a, t), job->weight, width,
                                            job->eps);
        }
    }
}

/* Blocks of SUM_COLS columns: partial sums in the order of their rows, in f64. */
static void sum_partial_task(void *arg, int64_t begin, int64_t end, int thread) {
    const backward_job *job = arg;
    (void)thread;
    const int64_t n_chunks = n_sum_chunks(job->a->shape[0]);
    const int64_t width = job->a->shape[1];
    float *d_weight = job->d_b->data;
    for (int64_t block = begin; block < end; block++) {
        double sums[SUM_COLS] = {0};
        const int64_t first = block * SUM_COLS;
        const int64_t n = width - first < SUM_COLS ? width - first : SUM_COLS;
        for (int64_t c = 0; c < n_chunks; c++) {
            const float *partial = job->partial + c * width + first;
            for (int64_t i = 0; i < n; i++) {
                sums[i] += (double)partial[i];
            }
        }
        for (int64_t i = 0; i < n; i++) {
            d_weight[first + i] = (float)((double)d_weight[first + i] + sums[i]);
        }
    }
}

mz_status mz_cpu_rms_norm_backward(mz_stream *s, const mz_tensor *d_x, const mz_tensor *d_weight,
                                   const mz_tensor *d_y, const mz_tensor *x,
                                   const mz_tensor *weight, float eps) {
    backward_job job = {.kernels = mz_row_kernels_for(s->ctx->isa),
                        .d_a = wanted(d_x),
                        .d_b = wanted(d_weight),
                        .d_y = d_y,
                        .a = x,
                        .weight = weight->data,
                        .eps = eps};
    const int64_t width = x->shape[1];
    const int64_t n_chunks = n_sum_chunks(x->shape[0]);
    const size_t mark = mz_arena_mark(&s->arena);
    if (job.d_b != NULL) {
        void *partial = NULL;
        MZ_TRY(mz_stream_take_bytes(s, mz_cpu_rms_norm_backward_scratch(x->shape[0], width),
                                    "rms_norm backward", &partial));
        job.partial = partial;
    }
    if (job.d_a != NULL || job.d_b != NULL) {
        mz_cpu_run_rows(s, n_chunks, SUM_ROWS * width, rms_norm_task, &job);
    }
    if (job.d_b != NULL) {
        const int64_t n_blocks = width / SUM_COLS + (width % SUM_COLS != 0);
        mz_cpu_run_rows(s, n_blocks, SUM_COLS * n_chunks, sum_partial_task, &job);
    }
    mz_arena_release(&s->arena, mark);
    return MZ_OK;
}

static void rope_task(void *arg, int64_t begin, int64_t end, int thread) {
    const backward_job *job = arg;
    (void)thread;
    const int64_t half = job->table->half_dim;
    const int64_t n_heads = job->d_y->shape[1] / (2 * half);
    for (int64_t t = begin; t < end; t++) {
        const int64_t angle = job->index[t] * half;
        job->kernels->rope_backward(mz_tensor_f32(job->d_a, t), mz_tensor_f32(job->d_y, t),
                                    job->table->cos + angle, job->table->sin + angle, n_heads,
                                    half);
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
        job->kernels->silu_mul_backward(row_or_null(job->d_a, t), row_or_null(job->d_b, t),
                                        mz_tensor_f32(job->d_y, t), mz_tensor_f32(job->a, t),
                                        mz_tensor_f32(job->b, t), job->a->shape[1]);
    }
}

mz_status mz_cpu_gated_activation_backward(mz_stream *s, const mz_gated_gradient *d,
                                           const mz_tensor *d_y, const mz_tensor *gate,
                                           const mz_tensor *up, mz_activation activation) {
    (void)activation; /* SiLU is the only one */
    backward_job job = {.kernels = mz_row_kernels_for(s->ctx->isa),
                        .d_a = wanted(&d->gate),
                        .d_b = wanted(&d->up),
                        .d_y = d_y,
                        .a = gate,
                        .b = up};
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
            job->kernels->add_scaled(mz_tensor_f32(job->d_a, row), 1.0f, mz_tensor_f32(job->d_y, i),
                                     job->d_y->shape[1]);
        }
    }
}

mz_status mz_cpu_gather_rows_backward(mz_stream *s, const mz_tensor *d_x, const mz_tensor *d_y,
                                      const int32_t *rows) {
    if (!mz_gradient_wanted(d_x)) {
        return MZ_OK;
    }
    backward_job job = {
        .kernels = mz_row_kernels_for(s->ctx->isa), .d_a = d_x, .d_y = d_y, .index = rows};
    const int64_t n_threads = mz_pool_n_threads(s->ctx->pool);
    const int64_t most = n_threads > 1 ? n_threads * GATHER_PARTS : 1;
    const int64_t worth = 1 + mz_tensor_n_elements(d_y) / GATHER_WORK;
    const int64_t n_parts = worth < most ? worth : most;
    const int64_t n_rows = d_x->shape[0];
    mz_pool_run(s->ctx->pool, n_rows, 1 + n_rows / n_parts, gather_task, &job);
    return MZ_OK;
}
