#include "encoders/series/series_binary_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/half.h"
#include "core/json.h"

enum { MAX_META_BYTES = 256 << 20, MAX_FILES = 1 << 16, MAX_SEQUENCES = INT32_MAX };

static const int64_t max_values = (int64_t)1 << 48;

typedef struct binary_file {
    const char *name; /* borrowed from meta.json while opening */
    mz_map map;
    int64_t start; /* of its first value among all */
    int64_t n_values;
} binary_file;

typedef enum binary_kind { KIND_F16 = 0, KIND_BF16, KIND_F32, KIND_F64, KIND_COUNT } binary_kind;

typedef struct kind_row {
    const char *name;
    int64_t bytes;
} kind_row;

static const kind_row kinds[KIND_COUNT] = {
    {"float16", 2}, {"bfloat16", 2}, {"float32", 4}, {"float64", 8}};

struct mz_binary {
    binary_file *files; /* [n_files], ascending start */
    mz_binary_series *series;
    int64_t n_files, n_series, n_values;
    binary_kind kind;
};

static mz_status wrong_type(const mz_json_object *meta, const char *key, const char *expected) {
    const bool absent = json_object_get(meta->object, key) == NULL;
    return mz_fail(&meta->ctx->error, absent ? MZ_ERR_MISSING : MZ_ERR_FORMAT,
                   "%s: %s is %s, expected %s", meta->name, key,
                   absent ? "missing" : "of another type", expected);
}

static mz_status read_kind(const mz_json_object *meta, binary_kind *out) {
    const char *name = NULL;
    MZ_TRY(mz_json_string(meta, "dtype", &name));
    for (int k = 0; k < KIND_COUNT; k++) {
        if (strcmp(kinds[k].name, name) == 0) {
            *out = (binary_kind)k;
            return MZ_OK;
        }
    }
    return mz_fail(&meta->ctx->error, MZ_ERR_UNSUPPORTED,
                   "%s: dtype \"%s\", expected float16, bfloat16, float32 or float64", meta->name,
                   name);
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const binary_file *)a)->name, ((const binary_file *)b)->name);
}

/* Maps one file, whose name and length are set. */
static mz_status map_file(const mz_json_object *meta, const char *dir, binary_kind kind,
                          binary_file *file) {
    mz_context *ctx = meta->ctx;
    if (file->name[0] == '\0' || strchr(file->name, '/') != NULL) {
        return mz_fail(&ctx->error, MZ_ERR_FORMAT,
                       "%s: file name \"%s\", expected one within the folder", meta->name,
                       file->name);
    }
    char *path = NULL;
    MZ_TRY(mz_path_join(ctx, dir, file->name, &path));
    mz_status status = mz_map_open(ctx, path, &file->map);
    const uint64_t needed = (uint64_t)file->n_values * (uint64_t)kinds[kind].bytes;
    if (status == MZ_OK && file->map.bytes < needed) {
        status = mz_fail(&ctx->error, MZ_ERR_FORMAT,
                         "%s: %zu bytes, but meta.json says %lld values of %s, which take %llu",
                         path, file->map.bytes, (long long)file->n_values, kinds[kind].name,
                         (unsigned long long)needed);
    }
    mz_free(ctx, path);
    return status;
}

static mz_status read_files(const mz_json_object *meta, const char *dir, mz_binary *b) {
    json_t *files = json_object_get(meta->object, "files");
    if (!json_is_object(files)) {
        return wrong_type(meta, "files", "an object of file names and lengths");
    }
    const size_t n = json_object_size(files);
    if (n > MAX_FILES) {
        return mz_fail(&meta->ctx->error, MZ_ERR_LIMIT, "%s: %zu files, at most %d are read",
                       meta->name, n, (int)MAX_FILES);
    }
    void *block = NULL;
    MZ_TRY(mz_calloc(meta->ctx, n, sizeof *b->files, "list of files", &block));
    b->files = block;
    b->n_files = (int64_t)n;
    const mz_json_object lengths = {.ctx = meta->ctx, .object = files, .name = meta->name};
    int64_t k = 0;
    const char *name;
    json_t *value;
    json_object_foreach(files, name, value) {
        (void)value;
        b->files[k].name = name;
        MZ_TRY(mz_json_int(&lengths, name, 0, max_values, &b->files[k].n_values));
        k++;
    }
    qsort(b->files, n, sizeof *b->files, by_name);
    for (k = 0; k < b->n_files; k++) {
        b->files[k].start = b->n_values;
        if (b->files[k].n_values > max_values - b->n_values) {
            return mz_fail(&meta->ctx->error, MZ_ERR_LIMIT,
                           "%s: more than %lld values in all files", meta->name,
                           (long long)max_values);
        }
        b->n_values += b->files[k].n_values;
        MZ_TRY(map_file(meta, dir, b->kind, &b->files[k]));
    }
    return MZ_OK;
}

