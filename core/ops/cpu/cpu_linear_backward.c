/* The backwards of the CPU backend's products are products too, of transposed matrices: d_x = d_y W
 * and d_w = d_y^T x. The kernels read a transposed matrix where it lies; a panel of it is nearer to
 * what they need than one of an ordinary matrix. */
#include "core/ops/cpu/cpu_linear.h"

#include "core/ops/cpu/products_internal.h"
#include "core/ops/cpu/rows_internal.h"
#include "core/threads.h"

enum {
    SUM_COLUMNS = 128, /* of a bias gradient that a thread works on at a time */
    SUM_ROWS = 16,     /* added in f32 before they join the f64 sum */
};

static bool is_present(const mz_tensor *t) {
    return t != NULL && t->n_dims > 0;
}

/* ---- Bias ---- */

typedef struct bias_job {
    float *d_bias;
    const mz_tensor *d_y;
} bias_job;

static void add_columns(const bias_job *job, int64_t column, int64_t n) {
    const int64_t n_rows = job->d_y->shape[0];
    double sums[SUM_COLUMNS] = {0};
    for (int64_t t = 0; t < n_rows; t += SUM_ROWS) {
        const int64_t end = t + SUM_ROWS < n_rows ? t + SUM_ROWS : n_rows;
        float part[SUM_COLUMNS] = {0};
        for (int64_t i = t; i < end; i++) {
            const float *row = mz_tensor_f32(job->d_y, i) + column;
            for (int64_t c = 0; c < n; c++) {
                part[c] += row[c];
            }
        }
        for (int64_t c = 0; c < n; c++) {
            sums[c] += (double)part[c];
        }
    }
    for (int64_t c = 0; c < n; c++) {
        job->d_bias[column + c] = (float)((double)job->d_bias[column + c] + sums[c]);
    }
}

static void bias_task(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const bias_job *job = arg;
    const int64_t n_columns = job->d_y->shape[1];
    for (int64_t b = begin; b < end; b++) {
        const int64_t column = b * SUM_COLUMNS;
        const int64_t left = n_columns - column;
        add_columns(job, column, left < SUM_COLUMNS ? left : SUM_COLUMNS);
    }
}

static void add_bias_gradient(mz_stream *s, const mz_tensor *d_bias, const mz_tensor *d_y) {
    bias_job job = {.d_bias = d_bias->data, .d_y = d_y};
    mz_pool_run(s->ctx->pool, (d_y->shape[1] + SUM_COLUMNS - 1) / SUM_COLUMNS, 1, bias_task, &job);
}

/* ---- Products ---- */

/* Gradients of outputs are not quantised. */
static mz_precision backward_precision(mz_precision precision) {
    return precision == MZ_PRECISION_INT8 ? MZ_PRECISION_F32 : precision;
}

/* d_y^T x, where row i of d_y belongs to row i of x, or with an index to row index[i] / divisor. */
static mz_product_set gradient_set(const mz_tensor *d_y, const mz_tensor *x, mz_precision precision,
                                   const int32_t *index, int32_t divisor) {
    return (mz_product_set){
        .out = {.data = x->data,
                .dtype = MZ_DTYPE_F32,
                .precision = precision,
                .d_out = x->shape[1],
                .d_in = d_y->shape[0],
                .ld = x->ld,
                .transposed = true,
                .index = index,
                .divisor = divisor},
        .n_experts = 1,
        .n_rows = d_y->shape[1],
        .source = {.x = d_y->data, .ld = d_y->ld, .divisor = 1, .transposed = true},
    };
}

mz_status mz_cpu_linear_backward(mz_stream *s, const mz_linear_gradient *d_w, const mz_tensor *d_x,
                                 const mz_tensor *d_y, const mz_tensor *x, const mz_linear *w) {
    if (is_present(d_x)) {
        const mz_tensor *t = &w->weight;
        const mz_product_set set = {.out = {.data = t->data,
                                            .dtype = t->dtype,
                                            .precision = backward_precision(w->precision),
                                            .d_out = t->shape[1],
                                            .d_in = t->shape[0],
                                            .ld = t->ld,
                                            .transposed = true},
                                    .n_experts = 1,
                                    .n_rows = d_y->shape[0],
                                    .source = {.x = d_y->data, .ld = d_y->ld, .divisor = 1},
                                    .y = d_x,
                                    .accumulate = true};
        MZ_TRY(mz_products_run(s, &set, 1));
    }
    if (d_w != NULL && is_present(&d_w->weight)) {
        float *const y_data = d_w->weight.data;
        mz_product_set set = gradient_set(d_y, x, backward_precision(w->precision), NULL, 1);
        set.y_data = &y_data;
        set.ld_y = d_w->weight.ld;
        MZ_TRY(mz_products_run(s, &set, 1));
    }
    if (d_w != NULL && is_present(&d_w->bias)) {
        add_bias_gradient(s, &d_w->bias, d_y);
    }
    return MZ_OK;
}

/* ---- Experts ---- */

/* Gradients of sorted rows on their way to the tokens that the rows came from. */
typedef struct scatter_job {
    const mz_tensor *d_x, *d_rows;
    const mz_routing *routing;
    int32_t n_rows; /* that went through the matrices: the first ones */
} scatter_job;

