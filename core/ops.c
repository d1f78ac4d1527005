#include "core/ops.h"

#include "core/backend.h"
#include "core/ops/composed.h"
#include "core/ops_internal.h"
#include "core/ops_record.h"
#include "core/profile.h"
#include "core/tape_internal.h"

mz_status mz_op_linear(mz_stream *s, const mz_tensor *y, const mz_tensor *x, const mz_linear *w) {
    const mz_op_size size = {.n_rows = x->shape[0], .d_in = x->shape[1], .d_out = y->shape[1]};
    MZ_TRY(mz_op_check_matrix(s, "linear", "x", x, size.n_rows, size.d_in));
    MZ_TRY(mz_op_check_matrix(s, "linear", "y", y, size.n_rows, size.d_out));
    MZ_TRY(mz_op_check_linear(s, "linear", w, size.d_out, size.d_in));
    if (w->deltas != NULL) {
        return mz_composed_linear(s, y, x, w);
    }
    mz_status status;
    if (mz_op_only_measured(s, MZ_OP_LINEAR, &size, &status)) {
        return status;
    }
    const double start = mz_op_clock(s);
    status = s->backend->linear(s, y, x, w);
    MZ_TRY(mz_op_charge(s, MZ_OP_LINEAR, start,
                        2.0 * (double)size.n_rows * (double)size.d_in * (double)size.d_out,
                        status));
    return s->tape != NULL ? mz_record_linear(s, y, x, w) : MZ_OK;
}

/* A vector of a norm: one for the row, or one for each of its groups. */
static mz_status check_norm_vector(mz_stream *s, const char *what, const mz_tensor *t,
                                   int64_t width, int64_t group) {
    const bool fits = t->n_dims == 1 && t->dtype == MZ_DTYPE_F32 &&
                      (t->shape[0] == width || (group > 0 && t->shape[0] == group));
    return t->n_dims == 0 || fits ? MZ_OK : mz_op_shape_error(s, "norm", what, t, width, 1);
}

mz_status mz_op_norm(mz_stream *s, const mz_tensor *y, const mz_tensor *x, const mz_norm *norm) {
    const mz_op_size size = {.n_rows = x->shape[0], .d_in = x->shape[1]};
    MZ_TRY(mz_op_check_matrix(s, "norm", "x", x, size.n_rows, size.d_in));
    MZ_TRY(mz_op_check_matrix(s, "norm", "y", y, size.n_rows, size.d_in));
    MZ_TRY(check_norm_vector(s, "weight", &norm->weight, size.d_in, norm->group));
    MZ_TRY(check_norm_vector(s, "bias", &norm->bias, size.d_in, norm->group));
    if (norm->group < 0 || (norm->group > 0 && size.d_in % norm->group != 0)) {
        return mz_fail(&s->ctx->error, MZ_ERR_SHAPE,
                       "norm: width %lld is no multiple of the group %lld", (long long)size.d_in,
                       (long long)norm->group);
    }
    mz_status status;
    if (mz_op_only_measured(s, MZ_OP_NORM, &size, &status)) {
        return status;
    }
    const double start = mz_op_clock(s);
    status = s->backend->norm(s, y, x, norm);
    MZ_TRY(
        mz_op_charge(s, MZ_OP_NORM, start, 4.0 * (double)size.n_rows * (double)size.d_in, status));
    return s->tape != NULL ? mz_record_norm(s, y, x, norm) : MZ_OK;
}

int64_t mz_rope_head_dim(const mz_rope_table *table) {
    return table->head_dim > 0 ? table->head_dim : 2 * table->half_dim;
}

