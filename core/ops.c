#include "core/ops.h"

#include "core/backend.h"
#include "core/ops/composed.h"
#include "core/ops_record.h"
#include "core/profile.h"
#include "core/tape_internal.h"

static mz_status shape_error(mz_stream *s, const char *op, const char *what, const mz_tensor *t,
                             int64_t rows, int64_t cols) {
    char actual[96];
    return mz_fail(&s->ctx->error, MZ_ERR_SHAPE, "%s: %s is %s, expected [%lld, %lld]", op, what,
                   mz_shape_text(actual, sizeof actual, t->shape, t->n_dims), (long long)rows,
                   (long long)cols);
}

/* An f32 matrix of exactly this shape. */
static mz_status check(mz_stream *s, const char *op, const char *what, const mz_tensor *t,
                       int64_t rows, int64_t cols) {
    if (t->n_dims != 2 || t->shape[0] != rows || t->shape[1] != cols || t->ld < cols) {
        return shape_error(s, op, what, t, rows, cols);
    }
    if (t->dtype != MZ_DTYPE_F32) {
        return mz_fail(&s->ctx->error, MZ_ERR_DTYPE, "%s: %s is %s, expected f32", op, what,
                       mz_dtype_get(t->dtype)->name);
    }
    return MZ_OK;
}

/* A weight matrix [d_out, d_in] with its bias. */
static mz_status check_linear(mz_stream *s, const char *op, const mz_linear *w, int64_t d_out,
                              int64_t d_in) {
    const mz_tensor *t = &w->weight;
    if (t->n_dims != 2 || t->shape[0] != d_out || t->shape[1] != d_in || t->ld < d_in) {
        return shape_error(s, op, "weight", t, d_out, d_in);
    }
    if (!mz_dtype_get(t->dtype)->is_float) {
        return mz_fail(&s->ctx->error, MZ_ERR_DTYPE,
                       "%s: weight is %s, expected a floating-point type", op,
                       mz_dtype_get(t->dtype)->name);
    }
    const int block = mz_dtype_get(t->dtype)->block_len;
    if (d_in % block != 0 || t->ld % block != 0) {
        return mz_fail(
            &s->ctx->error, MZ_ERR_SHAPE,
            "%s: weight is %s with rows of %lld elements, %lld apart, expected multiples "
            "of %d",
            op, mz_dtype_get(t->dtype)->name, (long long)d_in, (long long)t->ld, block);
    }
    if (w->bias.n_dims != 0 &&
        (w->bias.n_dims != 1 || w->bias.shape[0] != d_out || w->bias.dtype != MZ_DTYPE_F32)) {
        return shape_error(s, op, "bias", &w->bias, d_out, 1);
    }
    return MZ_OK;
}

/* A bank's type and rows. */
static mz_status check_bank(mz_stream *s, const char *op, const mz_linear_bank *bank) {
    const mz_dtype_info *type = mz_dtype_get(bank->dtype);
    if (!type->is_float) {
        return mz_fail(&s->ctx->error, MZ_ERR_DTYPE,
                       "%s: expert weights are %s, expected a floating-point type", op, type->name);
    }
    if (bank->d_in % type->block_len != 0 || bank->ld % type->block_len != 0) {
        return mz_fail(&s->ctx->error, MZ_ERR_SHAPE,
                       "%s: expert weights are %s with rows of %lld elements, %lld apart, expected "
                       "multiples of %d",
                       op, type->name, (long long)bank->d_in, (long long)bank->ld, type->block_len);
    }
    return MZ_OK;
}

/* In measure mode an op only notes its scratch. Returns true when there is nothing to compute. */
static bool only_measured(mz_stream *s, mz_op_id op, const mz_op_size *size, mz_status *status) {
    *status = MZ_OK;
    if (!s->arena.measure) {
        return size->n_rows == 0;
    }
    if (s->backend->scratch_bytes != NULL) {
        const size_t mark = mz_arena_mark(&s->arena);
        void *unused = NULL;
        *status = mz_stream_take_bytes(s, s->backend->scratch_bytes(s, op, size), mz_op_name(op),
                                       &unused);
        mz_arena_release(&s->arena, mark);
    }
    return true;
}

static double clock_of(const mz_stream *s) {
    return s->profile != NULL ? mz_now_s() : 0;
}

