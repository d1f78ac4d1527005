#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "core/weights_internal.h"

enum {
    LENGTH_BYTES = 8,
    /* A document costs about forty bytes a value, so that a small header could ask for gigabytes: a
     * tensor has at most four dimensions, two offsets and a type, with a comma each. */
    MAX_COMMAS = 10 * MZ_WEIGHTS_MAX_TENSORS,
};

static const struct {
    const char *name;
    mz_dtype dtype;
} dtype_names[] = {
    {"F32", MZ_DTYPE_F32}, {"F16", MZ_DTYPE_F16}, {"BF16", MZ_DTYPE_BF16}, {"I32", MZ_DTYPE_I32},
    {"I64", MZ_DTYPE_I64}, {"U8", MZ_DTYPE_U8},   {"BOOL", MZ_DTYPE_U8},
};

/* The part of the file behind the header. */
typedef struct body {
    const uint8_t *data;
    size_t n_bytes;
} body;

static uint64_t read_u64(const uint8_t *p) {
    uint64_t value = 0;
    for (int i = LENGTH_BYTES - 1; i >= 0; i--) {
        value = value << 8 | p[i];
    }
    return value;
}

static mz_status read_dtype(mz_error *err, const char *name, const json_t *value, mz_dtype *out) {
    const char *text = json_string_value(value);
    if (text == NULL) {
        return mz_fail(err, MZ_ERR_FORMAT, "tensor %s: dtype is no string", name);
    }
    for (size_t i = 0; i < sizeof dtype_names / sizeof dtype_names[0]; i++) {
        if (strcmp(text, dtype_names[i].name) == 0) {
            *out = dtype_names[i].dtype;
            return MZ_OK;
        }
    }
    return mz_fail(
        err, MZ_ERR_UNSUPPORTED,
        "tensor %s: dtype %s is not supported, expected F32, F16, BF16, I32, I64, U8 or BOOL", name,
        text);
}

static mz_status read_shape(mz_error *err, const char *name, const json_t *value,
                            mz_weight_entry *entry) {
    if (!json_is_array(value)) {
        return mz_fail(err, MZ_ERR_FORMAT, "tensor %s: shape is no array", name);
    }
    const size_t n_dims = json_array_size(value);
    if (n_dims > MZ_MAX_DIMS) {
        return mz_fail(err, MZ_ERR_LIMIT, "tensor %s: %zu dimensions, the limit is %d", name,
                       n_dims, MZ_MAX_DIMS);
    }
    for (size_t i = 0; i < n_dims; i++) {
        const json_t *size = json_array_get(value, i);
        if (!json_is_integer(size) || json_integer_value(size) < 0) {
            return mz_fail(err, MZ_ERR_FORMAT, "tensor %s: shape[%zu] is no integer of at least 0",
                           name, i);
        }
        entry->shape[i] = json_integer_value(size);
    }
    entry->n_dims = (int)n_dims;
    if (n_dims == 0) {
        entry->n_dims = 1;
        entry->shape[0] = 1;
    }
    if (!mz_weight_n_bytes(entry->dtype, entry->shape, entry->n_dims, &entry->n_bytes)) {
        char text[128];
        return mz_fail(err, MZ_ERR_LIMIT,
                       "tensor %s: shape %s has more elements than memory can address", name,
                       mz_shape_text(text, sizeof text, entry->shape, entry->n_dims));
    }
    return MZ_OK;
}

static mz_status read_offsets(mz_error *err, const body *b, const char *name, const json_t *value,
                              mz_weight_entry *entry) {
    const json_t *first = json_array_get(value, 0);
    const json_t *second = json_array_get(value, 1);
    if (json_array_size(value) != 2 || !json_is_integer(first) || !json_is_integer(second)) {
        return mz_fail(err, MZ_ERR_FORMAT, "tensor %s: data_offsets is no array of two integers",
                       name);
    }
    const int64_t begin = json_integer_value(first);
    const int64_t end = json_integer_value(second);
    if (begin < 0 || end < begin || (uint64_t)end > b->n_bytes) {
        return mz_fail(err, MZ_ERR_FORMAT,
                       "tensor %s: data_offsets %lld to %lld, expected within 0 to %zu", name,
                       (long long)begin, (long long)end, b->n_bytes);
    }
    if ((size_t)(end - begin) != entry->n_bytes) {
        char text[128];
        return mz_fail(
            err, MZ_ERR_FORMAT, "tensor %s: data_offsets hold %lld bytes, %s %s needs %zu", name,
            (long long)(end - begin), mz_dtype_get(entry->dtype)->name,
            mz_shape_text(text, sizeof text, entry->shape, entry->n_dims), entry->n_bytes);
    }
    entry->data = b->data + begin;
    return MZ_OK;
}