mz_status mz_op_rope(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                     const mz_rope_table *table, const mz_rows *rows) {
    const int64_t head_dim = mz_rope_head_dim(table);
    const mz_op_size size = {.n_rows = rows->n_rows, .d_in = x->shape[1], .head_dim = head_dim};
    MZ_TRY(mz_op_check_matrix(s, "rope", "x", x, size.n_rows, size.d_in));
    MZ_TRY(mz_op_check_matrix(s, "rope", "y", y, size.n_rows, size.d_in));
    if (table->half_dim < 1 || head_dim < 1 || size.d_in % head_dim != 0) {
        return mz_fail(&s->ctx->error, MZ_ERR_SHAPE,
                       "rope: width %lld is no multiple of head_dim %lld", (long long)size.d_in,
                       (long long)head_dim);
    }
    if (table->first < 0 || table->first + 2 * table->half_dim > head_dim) {
        return mz_fail(&s->ctx->error, MZ_ERR_SHAPE,
                       "rope: elements %lld to %lld of a head of %lld", (long long)table->first,
                       (long long)(table->first + 2 * table->half_dim), (long long)head_dim);
    }
    mz_status status;
    if (mz_op_only_measured(s, MZ_OP_ROPE, &size, &status)) {
        return status;
    }
    const double start = mz_op_clock(s);
    status = s->backend->rope(s, y, x, table, rows);
    MZ_TRY(
        mz_op_charge(s, MZ_OP_ROPE, start, 3.0 * (double)size.n_rows * (double)size.d_in, status));
    return s->tape != NULL ? mz_record_rope(s, y, x, table, rows) : MZ_OK;
}

mz_status mz_op_softmax(mz_stream *s, const mz_tensor *y, const mz_tensor *x) {
    const mz_op_size size = {.n_rows = x->shape[0], .d_in = x->shape[1]};
    MZ_TRY(mz_op_check_matrix(s, "softmax", "x", x, size.n_rows, size.d_in));
    MZ_TRY(mz_op_check_matrix(s, "softmax", "y", y, size.n_rows, size.d_in));
    mz_status status;
    if (mz_op_only_measured(s, MZ_OP_SOFTMAX, &size, &status)) {
        return status;
    }
    const double start = mz_op_clock(s);
    status = s->backend->softmax(s, y, x);
    MZ_TRY(mz_op_charge(s, MZ_OP_SOFTMAX, start, 4.0 * (double)size.n_rows * (double)size.d_in,
                        status));
    return s->tape != NULL ? mz_record_softmax(s, y, x) : MZ_OK;
}

mz_status mz_op_gated_activation(mz_stream *s, const mz_tensor *y, const mz_tensor *gate,
                                 const mz_tensor *up, mz_activation activation) {
    const mz_op_size size = {.n_rows = y->shape[0], .d_in = y->shape[1]};
    MZ_TRY(mz_op_check_matrix(s, "gated_activation", "y", y, size.n_rows, size.d_in));
    MZ_TRY(mz_op_check_matrix(s, "gated_activation", "gate", gate, size.n_rows, size.d_in));
    if (up != NULL) {
        MZ_TRY(mz_op_check_matrix(s, "gated_activation", "up", up, size.n_rows, size.d_in));
    }
    mz_status status;
    if (mz_op_only_measured(s, MZ_OP_GATED_ACTIVATION, &size, &status)) {
        return status;
    }
    const double start = mz_op_clock(s);
    status = s->backend->gated_activation(s, y, gate, up, activation);
    MZ_TRY(mz_op_charge(s, MZ_OP_GATED_ACTIVATION, start,
                        5.0 * (double)size.n_rows * (double)size.d_in, status));
    return s->tape != NULL ? mz_record_gated_activation(s, y, gate, up, activation) : MZ_OK;
}