static void scatter_task(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const scatter_job *job = arg;
    const int32_t top_k = job->routing->top_k;
    for (int64_t j = begin * top_k; j < end * top_k; j++) {
        float *out = mz_tensor_f32(job->d_x, j / top_k);
        const int32_t sorted = job->routing->slot_row[j];
        if (sorted < 0 || sorted >= job->n_rows) {
            continue; /* no slot, or no matrix */
        }
        const float *row = mz_tensor_f32(job->d_rows, sorted);
        for (int64_t i = 0; i < job->d_x->shape[1]; i++) {
            out[i] += row[i];
        }
    }
}

static mz_status add_row_gradients(mz_stream *s, const mz_tensor *d_x, const mz_tensor *d_y,
                                   const mz_linear_bank *bank, const mz_routing *routing,
                                   bool gather) {
    mz_tensor d_rows;
    if (gather) {
        MZ_TRY(mz_stream_take(s, d_y->shape[0], bank->d_in, "row gradients", &d_rows));
    }
    const mz_product_set set = {.out = {.dtype = bank->dtype,
                                        .precision = backward_precision(bank->precision),
                                        .d_out = bank->d_in,
                                        .d_in = bank->d_out,
                                        .ld = bank->ld,
                                        .transposed = true},
                                .out_data = bank->data,
                                .expert_offsets = routing->expert_offsets,
                                .n_experts = (int32_t)bank->n_experts,
                                .n_rows = d_y->shape[0],
                                .source = {.x = d_y->data, .ld = d_y->ld, .divisor = 1},
                                .y = gather ? &d_rows : d_x,
                                .accumulate = !gather};
    MZ_TRY(mz_products_run(s, &set, 1));
    if (gather) {
        scatter_job job = {.d_x = d_x,
                           .d_rows = &d_rows,
                           .routing = routing,
                           .n_rows = routing->expert_offsets[bank->n_experts]};
        mz_cpu_run_rows(s, routing->n_tokens, bank->d_in * routing->top_k, scatter_task, &job);
    }
    return MZ_OK;
}

/* Experts one after another, each in as many columns as there are threads for. */
static void add_bank_bias_gradient(mz_stream *s, float *const *d_bias, const mz_tensor *d_y,
                                   const mz_linear_bank *bank, const mz_routing *routing) {
    for (int64_t e = 0; e < bank->n_experts; e++) {
        const int64_t first = routing->expert_offsets[e];
        const mz_tensor rows = mz_tensor_rows(d_y, first, routing->expert_offsets[e + 1] - first);
        const mz_tensor d = mz_tensor_1d(MZ_DTYPE_F32, bank->d_out, d_bias[e]);
        add_bias_gradient(s, &d, &rows);
    }
}

mz_status mz_cpu_grouped_linear_backward(mz_stream *s, const mz_bank_gradient *d_w,
                                         const mz_tensor *d_x, const mz_tensor *d_y,
                                         const mz_tensor *x, const mz_linear_bank *bank,
                                         const mz_routing *routing, bool gather) {
    if (is_present(d_x)) {
        const size_t mark = mz_arena_mark(&s->arena);
        const mz_status status = add_row_gradients(s, d_x, d_y, bank, routing, gather);
        mz_arena_release(&s->arena, mark);
        MZ_TRY(status);
    }
    if (d_w != NULL && d_w->bias != NULL) {
        add_bank_bias_gradient(s, d_w->bias, d_y, bank, routing);
    }
    if (d_w == NULL || d_w->weight == NULL) {
        return MZ_OK;
    }
    mz_product_set set = gradient_set(d_y, x, backward_precision(bank->precision),
                                      gather ? routing->row_index : NULL, routing->top_k);
    set.expert_offsets = routing->expert_offsets;
    set.n_experts = (int32_t)bank->n_experts;
    set.y_data = d_w->weight;
    set.ld_y = bank->d_in;
    return mz_products_run(s, &set, 1);
}

/* ---- Scratch ---- */

size_t mz_cpu_linear_backward_scratch(const mz_stream *s, mz_op_id op, const mz_op_size *size) {
    if (op != MZ_OP_LINEAR_BACKWARD && op != MZ_OP_GROUPED_LINEAR_BACKWARD) {
        return 0;
    }
    const bool grouped = op == MZ_OP_GROUPED_LINEAR_BACKWARD;
    const int32_t n_experts = grouped ? size->n_experts : 1;
    const mz_product_size rows = {
        .n_rows = size->n_rows, .d_in = size->d_out, .n_experts = n_experts};
    const mz_product_size weights = {.n_rows = size->d_out * n_experts,
                                     .d_in = size->n_rows < MZ_GRADIENT_ROWS ? size->n_rows
                                                                             : MZ_GRADIENT_ROWS,
                                     .n_experts = n_experts};
    const size_t gathered =
        grouped ? ((size_t)size->n_rows * (size_t)size->d_in * sizeof(float) + 63) / 64 * 64 : 0;
    const size_t of_rows = gathered + mz_products_scratch(s, &rows, 1);
    const size_t of_weights = mz_products_scratch(s, &weights, 1);
    return of_rows > of_weights ? of_rows : of_weights;
}
