#include "core/ops/cpu/cpu_self_attention.h"

#include "core/ops/cpu/rows_internal.h"
#include "core/threads.h"

/* Values of scratch that one thread needs: see self_tile in self_attention_kernels.inc. head_dim is
 * that of keys or of values, whichever is wider. */
static int64_t scratch_floats(mz_op_id op, int64_t head_dim) {
    const int64_t stride = (head_dim + MZ_SELF_PAD - 1) / MZ_SELF_PAD * MZ_SELF_PAD;
    const int64_t forward = MZ_SELF_TILE * (2 * head_dim + 2 + MZ_SELF_TILE);
    if (op == MZ_OP_SELF_ATTENTION) {
        return forward;
    }
    return forward + MZ_SELF_TILE * (2 * head_dim + 3 * stride + MZ_SELF_TILE);
}

static size_t list_bytes(int64_t n_rows) {
    const size_t bytes = (size_t)n_rows * sizeof(mz_sequence_rows);
    return (bytes + MZ_ARENA_ALIGNMENT - 1) / MZ_ARENA_ALIGNMENT * MZ_ARENA_ALIGNMENT;
}

size_t mz_cpu_self_attention_scratch(const mz_stream *s, mz_op_id op, const mz_op_size *size) {
    return list_bytes(size->n_rows) + (size_t)mz_pool_n_threads(s->ctx->pool) *
                                          (size_t)scratch_floats(op, size->head_dim) *
                                          sizeof(float);
}

/* Lists the rows of each sequence in pieces of at most max_rows. Returns the number of pieces, at
 * most n_rows. */
static int64_t cut_sequences(const mz_rows *rows, int64_t max_rows, mz_sequence_rows *out) {
    int64_t n_pieces = 0;
    for (int64_t begin = 0, end = 0; begin < rows->n_rows; begin = end) {
        while (end < rows->n_rows && rows->sequence[end] == rows->sequence[begin]) {
            end++;
        }
        for (int64_t row = begin; row < end; row += max_rows) {
            const int64_t n = end - row < max_rows ? end - row : max_rows;
            out[n_pieces++] = (mz_sequence_rows){.begin = begin, .end = end, .row = row, .n = n};
        }
    }
    return n_pieces;
}

typedef struct self_attention_task_arg {
    mz_self_attention_job job;
    mz_self_attention_kernel kernel;
    const mz_sequence_rows *pieces;
    int64_t n_heads; /* that a piece is worked on for */
    float *scratch;  /* [n_threads, scratch_stride] */
    int64_t scratch_stride;
} self_attention_task_arg;

/* Item i: piece i / n_heads, head i % n_heads. */
static void self_attention_task(void *arg, int64_t begin, int64_t end, int thread) {
    const self_attention_task_arg *a = arg;
    for (int64_t item = begin; item < end; item++) {
        a->kernel(&a->job, &a->pieces[item / a->n_heads], item % a->n_heads,
                  a->scratch + thread * a->scratch_stride);
    }
}

/* Runs a task whose job and kernel are filled in over pieces of at most max_rows. */
static mz_status run(mz_stream *s, mz_op_id op, self_attention_task_arg *arg, const mz_rows *rows,
                     int64_t max_rows) {
    /* Not an activation: given back even where the stream keeps those. */
    const size_t mark = mz_arena_mark(&s->arena);
    const int64_t d = arg->job.in->head_dim;
    const int64_t d_v = mz_qkv_head_dim_v(arg->job.in);
    const mz_op_size size = {.n_rows = rows->n_rows, .head_dim = d > d_v ? d : d_v};
    void *scratch = NULL;
    MZ_TRY(mz_stream_take_bytes(s, mz_cpu_self_attention_scratch(s, op, &size),
                                "self attention scratch", &scratch));
    arg->scratch_stride = scratch_floats(op, size.head_dim);
    arg->scratch = (float *)((char *)scratch + list_bytes(rows->n_rows));
    mz_sequence_rows *pieces = scratch;
    const int64_t n_pieces = cut_sequences(rows, max_rows, pieces);
    arg->pieces = pieces;
    mz_pool_run(s->ctx->pool, n_pieces * arg->n_heads, 1, self_attention_task, arg);
    mz_arena_release(&s->arena, mark);
    return MZ_OK;
}

mz_status mz_cpu_self_attention(mz_stream *s, const mz_tensor *y, const mz_tensor *log_sums,
                                const mz_qkv *in, const mz_rows *rows,
                                const mz_attention_rule *rule) {
    self_attention_task_arg arg = {
        .job = {.y = y,
                .log_sums = log_sums,
                .in = in,
                .group = in->q.shape[1] / in->k.shape[1],
                .rule = *rule},
        .kernel = mz_row_kernels_for(s->ctx->isa)->self_attention,
        .n_heads = in->q.shape[1] / in->head_dim,
    };
    return run(s, MZ_OP_SELF_ATTENTION, &arg, rows, MZ_SELF_TILE);
}

mz_status mz_cpu_self_attention_backward(mz_stream *s, const mz_qkv *d, const mz_tensor *d_y,
                                         const mz_tensor *y, const mz_tensor *log_sums,
                                         const mz_qkv *in, const mz_rows *rows,
                                         const mz_attention_rule *rule) {
    self_attention_task_arg arg = {
        .job = {.y = y,
                .log_sums = log_sums,
                .in = in,
                .d = d,
                .d_y = d_y,
                .group = in->q.shape[1] / in->k.shape[1],
                .rule = *rule},
        .kernel = mz_row_kernels_for(s->ctx->isa)->self_attention_backward,
        .n_heads = in->k.shape[1] / in->head_dim,
    };
    return run(s, MZ_OP_SELF_ATTENTION_BACKWARD, &arg, rows, rows->n_rows);
}
