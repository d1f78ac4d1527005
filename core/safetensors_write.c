#include "core/safetensors_write.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/weights_internal.h"

enum { LENGTH_BYTES = 8, HEADER_ALIGN = 8, PIECE = 16384 /* values; whole blocks */ };

/* The name of a type, NULL where the format has none, and its place when tensors are sorted by
 * falling type. */
static const struct {
    const char *name;
    int rank;
} dtypes[MZ_DTYPE_COUNT] = {
    [MZ_DTYPE_I64] = {"I64", 5},   [MZ_DTYPE_F32] = {"F32", 4}, [MZ_DTYPE_I32] = {"I32", 3},
    [MZ_DTYPE_BF16] = {"BF16", 2}, [MZ_DTYPE_F16] = {"F16", 1}, [MZ_DTYPE_U8] = {"U8", 0},
};

static const mz_safetensors_item *item_at(const void *p) {
    return *(const mz_safetensors_item *const *)p;
}

static int by_type_and_name(const void *a, const void *b) {
    const mz_safetensors_item *x = item_at(a);
    const mz_safetensors_item *y = item_at(b);
    const int difference = dtypes[y->dtype].rank - dtypes[x->dtype].rank;
    return difference != 0 ? difference : strcmp(x->name, y->name);
}

static mz_status out_of_memory(mz_error *err) {
    return mz_fail(err, MZ_ERR_NOMEM, "out of memory for the header of a safetensors file");
}

/* Adds `value` (taken over; NULL when it could not be made) under a key that must be UTF-8 and
 * new. */
static mz_status add(mz_error *err, json_t *object, const char *key, json_t *value) {
    if (json_object_get(object, key) != NULL) {
        json_decref(value);
        return mz_fail(err, MZ_ERR_ARG, "%s is there twice", key);
    }
    if (value == NULL || json_object_set_new(object, key, value) != 0) {
        return out_of_memory(err);
    }
    return MZ_OK;
}

static mz_status check_utf8(mz_error *err, const char *text) {
    json_t *string = json_string(text); /* refuses other encodings */
    if (string == NULL) {
        string = json_string_nocheck(text);
        if (string == NULL) {
            return out_of_memory(err);
        }
        json_decref(string);
        return mz_fail(err, MZ_ERR_ARG, "%s: not UTF-8", text);
    }
    json_decref(string);
    return MZ_OK;
}

static mz_status check_item(mz_error *err, const mz_safetensors_item *item, size_t *n_bytes) {
    const mz_tensor *t = &item->tensor;
    MZ_TRY(check_utf8(err, item->name));
    if (t->n_dims < 1 || t->n_dims > MZ_MAX_DIMS) {
        return mz_fail(err, MZ_ERR_SHAPE, "%s: %d dimensions, expected 1 to %d", item->name,
                       t->n_dims, MZ_MAX_DIMS);
    }
    const mz_dtype_info *from = mz_dtype_get(t->dtype);
    const mz_dtype_info *to = mz_dtype_get(item->dtype);
    if (dtypes[item->dtype].name == NULL ||
        (t->dtype != item->dtype && !(from->is_float && to->is_float))) {
        return mz_fail(err, MZ_ERR_DTYPE, "%s: %s cannot be stored as %s", item->name, from->name,
                       to->name);
    }
    if (!mz_weight_n_bytes(item->dtype, t->shape, t->n_dims, n_bytes)) {
        return mz_fail(err, MZ_ERR_LIMIT, "%s: more bytes than memory can address", item->name);
    }
    return MZ_OK;
}

/* {"dtype": ..., "shape": [...], "data_offsets": [begin, end]}, or NULL without memory. */
static json_t *describe(const mz_safetensors_item *item, size_t begin, size_t end) {
    json_t *shape = json_array();
    for (int i = 0; i < item->tensor.n_dims; i++) {
        if (json_array_append_new(shape, json_integer(item->tensor.shape[i])) != 0) {
            json_decref(shape);
            return NULL;
        }
    }
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtypes[item->dtype].name, "shape", shape,
                     "data_offsets", (json_int_t)begin, (json_int_t)end);
}

static mz_status fill_header(mz_error *err, json_t *header, const mz_safetensors_item *const *items,
                             int64_t n_items, const mz_safetensors_text *texts, int64_t n_texts) {
    json_t *metadata = json_pack("{s:s}", "format", "pt");
    MZ_TRY(add(err, header, "__metadata__", metadata));
    for (int64_t i = 0; i < n_texts; i++) {
        MZ_TRY(check_utf8(err, texts[i].key));
        MZ_TRY(check_utf8(err, texts[i].value));
        MZ_TRY(add(err, metadata, texts[i].key, json_string(texts[i].value)));
    }
    size_t begin = 0;
    for (int64_t i = 0; i < n_items; i++) {
        size_t n_bytes = 0;
        MZ_TRY(check_item(err, items[i], &n_bytes));
        if (n_bytes > (size_t)INT64_MAX - begin) {
            return mz_fail(err, MZ_ERR_LIMIT, "more bytes than a file can hold");
        }
        MZ_TRY(add(err, header, items[i]->name, describe(items[i], begin, begin + n_bytes)));
        begin += n_bytes;
    }
    return MZ_OK;
}

