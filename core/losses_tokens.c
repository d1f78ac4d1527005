/* The loss of next tokens: cross entropy behind an output head.
 *
 * A vocabulary has some 100,000 entries, so that the logits of a batch would not fit in memory.
 * Each chunk of rows is taken through product, softmax and the head's backward before the next. */
#include "core/losses_internal.h"

#include <math.h>
#include <string.h>

#include "core/backend.h"
#include "core/threads.h"

static const char name[] = "cross entropy";

/* The rows that count, and the buffers of a chunk. */
typedef struct token_job {
    const mz_cross_entropy_inputs *in;
    mz_cross_entropy_gradient d;
    bool wants_gradient;
    double scale;
    int64_t vocab_size, d_model;
    int64_t *rows; /* [n_rows] those whose weight is not 0, ascending */
    int64_t n_rows;
    int64_t chunk_rows;
    mz_tensor x, d_x; /* [chunk_rows, d_model] */
    mz_tensor logits; /* [chunk_rows, vocab_size]; their gradients after the softmax */
    double *losses;   /* [chunk_rows] weight times the loss of a row, without scale */
    int64_t first;    /* row number of the chunk at hand, in `rows` */
} token_job;

static bool present(const mz_tensor *t) {
    return t->n_dims != 0;
}

static bool counts(const mz_cross_entropy_inputs *in, int64_t row) {
    return in->weight == NULL || in->weight[row] != 0;
}

static mz_status check_head(mz_stream *s, const mz_linear *head, int64_t d_model) {
    const mz_tensor *w = &head->weight;
    const mz_tensor *b = &head->bias;
    char actual[96];
    if (w->n_dims != 2 || w->shape[0] < 1 || w->shape[1] != d_model || w->ld < d_model) {
        return mz_fail(
            &s->ctx->error, MZ_ERR_SHAPE, "%s: weight is %s, expected [vocab_size, %lld]", name,
            mz_shape_text(actual, sizeof actual, w->shape, w->n_dims), (long long)d_model);
    }
    if (!mz_dtype_get(w->dtype)->is_float) {
        return mz_fail(&s->ctx->error, MZ_ERR_DTYPE,
                       "%s: weight is %s, expected a floating-point type", name,
                       mz_dtype_get(w->dtype)->name);
    }
    if (head->deltas != NULL) {
        return mz_fail(&s->ctx->error, MZ_ERR_UNSUPPORTED,
                       "%s: the head has an adapter, which blocks of its rows leave out", name);
    }
    if (present(b) && (b->n_dims != 1 || b->shape[0] != w->shape[0] || b->dtype != MZ_DTYPE_F32)) {
        return mz_fail(&s->ctx->error, MZ_ERR_SHAPE, "%s: bias is %s %s, expected f32 [%lld]", name,
                       mz_dtype_get(b->dtype)->name,
                       mz_shape_text(actual, sizeof actual, b->shape, b->n_dims),
                       (long long)w->shape[0]);
    }
    return MZ_OK;
}

static mz_status check_gradients(mz_stream *s, const token_job *job) {
    const mz_cross_entropy_gradient *d = &job->d;
    if (!job->wants_gradient) {
        return MZ_OK;
    }
    if (s->backend->training == NULL || s->backend->training->linear_backward == NULL) {
        return mz_fail(&s->ctx->error, MZ_ERR_UNSUPPORTED, "%s: backend %s lacks the op %s", name,
                       s->backend->name, mz_op_name(MZ_OP_LINEAR_BACKWARD));
    }
    if (present(&d->hidden)) {
        MZ_TRY(mz_loss_check_matrix(s, name, "gradient of hidden", &d->hidden,
                                    job->in->hidden->shape[0], job->d_model));
    }
    if (present(&d->head.weight)) {
        MZ_TRY(mz_loss_check_matrix(s, name, "gradient of weight", &d->head.weight, job->vocab_size,
                                    job->d_model));
    }
    if (present(&d->head.bias) &&
        (d->head.bias.n_dims != 1 || d->head.bias.shape[0] != job->vocab_size)) {
        char actual[96];
        return mz_fail(
            &s->ctx->error, MZ_ERR_SHAPE, "%s: gradient of bias is %s, expected [%lld]", name,
            mz_shape_text(actual, sizeof actual, d->head.bias.shape, d->head.bias.n_dims),
            (long long)job->vocab_size);
    }
    return MZ_OK;
}