static mz_status charge(mz_stream *s, mz_op_id op, double start, double flops, mz_status status) {
    if (s->profile != NULL) {
        if (status == MZ_OK && !s->backend->host_memory) {
            status = s->backend->synchronize(s); /* a device answers before it has finished */
        }
        s->profile->ops[op].n_calls++;
        s->profile->ops[op].seconds += mz_now_s() - start;
        s->profile->ops[op].flops += flops;
    }
    return status;
}

mz_status mz_op_linear(mz_stream *s, const mz_tensor *y, const mz_tensor *x, const mz_linear *w) {
    const mz_op_size size = {.n_rows = x->shape[0], .d_in = x->shape[1], .d_out = y->shape[1]};
    MZ_TRY(check(s, "linear", "x", x, size.n_rows, size.d_in));
    MZ_TRY(check(s, "linear", "y", y, size.n_rows, size.d_out));
    MZ_TRY(check_linear(s, "linear", w, size.d_out, size.d_in));
    if (w->deltas != NULL) {
        return mz_composed_linear(s, y, x, w);
    }
    mz_status status;
    if (only_measured(s, MZ_OP_LINEAR, &size, &status)) {
        return status;
    }
    const double start = clock_of(s);
    status = s->backend->linear(s, y, x, w);
    MZ_TRY(charge(s, MZ_OP_LINEAR, start,
                  2.0 * (double)size.n_rows * (double)size.d_in * (double)size.d_out, status));
    return s->tape != NULL ? mz_record_linear(s, y, x, w) : MZ_OK;
}

/* A vector of a norm: one for the row, or one for each of its groups. */
static mz_status check_norm_vector(mz_stream *s, const char *what, const mz_tensor *t,
                                   int64_t width, int64_t group) {
    const bool fits = t->n_dims == 1 && t->dtype == MZ_DTYPE_F32 &&
                      (t->shape[0] == width || (group > 0 && t->shape[0] == group));
    return t->n_dims == 0 || fits ? MZ_OK : shape_error(s, "norm", what, t, width, 1);
}

mz_status mz_op_norm(mz_stream *s, const mz_tensor *y, const mz_tensor *x, const mz_norm *norm) {
    const mz_op_size size = {.n_rows = x->shape[0], .d_in = x->shape[1]};
    MZ_TRY(check(s, "norm", "x", x, size.n_rows, size.d_in));
    MZ_TRY(check(s, "norm", "y", y, size.n_rows, size.d_in));
    MZ_TRY(check_norm_vector(s, "weight", &norm->weight, size.d_in, norm->group));
    MZ_TRY(check_norm_vector(s, "bias", &norm->bias, size.d_in, norm->group));
    if (norm->group < 0 || (norm->group > 0 && size.d_in % norm->group != 0)) {
        return mz_fail(&s->ctx->error, MZ_ERR_SHAPE,
                       "norm: width %lld is no multiple of the group %lld", (long long)size.d_in,
                       (long long)norm->group);
    }
    mz_status status;
    if (only_measured(s, MZ_OP_NORM, &size, &status)) {
        return status;
    }
    const double start = clock_of(s);
    status = s->backend->norm(s, y, x, norm);
    MZ_TRY(charge(s, MZ_OP_NORM, start, 4.0 * (double)size.n_rows * (double)size.d_in, status));
    return s->tape != NULL ? mz_record_norm(s, y, x, norm) : MZ_OK;
}

int64_t mz_rope_head_dim(const mz_rope_table *table) {
    return table->head_dim > 0 ? table->head_dim : 2 * table->half_dim;
}

mz_status mz_op_rope(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                     const mz_rope_table *table, const mz_rows *rows) {
    const int64_t head_dim = mz_rope_head_dim(table);
    const mz_op_size size = {.n_rows = rows->n_rows, .d_in = x->shape[1], .head_dim = head_dim};
    MZ_TRY(check(s, "rope", "x", x, size.n_rows, size.d_in));
    MZ_TRY(check(s, "rope", "y", y, size.n_rows, size.d_in));
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
    if (only_measured(s, MZ_OP_ROPE, &size, &status)) {
        return status;
    }
    const double start = clock_of(s);
    status = s->backend->rope(s, y, x, table, rows);
    MZ_TRY(charge(s, MZ_OP_ROPE, start, 3.0 * (double)size.n_rows * (double)size.d_in, status));
    return s->tape != NULL ? mz_record_rope(s, y, x, table, rows) : MZ_OK;
}