mz_status mz_op_add(mz_stream *s, const mz_tensor *y, const mz_tensor *a, const mz_tensor *b,
                    float scale) {
    const mz_op_size size = {.n_rows = y->shape[0], .d_in = y->shape[1]};
    MZ_TRY(mz_op_check_matrix(s, "add", "y", y, size.n_rows, size.d_in));
    MZ_TRY(mz_op_check_matrix(s, "add", "a", a, size.n_rows, size.d_in));
    MZ_TRY(mz_op_check_matrix(s, "add", "b", b, size.n_rows, size.d_in));
    mz_status status;
    if (mz_op_only_measured(s, MZ_OP_ADD, &size, &status)) {
        return status;
    }
    const double start = mz_op_clock(s);
    status = s->backend->add(s, y, a, b, scale);
    MZ_TRY(
        mz_op_charge(s, MZ_OP_ADD, start, 2.0 * (double)size.n_rows * (double)size.d_in, status));
    return s->tape != NULL ? mz_record_add(s, y, a, b, scale) : MZ_OK;
}

/* A matrix of a type that holds weights. */
static mz_status check_table(mz_stream *s, const mz_tensor *x) {
    const mz_dtype_info *type = mz_dtype_get(x->dtype);
    if (x->n_dims != 2 || x->ld < x->shape[1]) {
        return mz_op_shape_error(s, "gather_rows", "x", x, x->shape[0], x->shape[1]);
    }
    if (!type->is_float || type->to_f32 == NULL || x->shape[1] % type->block_len != 0) {
        return mz_fail(&s->ctx->error, MZ_ERR_DTYPE,
                       "gather_rows: x has rows of %lld %s, which cannot be read",
                       (long long)x->shape[1], type->name);
    }
    return MZ_OK;
}

mz_status mz_op_gather_rows(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                            const int32_t *rows, float scale) {
    const mz_op_size size = {.n_rows = y->shape[0], .d_in = x->shape[1]};
    MZ_TRY(check_table(s, x));
    MZ_TRY(mz_op_check_matrix(s, "gather_rows", "y", y, size.n_rows, size.d_in));
    mz_status status;
    if (mz_op_only_measured(s, MZ_OP_GATHER_ROWS, &size, &status)) {
        return status;
    }
    const double start = mz_op_clock(s);
    status = s->backend->gather_rows(s, y, x, rows, scale);
    MZ_TRY(mz_op_charge(s, MZ_OP_GATHER_ROWS, start, 0, status));
    return s->tape != NULL ? mz_record_gather_rows(s, y, x, rows, scale) : MZ_OK;
}

int64_t mz_qkv_head_dim_v(const mz_qkv *in) {
    return in->head_dim_v != 0 ? in->head_dim_v : in->head_dim;
}

/* Bytes of 64 heads' elements and of their scales; the type is one of the three. */
static size_t page_part(mz_dtype dtype, int64_t n) {
    const size_t element = dtype == MZ_DTYPE_F32 ? 4 : dtype == MZ_DTYPE_F16 ? 2 : 1;
    return (size_t)n * MZ_KV_PAGE * element;
}

static size_t page_scales(mz_dtype dtype, int64_t n) {
    const int64_t n_blocks = (n + MZ_KV_BLOCK - 1) / MZ_KV_BLOCK;
    return dtype == MZ_DTYPE_Q8_0 ? (size_t)n_blocks * MZ_KV_PAGE * sizeof(float) : 0;
}