/* Notes the rows that count; in measure mode all do. */
static mz_status choose_rows(mz_stream *s, token_job *job) {
    const int64_t n = job->in->hidden->shape[0];
    void *rows = NULL;
    MZ_TRY(mz_stream_take_bytes(s, (size_t)n * sizeof(int64_t), name, &rows));
    if (s->arena.measure) {
        job->n_rows = n;
        return MZ_OK;
    }
    job->rows = rows;
    for (int64_t row = 0; row < n; row++) {
        if (!counts(job->in, row)) {
            continue;
        }
        const int32_t target = job->in->targets[row];
        if (target < 0 || target >= job->vocab_size) {
            return mz_fail(&s->ctx->error, MZ_ERR_ARG,
                           "%s: target %d of row %lld is outside 0 to %lld", name, target,
                           (long long)row, (long long)job->vocab_size - 1);
        }
        job->rows[job->n_rows++] = row;
    }
    return MZ_OK;
}

static mz_status take_chunk(mz_stream *s, token_job *job) {
    const int64_t fit = MZ_LOGITS_BYTES / (int64_t)sizeof(float) / job->vocab_size;
    int64_t n = job->in->chunk_rows > 0 ? job->in->chunk_rows : fit;
    void *losses = NULL;
    n = n < 1 ? 1 : n;
    job->chunk_rows = n < job->n_rows ? n : job->n_rows;
    MZ_TRY(mz_stream_take(s, job->chunk_rows, job->d_model, name, &job->x));
    if (s->arena.measure || present(&job->d.hidden)) {
        MZ_TRY(mz_stream_take(s, job->chunk_rows, job->d_model, name, &job->d_x));
    }
    MZ_TRY(mz_stream_take(s, job->chunk_rows, job->vocab_size, name, &job->logits));
    MZ_TRY(mz_stream_take_bytes(s, (size_t)job->chunk_rows * sizeof(double), name, &losses));
    job->losses = losses;
    return MZ_OK;
}

/* The loss of a row; its logits become their gradients where those are wanted. */
static double token_row(const token_job *job, int64_t i) {
    const int64_t row = job->rows[job->first + i];
    const int32_t target = job->in->targets[row];
    const double weight = job->in->weight != NULL ? (double)job->in->weight[row] : 1;
    float *logits = mz_tensor_f32(&job->logits, i);
    const double of_target = (double)logits[target];
    float top = -INFINITY;
    double sum = 0;
    for (int64_t v = 0; v < job->vocab_size; v++) {
        top = logits[v] > top ? logits[v] : top;
    }
    for (int64_t v = 0; v < job->vocab_size; v++) {
        const double e = exp((double)logits[v] - (double)top); /* NaN reaches the sum */
        sum += e;
        logits[v] = (float)e;
    }
    if (job->wants_gradient) {
        const double slope = job->scale * weight / sum;
        for (int64_t v = 0; v < job->vocab_size; v++) {
            logits[v] = (float)((double)logits[v] * slope);
        }
        logits[target] = (float)((exp(of_target - (double)top) - sum) * slope);
    }
    return weight * (log(sum) + (double)top - of_target);
}

static void token_task(void *arg, int64_t begin, int64_t end, int thread) {
    token_job *job = arg;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        job->losses[i] = token_row(job, i);
    }
}

/* The head's backward of a chunk, and its d_x to the rows of hidden that it came from. */
static mz_status chunk_backward(mz_stream *s, const token_job *job, const mz_tensor *x,
                                const mz_tensor *d_logits) {
    const int64_t n = x->shape[0];
    const mz_tensor d_x =
        present(&job->d.hidden) ? mz_tensor_rows(&job->d_x, 0, n) : (mz_tensor){0};
    if (present(&d_x)) {
        memset(d_x.data, 0, (size_t)n * (size_t)job->d_model * sizeof(float));
    }
    MZ_TRY(
        s->backend->training->linear_backward(s, &job->d.head, &d_x, d_logits, x, job->in->head));
    for (int64_t i = 0; i < n && present(&d_x); i++) {
        const float *from = mz_tensor_f32(&d_x, i);
        float *to = mz_tensor_f32(&job->d.hidden, job->rows[job->first + i]);
        for (int64_t c = 0; c < job->d_model; c++) {
            to[c] += from[c];
        }
    }
    return MZ_OK;
}