mz_status mz_op_softmax(mz_stream *s, const mz_tensor *y, const mz_tensor *x) {
    const mz_op_size size = {.n_rows = x->shape[0], .d_in = x->shape[1]};
    MZ_TRY(check(s, "softmax", "x", x, size.n_rows, size.d_in));
    MZ_TRY(check(s, "softmax", "y", y, size.n_rows, size.d_in));
    mz_status status;
    if (only_measured(s, MZ_OP_SOFTMAX, &size, &status)) {
        return status;
    }
    const double start = clock_of(s);
    status = s->backend->softmax(s, y, x);
    MZ_TRY(charge(s, MZ_OP_SOFTMAX, start, 4.0 * (double)size.n_rows * (double)size.d_in, status));
    return s->tape != NULL ? mz_record_softmax(s, y, x) : MZ_OK;
}

mz_status mz_op_gated_activation(mz_stream *s, const mz_tensor *y, const mz_tensor *gate,
                                 const mz_tensor *up, mz_activation activation) {
    const mz_op_size size = {.n_rows = y->shape[0], .d_in = y->shape[1]};
    MZ_TRY(check(s, "gated_activation", "y", y, size.n_rows, size.d_in));
    MZ_TRY(check(s, "gated_activation", "gate", gate, size.n_rows, size.d_in));
    if (up != NULL) {
        MZ_TRY(check(s, "gated_activation", "up", up, size.n_rows, size.d_in));
    }
    mz_status status;
    if (only_measured(s, MZ_OP_GATED_ACTIVATION, &size, &status)) {
        return status;
    }
    const double start = clock_of(s);
    status = s->backend->gated_activation(s, y, gate, up, activation);
    MZ_TRY(charge(s, MZ_OP_GATED_ACTIVATION, start, 5.0 * (double)size.n_rows * (double)size.d_in,
                  status));
    return s->tape != NULL ? mz_record_gated_activation(s, y, gate, up, activation) : MZ_OK;
}

mz_status mz_op_add(mz_stream *s, const mz_tensor *y, const mz_tensor *a, const mz_tensor *b,
                    float scale) {
    const mz_op_size size = {.n_rows = y->shape[0], .d_in = y->shape[1]};
    MZ_TRY(check(s, "add", "y", y, size.n_rows, size.d_in));
    MZ_TRY(check(s, "add", "a", a, size.n_rows, size.d_in));
    MZ_TRY(check(s, "add", "b", b, size.n_rows, size.d_in));
    mz_status status;
    if (only_measured(s, MZ_OP_ADD, &size, &status)) {
        return status;
    }
    const double start = clock_of(s);
    status = s->backend->add(s, y, a, b, scale);
    MZ_TRY(charge(s, MZ_OP_ADD, start, 2.0 * (double)size.n_rows * (double)size.d_in, status));
    return s->tape != NULL ? mz_record_add(s, y, a, b, scale) : MZ_OK;
}

