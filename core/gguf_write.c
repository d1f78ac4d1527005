#include "core/gguf_write.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/file.h"
#include "core/gguf_internal.h"
#include "core/threads.h"

/* Rows are converted in pieces, whole blocks each, several pieces at a time. */
enum { PIECE = 16384, BATCH = 64 };

/* ---- metadata ---- */

static mz_status put(mz_gguf_meta *m, const void *data, size_t n) {
    void *bytes = m->bytes;
    MZ_TRY(mz_grow(m->ctx, &bytes, &m->capacity, m->n_bytes + n, 1, "GGUF header"));
    m->bytes = bytes;
    if (n > 0) {
        memcpy(m->bytes + m->n_bytes, data, n);
    }
    m->n_bytes += n;
    return MZ_OK;
}

static mz_status put_number(mz_gguf_meta *m, uint64_t value, int n_bytes) {
    uint8_t bytes[8];
    for (int i = 0; i < n_bytes; i++) {
        bytes[i] = (uint8_t)(value >> (8 * i));
    }
    return put(m, bytes, (size_t)n_bytes);
}

static mz_status put_f32(mz_gguf_meta *m, float value) {
    uint32_t bits = 0;
    memcpy(&bits, &value, sizeof bits);
    return put_number(m, bits, 4);
}

static mz_status put_text(mz_gguf_meta *m, const char *text, size_t n) {
    MZ_TRY(put_number(m, n, 8));
    return put(m, text, n);
}

static mz_status put_key(mz_gguf_meta *m, const char *key) {
    const size_t n = strlen(key);
    if (n < 1 || n > MZ_GGUF_MAX_NAME_BYTES) {
        return mz_fail(&m->ctx->error, MZ_ERR_LIMIT, "GGUF key of %zu bytes, expected 1 to %d", n,
                       MZ_GGUF_MAX_NAME_BYTES);
    }
    m->n_keys++;
    return put_text(m, key, n);
}

static mz_status begin(mz_gguf_meta *m, const char *key, mz_gguf_type type) {
    MZ_TRY(put_key(m, key));
    return put_number(m, type, 4);
}

mz_status mz_gguf_meta_int(mz_gguf_meta *meta, const char *key, mz_gguf_type type, int64_t value) {
    MZ_TRY(begin(meta, key, type));
    return put_number(meta, (uint64_t)value, (int)mz_gguf_type_bytes((uint32_t)type));
}

mz_status mz_gguf_meta_f32(mz_gguf_meta *meta, const char *key, float value) {
    MZ_TRY(begin(meta, key, MZ_GGUF_F32));
    return put_f32(meta, value);
}

mz_status mz_gguf_meta_bool(mz_gguf_meta *meta, const char *key, bool value) {
    MZ_TRY(begin(meta, key, MZ_GGUF_BOOL));
    return put_number(meta, value, 1);
}

mz_status mz_gguf_meta_text(mz_gguf_meta *meta, const char *key, const char *text, size_t n_bytes) {
    MZ_TRY(begin(meta, key, MZ_GGUF_STRING));
    return put_text(meta, text, n_bytes);
}

mz_status mz_gguf_meta_array(mz_gguf_meta *meta, const char *key, mz_gguf_type element, int64_t n) {
    MZ_TRY(begin(meta, key, MZ_GGUF_ARRAY));
    MZ_TRY(put_number(meta, element, 4));
    return put_number(meta, (uint64_t)n, 8);
}

mz_status mz_gguf_meta_add_i32(mz_gguf_meta *meta, int32_t value) {
    return put_number(meta, (uint32_t)value, 4);
}

mz_status mz_gguf_meta_add_f32(mz_gguf_meta *meta, float value) {
    return put_f32(meta, value);
}

mz_status mz_gguf_meta_add_text(mz_gguf_meta *meta, const char *text, size_t n_bytes) {
    return put_text(meta, text, n_bytes);
}

mz_status mz_gguf_meta_copy(mz_gguf_meta *meta, const mz_gguf *gguf, const char *key) {
    const mz_gguf_entry *e = mz_gguf_find_entry(gguf, key);
    if (e == NULL) {
        return mz_fail(&meta->ctx->error, MZ_ERR_MISSING, "%s: no key %s", mz_gguf_path(gguf), key);
    }
    MZ_TRY(put_key(meta, key));
    return put(meta, e->raw, e->n_raw_bytes);
}