static mz_status read_tensor(mz_weight_list *list, const mz_weight_file *file, const body *b,
                             const char *name, const json_t *value) {
    mz_error *err = &list->ctx->error;
    if (!json_is_object(value)) {
        return mz_fail(err, MZ_ERR_FORMAT, "tensor %s: its description is no object", name);
    }
    mz_weight_entry entry = {.file = file->index};
    MZ_TRY(read_dtype(err, name, json_object_get(value, "dtype"), &entry.dtype));
    MZ_TRY(read_shape(err, name, json_object_get(value, "shape"), &entry));
    MZ_TRY(read_offsets(err, b, name, json_object_get(value, "data_offsets"), &entry));
    return mz_weight_list_add(list, name, &entry);
}

static int by_position(const void *a, const void *b) {
    const mz_weight_entry *x = a;
    const mz_weight_entry *y = b;
    if (x->data != y->data) {
        return x->data < y->data ? -1 : 1;
    }
    return (x->n_bytes > y->n_bytes) - (x->n_bytes < y->n_bytes);
}

/* The format demands that tensors cover the body without overlaps and holes. */
static mz_status check_cover(mz_weight_list *list, size_t first, const body *b) {
    mz_error *err = &list->ctx->error;
    if (list->n > first) {
        qsort(list->entries + first, list->n - first, sizeof *list->entries, by_position);
    }
    size_t expected = 0;
    for (size_t i = first; i < list->n; i++) {
        const mz_weight_entry *e = &list->entries[i];
        const size_t begin = (size_t)(e->data - b->data);
        if (begin < expected) {
            return mz_fail(
                err, MZ_ERR_FORMAT,
                "tensor %s begins at byte %zu of the data and overlaps %s, which ends at %zu",
                e->name, begin, list->entries[i - 1].name, expected);
        }
        if (begin > expected) {
            return mz_fail(err, MZ_ERR_FORMAT,
                           "tensor %s begins at byte %zu of the data, expected %zu", e->name, begin,
                           expected);
        }
        expected += e->n_bytes;
    }
    if (expected != b->n_bytes) {
        return mz_fail(err, MZ_ERR_FORMAT,
                       "the tensors end at byte %zu of the data, the file at %zu", expected,
                       b->n_bytes);
    }
    return MZ_OK;
}

static mz_status check_header(mz_error *err, const mz_weight_file *file, size_t *n_header) {
    if (file->n_bytes < LENGTH_BYTES) {
        return mz_fail(err, MZ_ERR_FORMAT, "%zu bytes are too few for a safetensors file",
                       file->n_bytes);
    }
    const uint64_t n = read_u64(file->data);
    const size_t available = file->n_bytes - LENGTH_BYTES;
    if (n > available) {
        return mz_fail(err, MZ_ERR_FORMAT,
                       "header of %llu bytes, the file has %zu (truncated, or no safetensors file)",
                       (unsigned long long)n, available);
    }
    if (n > MZ_WEIGHTS_MAX_HEADER) {
        return mz_fail(err, MZ_ERR_LIMIT, "header of %llu bytes, the limit is %d",
                       (unsigned long long)n, MZ_WEIGHTS_MAX_HEADER);
    }
    size_t n_commas = 0;
    for (size_t i = 0; i < (size_t)n; i++) {
        n_commas += file->data[LENGTH_BYTES + i] == ',';
    }
    if (n_commas > MAX_COMMAS) {
        return mz_fail(err, MZ_ERR_LIMIT, "header with %zu values, the limit is %d", n_commas,
                       MAX_COMMAS);
    }
    *n_header = (size_t)n;
    return MZ_OK;
}

static mz_status read_file(mz_weight_list *list, const mz_weight_file *file) {
    mz_error *err = &list->ctx->error;
    size_t n_header = 0;
    MZ_TRY(check_header(err, file, &n_header));
    const body b = {
        .data = file->data + LENGTH_BYTES + n_header,
        .n_bytes = file->n_bytes - LENGTH_BYTES - n_header,
    };
    json_t *header = NULL;
    MZ_TRY(mz_json_parse(list->ctx, (const char *)file->data + LENGTH_BYTES, n_header, "header",
                         &header));
    mz_status status = MZ_OK;
    const size_t first = list->n;
    if (!json_is_object(header)) {
        status = mz_fail(err, MZ_ERR_FORMAT, "the header is no JSON object");
    }
    const char *name = NULL;
    json_t *value = NULL;
    json_object_foreach(header, name, value) {
        if (strcmp(name, "__metadata__") != 0 && status == MZ_OK) {
            status = read_tensor(list, file, &b, name, value);
        }
    }
    json_decref(header);
    return status != MZ_OK ? status : check_cover(list, first, &b);
}

mz_status mz_safetensors_read(mz_weight_list *list, const mz_weight_file *file) {
    if (read_file(list, file) != MZ_OK) {
        return mz_fail_prefix(&list->ctx->error, "%s", file->path);
    }
    return MZ_OK;
}