mz_status mz_kv_layout_of(mz_error *err, const mz_kv_layer *cache, mz_kv_layout *out) {
    const int64_t d = cache->head_dim;
    const int64_t d_v = cache->head_dim_v != 0 ? cache->head_dim_v : d;
    if (cache->dtype != MZ_DTYPE_F32 && cache->dtype != MZ_DTYPE_F16 &&
        cache->dtype != MZ_DTYPE_Q8_0) {
        return mz_fail(err, MZ_ERR_DTYPE, "KV cache: type %s, expected f32, f16 or q8_0",
                       (unsigned)cache->dtype < MZ_DTYPE_COUNT ? mz_dtype_get(cache->dtype)->name
                                                               : "unknown");
    }
    if (cache->n_kv_heads < 1 || d < 1 || d_v < 1) {
        return mz_fail(err, MZ_ERR_SHAPE, "KV cache: %lld kv heads of width %lld, values of %lld",
                       (long long)cache->n_kv_heads, (long long)d, (long long)d_v);
    }
    if (d > MZ_MAX_HEAD_DIM || d_v > MZ_MAX_HEAD_DIM) {
        return mz_fail(err, MZ_ERR_UNSUPPORTED,
                       "attention: heads of width %lld, at most %d are supported",
                       (long long)(d > d_v ? d : d_v), (int)MZ_MAX_HEAD_DIM);
    }
    mz_kv_layout l = {.head_dim_v = d_v, .value_stride = (d_v + 15) / 16 * 16};
    l.key_scales = page_part(cache->dtype, d);
    l.values = l.key_scales + page_scales(cache->dtype, d);
    l.value_scales = l.values + page_part(cache->dtype, l.value_stride);
    l.head_bytes = l.value_scales + page_scales(cache->dtype, d_v);
    if (!mz_size_mul(l.head_bytes, (size_t)cache->n_kv_heads, &l.page_bytes)) {
        return mz_fail(err, MZ_ERR_LIMIT,
                       "KV cache: pages of %lld kv heads are more than memory can address",
                       (long long)cache->n_kv_heads);
    }
    *out = l;
    return MZ_OK;
}

mz_status mz_op_kv_write(mz_stream *s, const mz_kv_layer *cache, const mz_tensor *k,
                         const mz_tensor *v, const mz_rows *rows) {
    mz_kv_layout layout = {0};
    MZ_TRY(mz_kv_layout_of(&s->ctx->error, cache, &layout));
    const int64_t width = cache->n_kv_heads * cache->head_dim;
    const mz_op_size size = {.n_rows = rows->n_rows,
                             .d_in = width,
                             .n_heads = cache->n_kv_heads,
                             .head_dim = cache->head_dim};
    MZ_TRY(mz_op_check_matrix(s, "kv_write", "k", k, size.n_rows, width));
    MZ_TRY(mz_op_check_matrix(s, "kv_write", "v", v, size.n_rows,
                              cache->n_kv_heads * layout.head_dim_v));
    mz_status status;
    if (mz_op_only_measured(s, MZ_OP_KV_WRITE, &size, &status)) {
        return status;
    }
    const double start = mz_op_clock(s);
    status = s->backend->kv_write(s, cache, k, v, rows);
    return mz_op_charge(s, MZ_OP_KV_WRITE, start, 0, status);
}

static mz_status check_rotation(mz_stream *s, const mz_kv_layer *cache, const mz_rope_table *table,
                                int64_t n) {
    mz_kv_layout layout = {0};
    MZ_TRY(mz_kv_layout_of(&s->ctx->error, cache, &layout));
    const int64_t d = table->head_dim != 0 ? table->head_dim : 2 * table->half_dim;
    const int64_t end = table->first + 2 * table->half_dim;
    if (d != cache->head_dim || table->half_dim < 1 || table->first < 0 || end > d) {
        return mz_fail(&s->ctx->error, MZ_ERR_SHAPE,
                       "kv_rotate: a rotation of elements %lld to %lld of heads of %lld, keys of "
                       "%lld",
                       (long long)table->first, (long long)end, (long long)d,
                       (long long)cache->head_dim);
    }
    if (n < 0 || n >= table->n_positions) {
        return mz_fail(&s->ctx->error, MZ_ERR_ARG,
                       "kv_rotate: by %lld positions, the table has 0 to %lld", (long long)n,
                       (long long)(table->n_positions - 1));
    }
    if (s->backend->kv_rotate == NULL) {
        return mz_fail(&s->ctx->error, MZ_ERR_UNSUPPORTED, "backend %s lacks the op kv_rotate",
                       s->backend->name);
    }
    return MZ_OK;
}