void mz_gguf_meta_free(mz_gguf_meta *meta) {
    if (meta->ctx != NULL) {
        mz_free(meta->ctx, meta->bytes);
    }
    *meta = (mz_gguf_meta){.ctx = meta->ctx};
}

/* ---- the header ---- */

static size_t padded(size_t n) {
    return (n + MZ_GGUF_ALIGNMENT - 1) / MZ_GGUF_ALIGNMENT * MZ_GGUF_ALIGNMENT;
}

static mz_status check_parts(mz_error *err, const mz_gguf_item *item) {
    const mz_tensor *first = &item->parts[0];
    const mz_dtype_info *to = mz_dtype_get(item->dtype);
    int64_t n = 0;
    for (int64_t i = 0; i < item->n_parts; i++) {
        const mz_tensor *t = &item->parts[i];
        if (mz_tensor_n_cols(t) != mz_tensor_n_cols(first) ||
            mz_tensor_n_rows(t) != mz_tensor_n_rows(first)) {
            return mz_fail(err, MZ_ERR_SHAPE, "%s: its parts differ in shape", item->name);
        }
        const mz_dtype_info *from = mz_dtype_get(t->dtype);
        const bool as_is = t->dtype == item->dtype && item->offset == 0;
        if (!from->is_float || (!as_is && to->from_f32 == NULL)) {
            return mz_fail(err, MZ_ERR_DTYPE, "%s: %s cannot be stored as %s", item->name,
                           from->name, to->name);
        }
        n += mz_tensor_n_elements(t);
    }
    int64_t expected = 1;
    for (int i = 0; i < item->n_dims; i++) {
        expected *= item->shape[i];
    }
    if (n != expected || mz_tensor_n_cols(first) % to->block_len != 0) {
        char text[128];
        return mz_fail(err, MZ_ERR_SHAPE, "%s: %lld values in rows of %lld for %s %s", item->name,
                       (long long)n, (long long)mz_tensor_n_cols(first), to->name,
                       mz_shape_text(text, sizeof text, item->shape, item->n_dims));
    }
    return MZ_OK;
}

static mz_status check_item(mz_error *err, const mz_gguf_item *item, size_t *n_bytes) {
    uint32_t number = 0;
    char text[128];
    const size_t n = strlen(item->name);
    if (n < 1 || n > MZ_GGUF_MAX_NAME_BYTES) {
        return mz_fail(err, MZ_ERR_LIMIT, "tensor name of %zu bytes, expected 1 to %d", n,
                       MZ_GGUF_MAX_NAME_BYTES);
    }
    if (!mz_gguf_dtype_number(item->dtype, &number, NULL)) {
        return mz_fail(err, MZ_ERR_DTYPE, "%s: GGUF files do not have %s", item->name,
                       mz_dtype_get(item->dtype)->name);
    }
    bool valid = item->n_dims >= 1 && item->n_dims <= MZ_MAX_DIMS && item->n_parts >= 1;
    for (int i = 0; i < item->n_dims && valid; i++) {
        valid = item->shape[i] >= 1;
    }
    if (!valid || !mz_weight_n_bytes(item->dtype, item->shape, item->n_dims, n_bytes)) {
        return mz_fail(err, MZ_ERR_SHAPE, "%s: %s cannot be stored as %s", item->name,
                       mz_shape_text(text, sizeof text, item->shape, valid ? item->n_dims : 0),
                       mz_dtype_get(item->dtype)->name);
    }
    return check_parts(err, item);
}

static mz_status put_item(mz_gguf_meta *h, const mz_gguf_item *item, size_t *offset) {
    size_t n_bytes = 0;
    uint32_t number = 0;
    MZ_TRY(check_item(&h->ctx->error, item, &n_bytes));
    (void)mz_gguf_dtype_number(item->dtype, &number, NULL);
    MZ_TRY(put_text(h, item->name, strlen(item->name)));
    MZ_TRY(put_number(h, (uint64_t)item->n_dims, 4));
    for (int i = item->n_dims - 1; i >= 0; i--) {
        MZ_TRY(put_number(h, (uint64_t)item->shape[i], 8));
    }
    MZ_TRY(put_number(h, number, 4));
    MZ_TRY(put_number(h, *offset, 8));
    *offset = padded(*offset + n_bytes);
    return MZ_OK;
}