/* Rows [first, first + n) of those that count; adds their losses to *sum. */
static mz_status run_chunk(mz_stream *s, token_job *job, int64_t n, double *sum) {
    const mz_tensor x = mz_tensor_rows(&job->x, 0, n);
    const mz_tensor logits = mz_tensor_rows(&job->logits, 0, n);
    const size_t mark = mz_arena_mark(&s->arena);
    for (int64_t i = 0; i < n; i++) {
        memcpy(mz_tensor_f32(&x, i), mz_tensor_f32(job->in->hidden, job->rows[job->first + i]),
               (size_t)job->d_model * sizeof(float));
    }
    MZ_TRY(s->backend->linear(s, &logits, &x, job->in->head));
    mz_arena_release(&s->arena, mark);
    mz_pool_run(s->ctx->pool, n, 1, token_task, job);
    for (int64_t i = 0; i < n; i++) {
        *sum += job->losses[i];
    }
    if (job->wants_gradient) {
        MZ_TRY(chunk_backward(s, job, &x, &logits));
        mz_arena_release(&s->arena, mark);
    }
    return MZ_OK;
}

/* What the products of a chunk take from the arena. */
static mz_status measure_chunk(mz_stream *s, const token_job *job) {
    static const mz_op_id ops[] = {MZ_OP_LINEAR, MZ_OP_LINEAR_BACKWARD};
    const mz_op_size size = {
        .n_rows = job->chunk_rows, .d_in = job->d_model, .d_out = job->vocab_size};
    for (size_t i = 0; i < sizeof ops / sizeof ops[0] && s->backend->scratch_bytes != NULL; i++) {
        const size_t mark = mz_arena_mark(&s->arena);
        void *unused = NULL;
        MZ_TRY(mz_stream_take_bytes(s, s->backend->scratch_bytes(s, ops[i], &size), name, &unused));
        mz_arena_release(&s->arena, mark);
    }
    return MZ_OK;
}

static mz_status run_tokens(mz_stream *s, token_job *job, double *loss) {
    double sum = 0;
    MZ_TRY(choose_rows(s, job));
    MZ_TRY(take_chunk(s, job));
    if (s->arena.measure) {
        return measure_chunk(s, job);
    }
    for (; job->first < job->n_rows; job->first += job->chunk_rows) {
        const int64_t left = job->n_rows - job->first;
        MZ_TRY(run_chunk(s, job, left < job->chunk_rows ? left : job->chunk_rows, &sum));
    }
    *loss += job->scale * sum;
    return MZ_OK;
}

mz_status mz_loss_cross_entropy_into(mz_stream *s, const mz_cross_entropy_gradient *d,
                                     const mz_cross_entropy_inputs *in, double scale,
                                     double *loss) {
    token_job job = {.in = in,
                     .scale = scale,
                     .vocab_size = in->head->weight.shape[0],
                     .d_model = in->hidden->shape[1]};
    if (d != NULL) {
        job.d = *d;
    }
    job.wants_gradient =
        present(&job.d.hidden) || present(&job.d.head.weight) || present(&job.d.head.bias);
    MZ_TRY(mz_loss_check_call(s, name, scale));
    MZ_TRY(mz_loss_check_matrix(s, name, "hidden", in->hidden, in->hidden->shape[0],
                                in->hidden->shape[1]));
    MZ_TRY(check_head(s, in->head, job.d_model));
    MZ_TRY(check_gradients(s, &job));
    const size_t mark = mz_arena_mark(&s->arena);
    const mz_status status = run_tokens(s, &job, loss);
    mz_arena_release(&s->arena, mark); /* also with a tape: no node points here */
    return status;
}