mz_status mz_op_kv_rotate(mz_stream *s, const mz_kv_layer *cache, int64_t sequence,
                          int64_t first_page, int64_t n_pages, const mz_rope_table *table,
                          int64_t n) {
    MZ_TRY(check_rotation(s, cache, table, n));
    const mz_op_size size = {
        .n_rows = n_pages * MZ_KV_PAGE, .n_heads = cache->n_kv_heads, .head_dim = cache->head_dim};
    mz_status status;
    if (mz_op_only_measured(s, MZ_OP_KV_ROTATE, &size, &status)) {
        return status;
    }
    const double start = mz_op_clock(s);
    status = s->backend->kv_rotate(s, cache, sequence, first_page, n_pages, table, n);
    return mz_op_charge(s, MZ_OP_KV_ROTATE, start, 0, status);
}

static mz_status check_window(mz_stream *s, const char *op, const mz_attention_rule *rule) {
    if (rule->window < 0) {
        return mz_fail(&s->ctx->error, MZ_ERR_ARG, "%s: a window of %lld, expected 0 or more", op,
                       (long long)rule->window);
    }
    return MZ_OK;
}

static mz_status check_attention(mz_stream *s, const mz_tensor *y, const mz_tensor *q,
                                 const mz_kv_layer *cache, int64_t n_rows,
                                 const mz_attention_rule *rule) {
    mz_kv_layout layout = {0};
    MZ_TRY(mz_kv_layout_of(&s->ctx->error, cache, &layout));
    const int64_t width = q->shape[1];
    const int64_t n_heads = width / cache->head_dim;
    MZ_TRY(mz_op_check_matrix(s, "attention", "q", q, n_rows, width));
    if (width % cache->head_dim != 0 || n_heads % cache->n_kv_heads != 0) {
        return mz_fail(
            &s->ctx->error, MZ_ERR_SHAPE,
            "attention: width %lld does not divide into heads of %lld over %lld kv heads",
            (long long)width, (long long)cache->head_dim, (long long)cache->n_kv_heads);
    }
    MZ_TRY(mz_op_check_matrix(s, "attention", "y", y, n_rows, n_heads * layout.head_dim_v));
    MZ_TRY(check_window(s, "attention", rule));
    if (rule->bidirectional) {
        return mz_fail(&s->ctx->error, MZ_ERR_UNSUPPORTED,
                       "attention over a cache is causal: both directions want whole sequences");
    }
    if (s->tape != NULL && mz_tape_needs(s, &q, 1)) {
        return mz_fail(&s->ctx->error, MZ_ERR_UNSUPPORTED,
                       "attention over a cache has no backward: a tape wants whole sequences");
    }
    return MZ_OK;
}

mz_status mz_op_attention(mz_stream *s, const mz_tensor *y, const mz_tensor *q,
                          const mz_kv_layer *cache, const mz_rows *rows,
                          const mz_attention_rule *rule) {
    MZ_TRY(check_attention(s, y, q, cache, rows->n_rows, rule));
    const int64_t d_v = cache->head_dim_v != 0 ? cache->head_dim_v : cache->head_dim;
    const mz_op_size size = {.n_rows = rows->n_rows,
                             .d_in = q->shape[1],
                             .n_heads = q->shape[1] / cache->head_dim,
                             .head_dim = cache->head_dim > d_v ? cache->head_dim : d_v};
    mz_status status;
    if (mz_op_only_measured(s, MZ_OP_ATTENTION, &size, &status)) {
        return status;
    }
    double n_keys = 0; /* positions are readable here only in host memory */
    for (int64_t i = 0; s->profile != NULL && s->backend->host_memory && i < rows->n_rows; i++) {
        const int64_t n = rows->position[i] + (int64_t)1;
        n_keys += (double)(rule->window > 0 && rule->window < n ? rule->window : n);
    }
    const double start = mz_op_clock(s);
    status = s->backend->attention(s, y, q, cache, rows, rule);
    return mz_op_charge(s, MZ_OP_ATTENTION, start,
                        2.0 * n_keys * (double)(size.n_heads * (cache->head_dim + d_v)), status);
}