static mz_status make_header(mz_gguf_meta *h, const mz_gguf_meta *meta, const mz_gguf_item *items,
                             int64_t n_items) {
    static const uint8_t zeros[MZ_GGUF_ALIGNMENT];
    size_t offset = 0;
    MZ_TRY(put(h, "GGUF", 4));
    MZ_TRY(put_number(h, 3, 4));
    MZ_TRY(put_number(h, (uint64_t)n_items, 8));
    MZ_TRY(put_number(h, (uint64_t)meta->n_keys, 8));
    MZ_TRY(put(h, meta->bytes, meta->n_bytes));
    for (int64_t i = 0; i < n_items; i++) {
        MZ_TRY(put_item(h, &items[i], &offset));
    }
    return put(h, zeros, padded(h->n_bytes) - h->n_bytes);
}

/* ---- values ---- */

typedef struct writer {
    mz_context *ctx;
    FILE *stream;
    const mz_gguf_watch *watch;
    float *wide;     /* [BATCH][PIECE] values */
    float *back;     /* [BATCH][PIECE] as stored */
    uint8_t *narrow; /* [BATCH][PIECE] of the widest stored type */
    double squares[BATCH], errors[BATCH];
} writer;

static mz_status write_bytes(const writer *w, const void *data, size_t n) {
    errno = 0;
    if (n > 0 && fwrite(data, 1, n, w->stream) != n) {
        return mz_fail(&w->ctx->error, MZ_ERR_IO, "cannot write: %s",
                       errno != 0 ? strerror(errno) : "the write was cut short");
    }
    return MZ_OK;
}

/* Pieces of an item: unit u is piece u % per_row of row u / per_row of all parts. */
typedef struct batch {
    writer *w;
    const mz_gguf_item *item;
    int64_t first; /* unit */
    int64_t per_row, rows_per_part, n_cols;
} batch;

static const uint8_t *row_at(const mz_gguf_item *item, int64_t rows_per_part, int64_t row,
                             const mz_tensor **part) {
    const int64_t within = row % rows_per_part;
    *part = &item->parts[row / rows_per_part];
    return mz_tensor_row(*part, item->row_order != NULL ? item->row_order[within] : within);
}

static int64_t piece_length(const batch *b, int64_t unit) {
    const int64_t begin = unit % b->per_row * PIECE;
    return b->n_cols - begin < PIECE ? b->n_cols - begin : PIECE;
}

static void convert_pieces(void *arg, int64_t begin, int64_t end, int thread) {
    const batch *b = arg;
    const mz_dtype_info *to = mz_dtype_get(b->item->dtype);
    (void)thread;
    for (int64_t k = begin; k < end; k++) {
        const int64_t unit = b->first + k;
        const int64_t n = piece_length(b, unit);
        const mz_tensor *part = NULL;
        const uint8_t *row = row_at(b->item, b->rows_per_part, unit / b->per_row, &part);
        const mz_dtype_info *from = mz_dtype_get(part->dtype);
        const int64_t block = unit % b->per_row * PIECE / from->block_len;
        float *wide = b->w->wide + k * PIECE;
        float *back = b->w->back + k * PIECE;
        uint8_t *narrow = b->w->narrow + (size_t)k * PIECE * sizeof(float);
        from->to_f32(wide, row + (size_t)block * (size_t)from->block_bytes, n);
        for (int64_t i = 0; i < n && b->item->offset != 0; i++) {
            wide[i] += b->item->offset;
        }
        to->from_f32(narrow, wide, n);
        to->to_f32(back, narrow, n);
        double squares = 0;
        double errors = 0;
        for (int64_t i = 0; i < n; i++) {
            const double difference = (double)back[i] - (double)wide[i];
            squares += (double)wide[i] * (double)wide[i];
            errors += difference * difference;
        }
        b->w->squares[k] = squares;
        b->w->errors[k] = errors;
    }
}

static mz_status passed(const writer *w, int64_t i, double part) {
    if (w->watch != NULL && !w->watch->passed(w->watch->self, i, part)) {
        return mz_fail(&w->ctx->error, MZ_ERR_INTERRUPTED, "interrupted");
    }
    return MZ_OK;
}