static mz_status read_scales(const mz_json_object *meta, mz_binary *b) {
    const json_t *scales = json_object_get(meta->object, "scales");
    if (!json_is_array(scales)) {
        return wrong_type(meta, "scales", "a list of series");
    }
    int64_t n = 0;
    MZ_TRY(mz_json_int(meta, "num_sequences", 0, MAX_SEQUENCES, &n));
    if ((size_t)n != json_array_size(scales)) {
        return mz_fail(&meta->ctx->error, MZ_ERR_FORMAT,
                       "%s: num_sequences is %lld, but scales lists %zu", meta->name, (long long)n,
                       json_array_size(scales));
    }
    void *block = NULL;
    MZ_TRY(mz_calloc(meta->ctx, (size_t)n, sizeof *b->series, "list of series", &block));
    b->series = block;
    b->n_series = n;
    for (int64_t k = 0; k < n; k++) {
        const json_t *entry = json_array_get(scales, (size_t)k);
        if (!json_is_object(entry)) {
            return mz_fail(&meta->ctx->error, MZ_ERR_FORMAT,
                           "%s: scales[%lld] is no object, expected offset and length", meta->name,
                           (long long)k);
        }
        const mz_json_object o = {.ctx = meta->ctx, .object = entry, .name = meta->name};
        MZ_TRY(mz_json_int(&o, "offset", 0, max_values, &b->series[k].offset));
        MZ_TRY(mz_json_int(&o, "length", 0, max_values, &b->series[k].n_values));
        if (b->series[k].offset + b->series[k].n_values > b->n_values) {
            return mz_fail(&meta->ctx->error, MZ_ERR_FORMAT,
                           "%s: scales[%lld]: values %lld to %lld, but all files have %lld",
                           meta->name, (long long)k, (long long)b->series[k].offset,
                           (long long)(b->series[k].offset + b->series[k].n_values),
                           (long long)b->n_values);
        }
    }
    return MZ_OK;
}

static mz_status read_meta(const mz_json_object *meta, const char *dir, mz_binary *b) {
    if (!json_is_object(meta->object)) {
        return mz_fail(&meta->ctx->error, MZ_ERR_FORMAT, "%s: the top level is no object",
                       meta->name);
    }
    MZ_TRY(read_kind(meta, &b->kind));
    MZ_TRY(read_files(meta, dir, b));
    return read_scales(meta, b);
}

mz_status mz_binary_open_text(mz_context *ctx, const char *dir, const char *text, size_t n_bytes,
                              const char *name, mz_binary **out) {
    json_t *document = NULL;
    void *block = NULL;
    MZ_TRY(mz_json_parse(ctx, text, n_bytes, name, &document));
    mz_status status = mz_calloc(ctx, 1, sizeof(mz_binary), "binary series", &block);
    if (status == MZ_OK) {
        const mz_json_object meta = {.ctx = ctx, .object = document, .name = name};
        status = read_meta(&meta, dir, block);
    }
    json_decref(document); /* names of files were borrowed from it */
    if (status != MZ_OK) {
        mz_binary_close(ctx, block);
        return status;
    }
    *out = block;
    return MZ_OK;
}

mz_status mz_binary_open(mz_context *ctx, const char *dir, mz_binary **out) {
    char *path = NULL;
    char *text = NULL;
    size_t n_bytes = 0;
    MZ_TRY(mz_path_join(ctx, dir, "meta.json", &path));
    mz_status status = mz_file_read(ctx, path, MAX_META_BYTES, &text, &n_bytes);
    if (status == MZ_OK) {
        status = mz_binary_open_text(ctx, dir, text, n_bytes, path, out);
    }
    mz_free(ctx, text);
    mz_free(ctx, path);
    return status;
}

void mz_binary_close(mz_context *ctx, mz_binary *binary) {
    if (binary == NULL) {
        return;
    }
    for (int64_t k = 0; k < binary->n_files; k++) {
        mz_map_close(&binary->files[k].map);
    }
    mz_free(ctx, binary->files);
    mz_free(ctx, binary->series);
    mz_free(ctx, binary);
}

int64_t mz_binary_series_list(const mz_binary *binary, const mz_binary_series **out) {
    *out = binary->series;
    return binary->n_series;
}

static void convert(binary_kind kind, const uint8_t *bytes, int64_t n, float *out) {
    for (int64_t i = 0; i < n; i++) {
        uint16_t half;
        double wide;
        switch (kind) {
        case KIND_F16:
            memcpy(&half, bytes + i * 2, sizeof half);
            out[i] = mz_f16_to_f32(half);
            break;
        case KIND_BF16:
            memcpy(&half, bytes + i * 2, sizeof half);
            out[i] = mz_bf16_to_f32(half);
            break;
        case KIND_F64:
            memcpy(&wide, bytes + i * 8, sizeof wide);
            out[i] = (float)wide;
            break;
        case KIND_F32:
        case KIND_COUNT:
            memcpy(out + i, bytes + i * 4, sizeof *out);
        }
    }
}

static void repair(float *values, int64_t n) {
    int64_t first = 0;
    while (first < n && !isfinite(values[first])) {
        first++;
    }
    float last = first < n ? values[first] : 0;
    for (int64_t i = 0; i < n; i++) {
        values[i] = isfinite(values[i]) ? values[i] : last;
        last = values[i];
    }
}

/* The last file that begins at or before the value. */
static int64_t file_of(const mz_binary *b, int64_t offset) {
    int64_t low = 0;
    int64_t high = b->n_files - 1;
    while (low < high) {
        const int64_t middle = low + (high - low + 1) / 2;
        if (b->files[middle].start <= offset) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    return low;
}

void mz_binary_read(const mz_binary *binary, int64_t offset, int64_t n, float *out) {
    int64_t k = n > 0 ? file_of(binary, offset) : 0;
    for (int64_t done = 0; done < n; k++) {
        const binary_file *file = &binary->files[k];
        const int64_t from = offset + done - file->start;
        const int64_t left = file->n_values - from;
        const int64_t part = left < n - done ? left : n - done;
        if (part > 0) { /* not an empty file */
            convert(binary->kind, file->map.data + from * kinds[binary->kind].bytes, part,
                    out + done);
            done += part;
        }
    }
    repair(out, n);
}