/* The header's text, to be released with free(). */
static mz_status make_header(mz_error *err, const mz_safetensors_item *const *items,
                             int64_t n_items, const mz_safetensors_text *texts, int64_t n_texts,
                             char **out) {
    json_t *header = json_object();
    if (header == NULL) {
        return out_of_memory(err);
    }
    const mz_status status = fill_header(err, header, items, n_items, texts, n_texts);
    char *text = status == MZ_OK ? json_dumps(header, JSON_COMPACT) : NULL;
    json_decref(header);
    MZ_TRY(status);
    if (text == NULL) {
        return out_of_memory(err);
    }
    if (strlen(text) > MZ_WEIGHTS_MAX_HEADER - HEADER_ALIGN) {
        const size_t n = strlen(text);
        free(text);
        return mz_fail(err, MZ_ERR_LIMIT, "header of %zu bytes, the limit is %d", n,
                       MZ_WEIGHTS_MAX_HEADER - HEADER_ALIGN);
    }
    *out = text;
    return MZ_OK;
}

/* What converting needs; buffers of PIECE values. */
typedef struct writer {
    mz_context *ctx;
    FILE *stream;
    float *wide;
    unsigned char *narrow;
} writer;

/* Stops at the first write that fails, where errno still says why: a model is long, and a full disk
 * would be asked for every piece of it. */
static mz_status put(const writer *w, const void *data, size_t n_bytes) {
    if (w->ctx->stopped != NULL && w->ctx->stopped()) {
        return mz_fail(&w->ctx->error, MZ_ERR_INTERRUPTED, "interrupted");
    }
    errno = 0;
    if (n_bytes > 0 && fwrite(data, 1, n_bytes, w->stream) != n_bytes) {
        return mz_fail(&w->ctx->error, MZ_ERR_IO, "cannot write: %s",
                       errno != 0 ? strerror(errno) : "the write was cut short");
    }
    return MZ_OK;
}

static mz_status put_converted(const writer *w, const unsigned char *data, int64_t n,
                               const mz_safetensors_item *item) {
    const mz_dtype_info *from = mz_dtype_get(item->tensor.dtype);
    const mz_dtype_info *to = mz_dtype_get(item->dtype);
    for (int64_t done = 0; done < n; done += PIECE) {
        const int64_t piece = n - done < PIECE ? n - done : PIECE;
        from->to_f32(w->wide, data + done / from->block_len * from->block_bytes, piece);
        to->from_f32(w->narrow, w->wide, piece);
        MZ_TRY(put(w, w->narrow, (size_t)piece * (size_t)to->block_bytes));
    }
    return MZ_OK;
}

static mz_status put_tensor(const writer *w, const mz_safetensors_item *item) {
    const mz_tensor *t = &item->tensor;
    const size_t size =
        (size_t)mz_dtype_get(t->dtype)->block_bytes; /* where nothing is converted */
    const bool dense = t->ld == mz_tensor_n_cols(t);
    const int64_t n_runs = dense ? 1 : mz_tensor_n_rows(t);
    const int64_t n = dense ? mz_tensor_n_elements(t) : mz_tensor_n_cols(t);
    for (int64_t i = 0; i < n_runs && n > 0; i++) {
        const unsigned char *run = mz_tensor_row(t, i);
        MZ_TRY(t->dtype == item->dtype ? put(w, run, (size_t)n * size)
                                       : put_converted(w, run, n, item));
    }
    return MZ_OK;
}

static mz_status put_all(const writer *w, const char *header,
                         const mz_safetensors_item *const *items, int64_t n_items) {
    const size_t n = strlen(header);
    const size_t n_padded = (n + HEADER_ALIGN - 1) / HEADER_ALIGN * HEADER_ALIGN;
    unsigned char length[LENGTH_BYTES];
    for (int i = 0; i < LENGTH_BYTES; i++) {
        length[i] = (unsigned char)((uint64_t)n_padded >> (8 * i));
    }
    MZ_TRY(put(w, length, sizeof length));
    MZ_TRY(put(w, header, n));
    MZ_TRY(put(w, "        ", n_padded - n));
    for (int64_t i = 0; i < n_items; i++) {
        MZ_TRY(put_tensor(w, items[i]));
    }
    return MZ_OK;
}

static mz_status write_file(mz_context *ctx, const char *path, const char *header,
                            const mz_safetensors_item *const *items, int64_t n_items) {
    void *buffers = NULL;
    MZ_TRY(mz_alloc(ctx, 2 * PIECE * sizeof(float), "conversion buffer", &buffers));
    mz_output out = {0};
    mz_status status = mz_output_open(ctx, path, &out);
    if (status != MZ_OK) {
        mz_free(ctx, buffers);
        return status;
    }
    const writer w = {.ctx = ctx,
                      .stream = out.stream,
                      .wide = buffers,
                      .narrow = (unsigned char *)((float *)buffers + PIECE)};
    status = put_all(&w, header, items, n_items);
    if (status != MZ_OK) {
        (void)mz_fail_prefix(&ctx->error, "%s", path);
        mz_output_abort(ctx, &out);
    } else {
        status = mz_output_commit(ctx, &out);
    }
    mz_free(ctx, buffers);
    return status;
}

mz_status mz_safetensors_write(mz_context *ctx, const char *path, const mz_safetensors_item *items,
                               int64_t n_items, const mz_safetensors_text *texts, int64_t n_texts) {
    void *memory = NULL;
    MZ_TRY(mz_calloc(ctx, (size_t)n_items, sizeof(mz_safetensors_item *), "tensor list", &memory));
    const mz_safetensors_item **sorted = memory;
    for (int64_t i = 0; i < n_items; i++) {
        sorted[i] = &items[i];
    }
    if (n_items > 1) {
        qsort(sorted, (size_t)n_items, sizeof *sorted, by_type_and_name);
    }
    char *header = NULL;
    mz_status status = make_header(&ctx->error, sorted, n_items, texts, n_texts, &header);
    if (status != MZ_OK) {
        (void)mz_fail_prefix(&ctx->error, "%s", path);
    } else {
        status = write_file(ctx, path, header, sorted, n_items);
    }
    free(header);
    mz_free(ctx, memory);
    return status;
}