static mz_status check_self_attention(mz_stream *s, const mz_tensor *y, const mz_tensor *log_sums,
                                      const mz_qkv *in, int64_t n_rows,
                                      const mz_attention_rule *rule) {
    static const char op[] = "self_attention";
    const int64_t q_width = in->q.shape[1];
    const int64_t kv_width = in->k.shape[1];
    const int64_t d = in->head_dim;
    const int64_t d_v = mz_qkv_head_dim_v(in);
    MZ_TRY(mz_op_check_matrix(s, op, "q", &in->q, n_rows, q_width));
    MZ_TRY(mz_op_check_matrix(s, op, "k", &in->k, n_rows, kv_width));
    if (d < 1 || d_v < 1 || kv_width < 1 || q_width % kv_width != 0 || kv_width % d != 0) {
        return mz_fail(&s->ctx->error, MZ_ERR_SHAPE,
                       "%s: widths %lld and %lld do not divide into heads of %lld", op,
                       (long long)q_width, (long long)kv_width, (long long)d);
    }
    if (d > MZ_MAX_HEAD_DIM || d_v > MZ_MAX_HEAD_DIM) {
        return mz_fail(&s->ctx->error, MZ_ERR_UNSUPPORTED,
                       "%s: heads of width %lld, at most %d are supported", op,
                       (long long)(d > d_v ? d : d_v), (int)MZ_MAX_HEAD_DIM);
    }
    MZ_TRY(mz_op_check_matrix(s, op, "v", &in->v, n_rows, kv_width / d * d_v));
    MZ_TRY(mz_op_check_matrix(s, op, "y", y, n_rows, q_width / d * d_v));
    MZ_TRY(mz_op_check_matrix(s, op, "log_sums", log_sums, n_rows, q_width / d));
    MZ_TRY(check_window(s, op, rule));
    if (s->backend->training == NULL || s->backend->training->self_attention == NULL) {
        return mz_fail(&s->ctx->error, MZ_ERR_UNSUPPORTED, "backend %s lacks the op %s",
                       s->backend->name, op);
    }
    return MZ_OK;
}

mz_status mz_op_self_attention(mz_stream *s, const mz_tensor *y, const mz_tensor *log_sums,
                               const mz_qkv *in, const mz_rows *rows,
                               const mz_attention_rule *rule) {
    MZ_TRY(check_self_attention(s, y, log_sums, in, rows->n_rows, rule));
    const int64_t d_v = mz_qkv_head_dim_v(in);
    const mz_op_size size = {.n_rows = rows->n_rows,
                             .d_in = in->q.shape[1],
                             .n_heads = in->q.shape[1] / in->head_dim,
                             .head_dim = in->head_dim > d_v ? in->head_dim : d_v};
    mz_status status;
    if (mz_op_only_measured(s, MZ_OP_SELF_ATTENTION, &size, &status)) {
        return status;
    }
    const bool counts = s->profile != NULL && s->backend->host_memory;
    const double flops = counts ? mz_self_attention_flops(rows, rule, in) : 0;
    const double start = mz_op_clock(s);
    status = s->backend->training->self_attention(s, y, log_sums, in, rows, rule);
    MZ_TRY(mz_op_charge(s, MZ_OP_SELF_ATTENTION, start, flops, status));
    return s->tape != NULL ? mz_record_self_attention(s, y, log_sums, in, rows, rule) : MZ_OK;
}