/* A matrix of a type that holds weights. */
static mz_status check_table(mz_stream *s, const mz_tensor *x) {
    const mz_dtype_info *type = mz_dtype_get(x->dtype);
    if (x->n_dims != 2 || x->ld < x->shape[1]) {
        return shape_error(s, "gather_rows", "x", x, x->shape[0], x->shape[1]);
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
    MZ_TRY(check(s, "gather_rows", "y", y, size.n_rows, size.d_in));
    mz_status status;
    if (only_measured(s, MZ_OP_GATHER_ROWS, &size, &status)) {
        return status;
    }
    const double start = clock_of(s);
    status = s->backend->gather_rows(s, y, x, rows, scale);
    MZ_TRY(charge(s, MZ_OP_GATHER_ROWS, start, 0, status));
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
    MZ_TRY(check(s, "kv_write", "k", k, size.n_rows, width));
    MZ_TRY(check(s, "kv_write", "v", v, size.n_rows, cache->n_kv_heads * layout.head_dim_v));
    mz_status status;
    if (only_measured(s, MZ_OP_KV_WRITE, &size, &status)) {
        return status;
    }
    const double start = clock_of(s);
    status = s->backend->kv_write(s, cache, k, v, rows);
    return charge(s, MZ_OP_KV_WRITE, start, 0, status);
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
    if (only_measured(s, MZ_OP_KV_ROTATE, &size, &status)) {
        return status;
    }
    const double start = clock_of(s);
    status = s->backend->kv_rotate(s, cache, sequence, first_page, n_pages, table, n);
    return charge(s, MZ_OP_KV_ROTATE, start, 0, status);
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
    MZ_TRY(check(s, "attention", "q", q, n_rows, width));
    if (width % cache->head_dim != 0 || n_heads % cache->n_kv_heads != 0) {
        return mz_fail(
            &s->ctx->error, MZ_ERR_SHAPE,
            "attention: width %lld does not divide into heads of %lld over %lld kv heads",
            (long long)width, (long long)cache->head_dim, (long long)cache->n_kv_heads);
    }
    MZ_TRY(check(s, "attention", "y", y, n_rows, n_heads * layout.head_dim_v));
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
    if (only_measured(s, MZ_OP_ATTENTION, &size, &status)) {
        return status;
    }
    double n_keys = 0; /* positions are readable here only in host memory */
    for (int64_t i = 0; s->profile != NULL && s->backend->host_memory && i < rows->n_rows; i++) {
        const int64_t n = rows->position[i] + (int64_t)1;
        n_keys += (double)(rule->window > 0 && rule->window < n ? rule->window : n);
    }
    const double start = clock_of(s);
    status = s->backend->attention(s, y, q, cache, rows, rule);
    return charge(s, MZ_OP_ATTENTION, start,
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
    MZ_TRY(check(s, op, "q", &in->q, n_rows, q_width));
    MZ_TRY(check(s, op, "k", &in->k, n_rows, kv_width));
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
    MZ_TRY(check(s, op, "v", &in->v, n_rows, kv_width / d * d_v));
    MZ_TRY(check(s, op, "y", y, n_rows, q_width / d * d_v));
    MZ_TRY(check(s, op, "log_sums", log_sums, n_rows, q_width / d));
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
    if (only_measured(s, MZ_OP_SELF_ATTENTION, &size, &status)) {
        return status;
    }
    const bool counts = s->profile != NULL && s->backend->host_memory;
    const double flops = counts ? mz_self_attention_flops(rows, rule, in) : 0;
    const double start = clock_of(s);
    status = s->backend->training->self_attention(s, y, log_sums, in, rows, rule);
    MZ_TRY(charge(s, MZ_OP_SELF_ATTENTION, start, flops, status));
    return s->tape != NULL ? mz_record_self_attention(s, y, log_sums, in, rows, rule) : MZ_OK;
}

static mz_op_size routing_size(const mz_routing *r, int64_t d_in) {
    return (mz_op_size){
        .n_rows = r->n_tokens, .d_in = d_in, .n_experts = r->n_experts, .top_k = r->top_k};
}

static mz_status lacks(mz_stream *s, const char *op) {
    return mz_fail(&s->ctx->error, MZ_ERR_UNSUPPORTED, "backend %s lacks the op %s",
                   s->backend->name, op);
}

mz_status mz_op_mask_logits(mz_stream *s, const mz_tensor *logits, const mz_tensor *in,
                            const mz_router *router, const mz_rows *rows) {
    const mz_op_size size = {.n_rows = logits->shape[0], .n_experts = router->n_experts};
    MZ_TRY(check(s, "mask_logits", "logits", logits, size.n_rows, router->n_experts));
    for (int m = 0; m < MZ_MODALITY_COUNT; m++) {
        const mz_expert_range range = router->ranges[m];
        if (in[m].n_dims == 0) {
            continue;
        }
        MZ_TRY(check(s, "mask_logits", "logits of a modality", &in[m], size.n_rows, range.n));
        if (range.first < 0 || range.first > router->n_experts - range.n) {
            return mz_fail(&s->ctx->error, MZ_ERR_ARG,
                           "mask_logits: experts %d to %d of modality %d, there are %d",
                           range.first, range.first + range.n - 1, m, router->n_experts);
        }
    }
    if (s->backend->mask_logits == NULL) {
        return lacks(s, "mask_logits");
    }
    mz_status status;
    if (only_measured(s, MZ_OP_MASK_LOGITS, &size, &status)) {
        return status;
    }
    const double start = clock_of(s);
    status = s->backend->mask_logits(s, logits, in, router, rows);
    MZ_TRY(charge(s, MZ_OP_MASK_LOGITS, start, 0, status));
    return s->tape != NULL ? mz_record_mask_logits(s, logits, in, router, rows) : MZ_OK;
}

static mz_status check_router(mz_stream *s, const mz_router *router, const mz_routing *r) {
    MZ_TRY(check(s, "route", "logits", &r->logits, r->n_tokens, router->n_experts));
    if (router->n_experts > MZ_MAX_EXPERTS || router->top_k < 1 || router->top_k != r->top_k ||
        router->top_k > router->n_experts) {
        return mz_fail(&s->ctx->error, MZ_ERR_ARG,
                       "route: %d of %d experts in %d slots, of at most %d experts", router->top_k,
                       router->n_experts, r->top_k, (int)MZ_MAX_EXPERTS);
    }
    if (r->noise.n_dims > 0) {
        MZ_TRY(check(s, "route", "noise", &r->noise, r->n_tokens, router->n_experts));
    }
    if (r->rows.n_rows != 0 && r->rows.n_rows != r->n_tokens) {
        return mz_fail(&s->ctx->error, MZ_ERR_SHAPE, "route: %lld rows, expected %lld",
                       (long long)r->rows.n_rows, (long long)r->n_tokens);
    }
    return MZ_OK;
}

mz_status mz_op_route(mz_stream *s, const mz_router *router, const mz_routing *routing) {
    const mz_op_size size = routing_size(routing, routing->n_experts);
    MZ_TRY(check_router(s, router, routing));
    mz_status status;
    if (only_measured(s, MZ_OP_ROUTE, &size, &status)) {
        return status;
    }
    const double start = clock_of(s);
    status = s->backend->route(s, router, routing);
    MZ_TRY(charge(s, MZ_OP_ROUTE, start, 0, status));
    return s->tape != NULL ? mz_record_route(s, router, routing) : MZ_OK;
}

mz_status mz_op_dispatch(mz_stream *s, const mz_routing *routing) {
    const mz_op_size size = routing_size(routing, 0);
    mz_status status;
    if (only_measured(s, MZ_OP_DISPATCH, &size, &status)) {
        return status;
    }
    const double start = clock_of(s);
    status = s->backend->dispatch(s, routing);
    return charge(s, MZ_OP_DISPATCH, start, 0, status);
}

mz_status mz_op_grouped_linear(mz_stream *s, const mz_tensor *y, const mz_tensor *x,
                               const mz_linear_bank *bank, const mz_routing *routing, bool gather) {
    mz_op_size size = routing_size(routing, bank->d_in);
    const int64_t n_slots = routing->n_tokens * routing->top_k;
    size.n_rows = n_slots;
    size.d_out = bank->d_out;
    MZ_TRY(check(s, "grouped_linear", "x", x, gather ? routing->n_tokens : n_slots, bank->d_in));
    MZ_TRY(check(s, "grouped_linear", "y", y, n_slots, bank->d_out));
    MZ_TRY(check_bank(s, "grouped_linear", bank));
    if (bank->deltas != NULL) {
        return mz_composed_grouped_linear(s, y, x, bank, routing, gather);
    }
    mz_status status;
    if (only_measured(s, MZ_OP_GROUPED_LINEAR, &size, &status)) {
        return status;
    }
    const double start = clock_of(s);
    status = s->backend->grouped_linear(s, y, x, bank, routing, gather);
    MZ_TRY(charge(s, MZ_OP_GROUPED_LINEAR, start,
                  2.0 * (double)n_slots * (double)bank->d_in * (double)bank->d_out, status));
    return s->tape != NULL ? mz_record_grouped_linear(s, y, x, bank, routing, gather) : MZ_OK;
}

mz_status mz_op_plain_experts(mz_stream *s, const mz_tensor *expert_out, const mz_tensor *x,
                              const mz_plain_experts *plain, const mz_routing *routing) {
    const bool only_silent = plain->n_constant + plain->n_copy == 0;
    const int64_t width = expert_out->shape[1];
    const mz_op_size size = routing_size(routing, width);
    MZ_TRY(check(s, "plain_experts", "x", x, routing->n_tokens, only_silent ? x->shape[1] : width));
    MZ_TRY(check(s, "plain_experts", "expert_out", expert_out, routing->n_tokens * routing->top_k,
                 width));
    for (int32_t i = 0; i < plain->n_constant; i++) {
        const mz_constant_expert *c = &plain->constants[i];
        MZ_TRY(check(s, "plain_experts", "w_mix", &c->w_mix, 2, width));
        if (c->value.n_dims != 1 || c->value.shape[0] != width || c->value.dtype != MZ_DTYPE_F32 ||
            c->w_mix.ld != width) {
            return shape_error(s, "plain_experts", "value", &c->value, width, 1);
        }
    }
    if (s->backend->plain_experts == NULL) {
        return lacks(s, "plain_experts");
    }
    mz_status status;
    if (only_measured(s, MZ_OP_PLAIN_EXPERTS, &size, &status)) {
        return status;
    }
    const double start = clock_of(s);
    status = s->backend->plain_experts(s, expert_out, x, plain, routing);
    MZ_TRY(charge(s, MZ_OP_PLAIN_EXPERTS, start, 0, status));
    return s->tape != NULL ? mz_record_plain_experts(s, expert_out, x, plain, routing) : MZ_OK;
}

mz_status mz_op_combine(mz_stream *s, const mz_tensor *y, const mz_tensor *expert_out,
                        const mz_routing *routing, const mz_tensor *shared_out,
                        const mz_tensor *shared_logit) {
    const int64_t n = routing->n_tokens;
    const int64_t width = y->shape[1];
    const mz_op_size size = routing_size(routing, width);
    MZ_TRY(check(s, "combine", "y", y, n, width));
    MZ_TRY(check(s, "combine", "expert_out", expert_out, n * routing->top_k, width));
    if (shared_out != NULL) {
        MZ_TRY(check(s, "combine", "shared_out", shared_out, n, width));
    }
    if (shared_logit != NULL) {
        MZ_TRY(check(s, "combine", "shared_logit", shared_logit, n, 1));
    }
    mz_status status;
    if (only_measured(s, MZ_OP_COMBINE, &size, &status)) {
        return status;
    }
    const double start = clock_of(s);
    status = s->backend->combine(s, y, expert_out, routing, shared_out, shared_logit);
    MZ_TRY(charge(s, MZ_OP_COMBINE, start, 2.0 * (double)n * (double)width * (double)routing->top_k,
                  status));
    return s->tape != NULL ? mz_record_combine(s, y, expert_out, routing, shared_out, shared_logit)
                           : MZ_OK;
}

/* Whether a backend's own feed-forward, gated with SiLU, computes it. */
static bool ffn_is_plain(const mz_ffn *ffn) {
    return ffn->w_gate.weight.n_dims != 0 && ffn->activation == MZ_ACTIVATION_SILU;
}

static bool ffn_has_deltas(const mz_ffn *ffn) {
    return ffn->w_gate.deltas != NULL || ffn->w_up.deltas != NULL || ffn->w_down.deltas != NULL;
}

mz_status mz_op_linears(mz_stream *s, int n, const mz_tensor *const *y, const mz_tensor *x,
                        const mz_linear *const *w) {
    mz_op_size size = {.n_rows = x->shape[0], .d_in = x->shape[1]};
    bool one_by_one = s->backend->linears == NULL || s->tape != NULL;
    MZ_TRY(check(s, "linears", "x", x, size.n_rows, size.d_in));
    if (n < 1 || n > MZ_MAX_LINEARS) {
        return mz_fail(&s->ctx->error, MZ_ERR_ARG, "linears: %d products, expected 1 to %d", n,
                       (int)MZ_MAX_LINEARS);
    }
    for (int i = 0; i < n; i++) {
        const int64_t d_out = y[i]->shape[1];
        MZ_TRY(check(s, "linears", "y", y[i], size.n_rows, d_out));
        MZ_TRY(check_linear(s, "linears", w[i], d_out, size.d_in));
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
    if (only_measured(s, MZ_OP_LINEAR, &size, &status)) {
        return status;
    }
    const double start = clock_of(s);
    status = s->backend->linears(s, n, y, x, w);
    return charge(s, MZ_OP_LINEAR, start,
                  2.0 * (double)size.n_rows * (double)size.d_in * (double)size.d_out, status);
}

mz_status mz_op_ffn(mz_stream *s, const mz_tensor *y, const mz_tensor *x, const mz_ffn *ffn) {
    const int64_t d = x->shape[1];
    const int64_t d_ff = ffn->w_up.weight.shape[0];
    const mz_op_size size = {.n_rows = x->shape[0], .d_in = d, .d_out = d, .d_ff = d_ff};
    MZ_TRY(check(s, "ffn", "x", x, size.n_rows, d));
    MZ_TRY(check(s, "ffn", "y", y, size.n_rows, d));
    if (ffn->w_gate.weight.n_dims != 0) {
        MZ_TRY(check_linear(s, "ffn", &ffn->w_gate, d_ff, d));
    }
    MZ_TRY(check_linear(s, "ffn", &ffn->w_up, d_ff, d));
    MZ_TRY(check_linear(s, "ffn", &ffn->w_down, d, d_ff));
    if (s->backend->ffn == NULL || s->tape != NULL || !ffn_is_plain(ffn) || ffn_has_deltas(ffn)) {
        return mz_composed_ffn(s, y, x, ffn);
    }
    mz_status status;
    if (only_measured(s, MZ_OP_FFN, &size, &status)) {
        return status;
    }
    const double start = clock_of(s);
    status = s->backend->ffn(s, y, x, ffn);
    return charge(s, MZ_OP_FFN, start, 6.0 * (double)size.n_rows * (double)d * (double)d_ff,
                  status);
}

/* An expert matrix of the layer: [d_out, d_in] for each of n experts. */
static mz_status check_expert_bank(mz_stream *s, const char *name, const mz_linear_bank *bank,
                                   int64_t n, int64_t d_out, int64_t d_in) {
    if (bank->n_experts != n || bank->d_in != d_in || bank->d_out != d_out) {
        return mz_fail(&s->ctx->error, MZ_ERR_SHAPE,
                       "moe: expert matrix %s is %lld x [%lld, %lld], expected %lld x [%lld, %lld]",
                       name, (long long)bank->n_experts, (long long)bank->d_out,
                       (long long)bank->d_in, (long long)n, (long long)d_out, (long long)d_in);
    }
    return check_bank(s, "moe", bank);
}

static mz_status check_experts(mz_stream *s, const mz_moe *moe, int64_t d_in, int64_t d_out) {
    const mz_plain_experts *plain = &moe->plain;
    const int64_t n = moe->router.n_experts - plain->n_constant - plain->n_copy - plain->n_zero;
    if (n < 0 || moe->router.n_zero != plain->n_zero ||
        (plain->n_constant + plain->n_copy > 0 && (moe->lora != NULL || d_in != d_out))) {
        return mz_fail(&s->ctx->error, MZ_ERR_ARG,
                       "moe: %d constant, %d copying and %d silent experts of %d (%d for the "
                       "router) do not go with these matrices",
                       plain->n_constant, plain->n_copy, plain->n_zero, moe->router.n_experts,
                       moe->router.n_zero);
    }
    if (moe->lora != NULL) {
        return MZ_OK; /* its products are checked one by one */
    }
    const int64_t d_ff = moe->w_up.d_out;
    if (moe->w_gate.n_experts > 0) {
        MZ_TRY(check_expert_bank(s, "gate", &moe->w_gate, n, d_ff, d_in));
    }
    MZ_TRY(check_expert_bank(s, "up", &moe->w_up, n, d_ff, d_in));
    return check_expert_bank(s, "down", &moe->w_down, n, d_out, d_ff);
}

static mz_status check_moe(mz_stream *s, const mz_tensor *y, const mz_tensor *x, const mz_moe *moe,
                           const mz_routing *routing) {
    const int64_t n = x->shape[0];
    const int64_t d = x->shape[1];
    MZ_TRY(check(s, "moe", "x", x, n, d));
    MZ_TRY(check(s, "moe", "y", y, n, y->shape[1]));
    MZ_TRY(check(s, "moe", "logits", &routing->logits, n, moe->router.n_experts));
    if (moe->router_of == NULL) {
        const bool deep = moe->router_hidden.weight.n_dims > 0;
        MZ_TRY(check_linear(s, "moe router", &moe->router_proj, moe->router.n_experts,
                            deep ? moe->router_hidden.weight.shape[0] : d));
    }
    return check_experts(s, moe, d, y->shape[1]);
}

static bool moe_has_deltas(const mz_moe *moe) {
    return moe->router_proj.deltas != NULL || moe->w_gate.deltas != NULL ||
           moe->w_up.deltas != NULL || moe->w_down.deltas != NULL ||
           (moe->has_shared && (moe->shared_gate.deltas != NULL || ffn_has_deltas(&moe->shared)));
}

/* What a backend's own version need know: one linear router, experts gated with SiLU and without
 * biases, of the width of x. */
static bool moe_is_common(const mz_moe *moe, bool same_width) {
    const mz_plain_experts *plain = &moe->plain;
    const bool one_router = moe->router_hidden.weight.n_dims == 0 &&
                            moe->router_residual.weight.n_dims == 0 && moe->router_of == NULL &&
                            !moe->router.by_modality;
    const bool gated = moe->w_gate.n_experts > 0 && moe->w_gate.bias == NULL &&
                       moe->w_up.bias == NULL && moe->w_down.bias == NULL &&
                       (!moe->has_shared || ffn_is_plain(&moe->shared));
    return moe->activation == MZ_ACTIVATION_SILU && one_router && gated && same_width &&
           moe->lora == NULL && plain->n_constant + plain->n_copy + plain->n_zero == 0 &&
           (moe->input_scale == 0 || moe->input_scale == 1);
}

mz_status mz_op_moe(mz_stream *s, const mz_tensor *y, const mz_tensor *x, const mz_moe *moe,
                    const mz_routing *routing, mz_moe_probe *probe) {
    MZ_TRY(check_moe(s, y, x, moe, routing));
    if (s->backend->moe == NULL || s->tape != NULL || probe != NULL || moe_has_deltas(moe) ||
        !moe_is_common(moe, x->shape[1] == y->shape[1])) {
        return mz_composed_moe(s, y, x, moe, routing, probe);
    }
    mz_op_size size = routing_size(routing, x->shape[1]);
    size.d_out = size.d_in;
    size.d_ff = moe->w_gate.d_out;
    size.d_ff_shared = moe->has_shared ? moe->shared.w_up.weight.shape[0] : 0;
    mz_status status;
    if (only_measured(s, MZ_OP_MOE, &size, &status)) {
        return status;
    }
    const double width = (double)size.d_ff * routing->top_k + (double)size.d_ff_shared;
    const double start = clock_of(s);
    status = s->backend->moe(s, y, x, moe, routing);
    return charge(s, MZ_OP_MOE, start,
                  (double)size.n_rows * (double)size.d_in * (6.0 * width + 2.0 * size.n_experts),
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

mz_status mz_routing_take(mz_stream *s, int64_t n_tokens, const mz_router *router,
                          mz_routing *out) {
    const size_t n_slots = (size_t)n_tokens * (size_t)router->top_k;
    mz_routing r = {.n_tokens = n_tokens, .n_experts = router->n_experts, .top_k = router->top_k};
    void *ids = NULL;
    void *weights = NULL;
    void *offsets = NULL;
    void *row_index = NULL;
    void *slot_row = NULL;
    MZ_TRY(mz_stream_take(s, n_tokens, router->n_experts, "router logits", &r.logits));
    MZ_TRY(mz_stream_take_bytes(s, n_slots * sizeof(int32_t), "expert ids", &ids));
    MZ_TRY(mz_stream_take_bytes(s, n_slots * sizeof(float), "gate weights", &weights));
    MZ_TRY(mz_stream_take_bytes(s, ((size_t)router->n_experts + 1) * sizeof(int32_t),
                                "expert offsets", &offsets));
    MZ_TRY(mz_stream_take_bytes(s, n_slots * sizeof(int32_t), "row index", &row_index));
    MZ_TRY(mz_stream_take_bytes(s, n_slots * sizeof(int32_t), "slot rows", &slot_row));
    r.expert_ids = ids;
    r.gate_weights = weights;
    r.expert_offsets = offsets;
    r.row_index = row_index;
    r.slot_row = slot_row;
    *out = r;
    return MZ_OK;
}