static mz_status write_converted(writer *w, mz_gguf_item *item, int64_t index, batch *b,
                                 int64_t n_rows) {
    const mz_dtype_info *to = mz_dtype_get(item->dtype);
    const int64_t n_units = n_rows * b->per_row;
    for (b->first = 0; b->first < n_units; b->first += BATCH) {
        const int64_t n = n_units - b->first < BATCH ? n_units - b->first : BATCH;
        mz_pool_run(w->ctx->pool, n, 1, convert_pieces, b);
        for (int64_t k = 0; k < n; k++) {
            const int64_t n_blocks = piece_length(b, b->first + k) / to->block_len;
            MZ_TRY(write_bytes(w, w->narrow + (size_t)k * PIECE * sizeof(float),
                               (size_t)n_blocks * (size_t)to->block_bytes));
            item->sum_squares += w->squares[k];
            item->sum_squared_errors += w->errors[k];
        }
        if (!isfinite(item->sum_squares) || !isfinite(item->sum_squared_errors)) {
            return mz_fail(&w->ctx->error, MZ_ERR_FORMAT,
                           "tensor %s: values that are not finite, or not as %s", item->name,
                           to->name);
        }
        MZ_TRY(passed(w, index, (double)(b->first + n) / (double)n_units));
    }
    return MZ_OK;
}

static bool is_stored_as_is(const mz_gguf_item *item) {
    for (int64_t i = 0; i < item->n_parts; i++) {
        if (item->parts[i].dtype != item->dtype) {
            return false;
        }
    }
    return item->offset == 0;
}

static mz_status write_item(writer *w, mz_gguf_item *item, int64_t index) {
    static const uint8_t zeros[MZ_GGUF_ALIGNMENT];
    const mz_dtype_info *to = mz_dtype_get(item->dtype);
    const int64_t n_cols = mz_tensor_n_cols(&item->parts[0]);
    batch b = {.w = w,
               .item = item,
               .per_row = (n_cols + PIECE - 1) / PIECE,
               .rows_per_part = mz_tensor_n_rows(&item->parts[0]),
               .n_cols = n_cols};
    const int64_t n_rows = b.rows_per_part * item->n_parts;
    const size_t row_bytes = (size_t)(n_cols / to->block_len) * (size_t)to->block_bytes;
    item->sum_squares = 0;
    item->sum_squared_errors = 0;
    if (is_stored_as_is(item)) {
        for (int64_t i = 0; i < n_rows; i++) {
            const mz_tensor *part = NULL;
            MZ_TRY(write_bytes(w, row_at(item, b.rows_per_part, i, &part), row_bytes));
        }
        MZ_TRY(passed(w, index, 1));
    } else {
        MZ_TRY(write_converted(w, item, index, &b, n_rows));
    }
    const size_t n_bytes = (size_t)n_rows * row_bytes;
    return write_bytes(w, zeros, padded(n_bytes) - n_bytes);
}

static mz_status write_all(writer *w, const mz_gguf_meta *header, mz_gguf_item *items,
                           int64_t n_items) {
    MZ_TRY(write_bytes(w, header->bytes, header->n_bytes));
    for (int64_t i = 0; i < n_items; i++) {
        MZ_TRY(write_item(w, &items[i], i));
    }
    return MZ_OK;
}

static mz_status write_file(writer *w, const char *path, const mz_gguf_meta *header,
                            mz_gguf_item *items, int64_t n_items) {
    mz_output out = {0};
    MZ_TRY(mz_output_open(w->ctx, path, &out));
    w->stream = out.stream;
    const mz_status status = write_all(w, header, items, n_items);
    if (status == MZ_OK) {
        return mz_output_commit(w->ctx, &out);
    }
    (void)mz_fail_prefix(&w->ctx->error, "%s", path);
    mz_output_abort(w->ctx, &out);
    return status;
}

mz_status mz_gguf_write(mz_context *ctx, const char *path, const mz_gguf_meta *meta,
                        mz_gguf_item *items, int64_t n_items, const mz_gguf_watch *watch) {
    enum { BUFFER = BATCH * PIECE };
    mz_gguf_meta header = {.ctx = ctx};
    void *memory = NULL;
    mz_status status = make_header(&header, meta, items, n_items);
    if (status != MZ_OK) {
        (void)mz_fail_prefix(&ctx->error, "%s", path);
    } else {
        status = mz_alloc(ctx, 3 * BUFFER * sizeof(float), "conversion buffer", &memory);
    }
    if (status == MZ_OK) {
        float *wide = memory;
        writer w = {.ctx = ctx,
                    .watch = watch,
                    .wide = wide,
                    .back = wide + BUFFER,
                    .narrow = (uint8_t *)(wide + 2 * (size_t)BUFFER)};
        status = write_file(&w, path, &header, items, n_items);
    }
    mz_free(ctx, memory);
    mz_gguf_meta_free(&header);
    return status;
}