mz_status mz_op_linears(mz_stream *s, int n, const mz_tensor *const *y, const mz_tensor *x,
                        const mz_linear *const *w) {
    mz_op_size size = {.n_rows = x->shape[0], .d_in = x->shape[1]};
    bool one_by_one = s->backend->linears == NULL || s->tape != NULL;
    MZ_TRY(mz_op_check_matrix(s, "linears", "x", x, size.n_rows, size.d_in));
    if (n < 1 || n > MZ_MAX_LINEARS) {
        return mz_fail(&s->ctx->error, MZ_ERR_ARG, "linears: %d products, expected 1 to %d", n,
                       (int)MZ_MAX_LINEARS);
    }
    for (int i = 0; i < n; i++) {
        const int64_t d_out = y[i]->shape[1];
        MZ_TRY(mz_op_check_matrix(s, "linears", "y", y[i], size.n_rows, d_out));
        MZ_TRY(mz_op_check_linear(s, "linears", w[i], d_out, size.d_in));
        size.d_out += d_out;
        one_by_one = one_by_one || w[i]->deltas != NULL;
    }
    if (one_by_one) {
        for (int i = 0; i < n; i++) {
            MZ_TRY(mz_op_linear(s, y[i], x, w[i]));
        }
        return MZ_OK;
    }
    mz_status status;
    if (mz_op_only_measured(s, MZ_OP_LINEAR, &size, &status)) {
        return status;
    }
    const double start = mz_op_clock(s);
    status = s->backend->linears(s, n, y, x, w);
    return mz_op_charge(s, MZ_OP_LINEAR, start,
                        2.0 * (double)size.n_rows * (double)size.d_in * (double)size.d_out, status);
}

mz_status mz_op_ffn(mz_stream *s, const mz_tensor *y, const mz_tensor *x, const mz_ffn *ffn) {
    const int64_t d = x->shape[1];
    const int64_t d_ff = ffn->w_up.weight.shape[0];
    const mz_op_size size = {.n_rows = x->shape[0], .d_in = d, .d_out = d, .d_ff = d_ff};
    MZ_TRY(mz_op_check_matrix(s, "ffn", "x", x, size.n_rows, d));
    MZ_TRY(mz_op_check_matrix(s, "ffn", "y", y, size.n_rows, d));
    if (ffn->w_gate.weight.n_dims != 0) {
        MZ_TRY(mz_op_check_linear(s, "ffn", &ffn->w_gate, d_ff, d));
    }
    MZ_TRY(mz_op_check_linear(s, "ffn", &ffn->w_up, d_ff, d));
    MZ_TRY(mz_op_check_linear(s, "ffn", &ffn->w_down, d, d_ff));
    if (s->backend->ffn == NULL || s->tape != NULL || !mz_ffn_is_plain(ffn) ||
        mz_ffn_has_deltas(ffn)) {
        return mz_composed_ffn(s, y, x, ffn);
    }
    mz_status status;
    if (mz_op_only_measured(s, MZ_OP_FFN, &size, &status)) {
        return status;
    }
    const double start = mz_op_clock(s);
    status = s->backend->ffn(s, y, x, ffn);
    return mz_op_charge(s, MZ_OP_FFN, start, 6.0 * (double)size.n_rows * (double)d * (double)d_ff,
                        status);
}

mz_status mz_stream_take(mz_stream *s, int64_t n_rows, int64_t n_cols, const char *what,
                         mz_tensor *out) {
    size_t n = 0;
    size_t bytes = 0;
    void *data = NULL;
    if (!mz_size_mul((size_t)n_rows, (size_t)n_cols, &n) ||
        !mz_size_mul(n, sizeof(float), &bytes)) {
        return mz_fail(&s->ctx->error, MZ_ERR_LIMIT, "%s: %lld x %lld values are too many", what,
                       (long long)n_rows, (long long)n_cols);
    }
    MZ_TRY(mz_stream_take_bytes(s, bytes, what, &data));
    *out = mz_tensor_2d(MZ_DTYPE_F32, n_rows, n_cols, data);
    return MZ_OK;
}

mz_status mz_stream_take_bytes(mz_stream *s, size_t bytes, const char *what, void **out) {
    MZ_TRY(mz_arena_take(&s->arena, bytes, what, out, &s->ctx->error));
    return s->tape != NULL ? mz_tape_note_take(s, *out, bytes) : MZ_OK;
}

size_t mz_stream_mark(const mz_stream *s) {
    return mz_arena_mark(&s->arena);
}

void mz_stream_release(mz_stream *s, size_t mark) {
    if (!s->keep) {
        mz_arena_release(&s->arena, mark);
    }
}
