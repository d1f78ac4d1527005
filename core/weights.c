#include "core/weights.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/gguf_internal.h"
#include "core/json.h"
#include "core/weights_internal.h"

enum { NOTES_BYTES = 600 };

/* Names for one message: as many as fit, and how many there are. */
typedef struct notes {
    char text[NOTES_BYTES];
    size_t used;
    int64_t n;
    int64_t n_shown;
} notes;

typedef struct shard {
    char *path;
    mz_map map;
} shard;

struct mz_weights {
    mz_context *ctx;
    char *path;
    shard *shards;
    size_t n_shards;
    size_t capacity;
    mz_weight_list list; /* sorted by name once open */
    notes missing;
    notes deviating;
    bool copy_failed;
};

bool mz_weight_n_bytes(mz_dtype dtype, const int64_t *shape, int n_dims, size_t *out) {
    const mz_dtype_info *info = mz_dtype_get(dtype);
    size_t bytes = (size_t)info->block_bytes;
    size_t elements = 1;
    for (int i = 0; i < n_dims; i++) {
        const bool is_row = i == n_dims - 1;
        if (is_row && shape[i] % info->block_len != 0) {
            return false;
        }
        const size_t n_blocks = (size_t)(is_row ? shape[i] / info->block_len : shape[i]);
        if (!mz_size_mul(bytes, n_blocks, &bytes) || bytes > (size_t)INT64_MAX ||
            !mz_size_mul(elements, (size_t)shape[i], &elements) || elements > (size_t)INT64_MAX) {
            return false;
        }
    }
    *out = bytes;
    return true;
}

mz_status mz_weight_list_add(mz_weight_list *list, const char *name, const mz_weight_entry *entry) {
    if (list->n >= MZ_WEIGHTS_MAX_TENSORS) {
        return mz_fail(&list->ctx->error, MZ_ERR_LIMIT, "more than %d tensors",
                       MZ_WEIGHTS_MAX_TENSORS);
    }
    void *entries = list->entries;
    MZ_TRY(
        mz_grow(list->ctx, &entries, &list->capacity, list->n + 1, sizeof *entry, "tensor table"));
    list->entries = entries;
    char *copy = NULL;
    MZ_TRY(mz_strdup(list->ctx, name, &copy));
    list->entries[list->n] = *entry;
    list->entries[list->n].name = copy;
    list->n++;
    return MZ_OK;
}

void mz_weight_list_free(mz_weight_list *list) {
    for (size_t i = 0; i < list->n; i++) {
        mz_free(list->ctx, list->entries[i].name);
        mz_free(list->ctx, list->entries[i].copy);
    }
    mz_free(list->ctx, list->entries);
    *list = (mz_weight_list){.ctx = list->ctx};
}

static bool ends_with(const char *text, const char *suffix) {
    const size_t n = strlen(text);
    const size_t n_suffix = strlen(suffix);
    return n >= n_suffix && strcmp(text + n - n_suffix, suffix) == 0;
}

/* What a clone without Git LFS has in a weight file's place. */
static bool is_lfs_pointer(const mz_map *map) {
    static const char begin[] = "version https://git-lfs";
    return map->bytes >= sizeof begin && memcmp(map->data, begin, sizeof begin - 1) == 0;
}

/* Maps a file of tensors. Takes `path` over, also on failure. */
static mz_status map_shard(mz_weights *w, char *path, mz_weight_file *file) {
    void *shards = w->shards;
    const mz_status status =
        mz_grow(w->ctx, &shards, &w->capacity, w->n_shards + 1, sizeof *w->shards, "shard table");
    w->shards = shards;
    if (status != MZ_OK) {
        mz_free(w->ctx, path);
        return status;
    }
    shard *s = &w->shards[w->n_shards++];
    *s = (shard){.path = path};
    MZ_TRY(mz_map_open(w->ctx, path, &s->map));
    *file = (mz_weight_file){.path = path,
                             .data = s->map.data,
                             .n_bytes = s->map.bytes,
                             .index = (int32_t)(w->n_shards - 1)};
    if (is_lfs_pointer(&s->map)) {
        return mz_fail(&w->ctx->error, MZ_ERR_FORMAT,
                       "%s: is a Git LFS pointer, the weights themselves were not downloaded",
                       path);
    }
    return MZ_OK;
}

/* Maps a file of tensors and reads its header. Takes `path` over, also on failure. */
static mz_status add_shard(mz_weights *w, char *path) {
    mz_weight_file file;
    MZ_TRY(map_shard(w, path, &file));
    if (ends_with(path, ".safetensors")) {
        return mz_safetensors_read(&w->list, &file);
    }
    if (ends_with(path, ".bin") || ends_with(path, ".pt")) {
        return mz_torch_zip_read(&w->list, &file);
    }
    return mz_fail(
        &w->ctx->error, MZ_ERR_UNSUPPORTED,
        "%s: is no checkpoint by its name, expected .safetensors, .bin, .pt, .index.json or .gguf",
        path);
}

static int by_name(const void *a, const void *b) {
    const mz_weight_entry *x = a;
    const mz_weight_entry *y = b;
    return strcmp(x->name, y->name);
}

static int name_against_entry(const void *name, const void *entry) {
    return strcmp(name, ((const mz_weight_entry *)entry)->name);
}

static mz_weight_entry *find(const mz_weights *w, const char *name) {
    if (w->list.n == 0) {
        return NULL;
    }
    return bsearch(name, w->list.entries, w->list.n, sizeof *w->list.entries, name_against_entry);
}

static mz_status sort_entries(mz_weights *w) {
    if (w->list.n > 0) {
        qsort(w->list.entries, w->list.n, sizeof *w->list.entries, by_name);
    }
    for (size_t i = 1; i < w->list.n; i++) {
        const mz_weight_entry *before = &w->list.entries[i - 1];
        const mz_weight_entry *e = &w->list.entries[i];
        if (strcmp(before->name, e->name) == 0) {
            return mz_fail(&w->ctx->error, MZ_ERR_FORMAT,
                           "%s: tensor %s is there twice, in %s and %s", w->path, e->name,
                           w->shards[before->file].path, w->shards[e->file].path);
        }
    }
    return MZ_OK;
}

/* --- sharded checkpoints --- */

/* One row of the index: a tensor and the file it is in. Both texts belong to the JSON document. */
typedef struct index_row {
    const char *tensor;
    const char *file;
    int32_t shard;
} index_row;

static int by_file(const void *a, const void *b) {
    const index_row *x = a;
    const index_row *y = b;
    return strcmp(x->file, y->file);
}

static mz_status check_shard_name(mz_weights *w, const char *tensor, const char *name) {
    if (name == NULL) {
        return mz_fail(&w->ctx->error, MZ_ERR_FORMAT,
                       "%s: weight_map: the file of tensor %s is no string", w->path, tensor);
    }
    if (name[0] == '\0' || strchr(name, '/') != NULL || strchr(name, '\\') != NULL ||
        strcmp(name, "..") == 0 || strcmp(name, ".") == 0) {
        return mz_fail(&w->ctx->error, MZ_ERR_FORMAT,
                       "%s: weight_map: file \"%s\" of tensor %s, expected a name without folders",
                       w->path, name, tensor);
    }
    return MZ_OK;
}

static mz_status read_weight_map(mz_weights *w, const json_t *document, index_row **out,
                                 size_t *n_out) {
    json_t *map = json_object_get(document, "weight_map");
    const size_t n = json_object_size(map);
    if (!json_is_object(map)) {
        return mz_fail(&w->ctx->error, MZ_ERR_FORMAT, "%s: weight_map is missing or no object",
                       w->path);
    }
    if (n > MZ_WEIGHTS_MAX_TENSORS) {
        return mz_fail(&w->ctx->error, MZ_ERR_LIMIT,
                       "%s: weight_map has %zu tensors, the limit is %d", w->path, n,
                       MZ_WEIGHTS_MAX_TENSORS);
    }
    void *memory = NULL;
    MZ_TRY(mz_calloc(w->ctx, n, sizeof(index_row), "index", &memory));
    index_row *rows = memory;
    *out = rows;
    *n_out = n;
    size_t i = 0;
    const char *tensor = NULL;
    json_t *value = NULL;
    json_object_foreach(map, tensor, value) {
        rows[i] = (index_row){.tensor = tensor, .file = json_string_value(value)};
        MZ_TRY(check_shard_name(w, tensor, rows[i].file));
        i++;
    }
    qsort(rows, n, sizeof *rows, by_file);
    return MZ_OK;
}

/* Opens the files that the rows, sorted by file, name. */
static mz_status open_shards(mz_weights *w, index_row *rows, size_t n) {
    const char *slash = strrchr(w->path, '/');
    const size_t n_dir = slash == NULL ? 0 : (size_t)(slash - w->path) + 1;
    char *dir = NULL;
    MZ_TRY(mz_strdup(w->ctx, w->path, &dir));
    dir[n_dir] = '\0';
    mz_status status = MZ_OK;
    for (size_t i = 0; i < n && status == MZ_OK; i++) {
        if (i == 0 || strcmp(rows[i - 1].file, rows[i].file) != 0) {
            char *path = NULL;
            if (w->n_shards >= MZ_WEIGHTS_MAX_FILES) {
                status = mz_fail(&w->ctx->error, MZ_ERR_LIMIT, "%s: more than %d files", w->path,
                                 MZ_WEIGHTS_MAX_FILES);
                break;
            }
            status = mz_path_join(w->ctx, dir, rows[i].file, &path);
            if (status == MZ_OK && !mz_file_exists(path)) {
                mz_free(w->ctx, path);
                status = mz_fail(&w->ctx->error, MZ_ERR_MISSING,
                                 "%s: its file %.200s does not exist", w->path, rows[i].file);
            } else if (status == MZ_OK) {
                status = add_shard(w, path);
            }
        }
        rows[i].shard = (int32_t)w->n_shards - 1;
    }
    mz_free(w->ctx, dir);
    return status;
}

static mz_status check_index(mz_weights *w, const index_row *rows, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const mz_weight_entry *e = find(w, rows[i].tensor);
        if (e == NULL || e->file != rows[i].shard) {
            return mz_fail(&w->ctx->error, MZ_ERR_FORMAT,
                           "%s: tensor %s should be in %s, which lacks it", w->path, rows[i].tensor,
                           rows[i].file);
        }
    }
    return MZ_OK;
}

static mz_status open_index(mz_weights *w) {
    json_t *document = NULL;
    MZ_TRY(mz_json_load(w->ctx, w->path, &document));
    index_row *rows = NULL;
    size_t n = 0;
    mz_status status = read_weight_map(w, document, &rows, &n);
    if (status == MZ_OK) {
        status = open_shards(w, rows, n);
    }
    if (status == MZ_OK) {
        status = sort_entries(w);
    }
    if (status == MZ_OK) {
        status = check_index(w, rows, n);
    }
    mz_free(w->ctx, rows);
    json_decref(document);
    return status;
}

/* --- GGUF files --- */

static const char gguf_ending[] = ".gguf";

/* The name of part `part` (from 0) of NAME-00001-of-0000N.gguf, which w->path is. */
static mz_status part_path(mz_weights *w, int64_t part, int64_t n_parts, char **out) {
    enum { PART = sizeof "-00001-of-00001.gguf" - 1 };
    char ending[64];
    char *path = NULL;
    const size_t n = strlen(w->path);
    (void)snprintf(ending, sizeof ending, "-%05d-of-%05d.gguf", 1, (int)n_parts);
    if (n < PART || strcmp(w->path + n - PART, ending) != 0) {
        return mz_fail(&w->ctx->error, MZ_ERR_FORMAT,
                       "%s: is the first of %lld parts, expected a name that ends in %s", w->path,
                       (long long)n_parts, ending);
    }
    MZ_TRY(mz_strdup(w->ctx, w->path, &path));
    (void)snprintf(ending, sizeof ending, "-%05d-of-%05d.gguf", (int)part + 1, (int)n_parts);
    memcpy(path + n - PART, ending, PART);
    *out = path;
    return MZ_OK;
}

static mz_status add_part(mz_weights *w, char *path, int64_t part, int64_t *n_parts,
                          int64_t *n_total) {
    mz_weight_file file;
    MZ_TRY(map_shard(w, path, &file));
    return mz_gguf_read(&w->list, &file, part, n_parts, n_total);
}

static mz_status open_gguf(mz_weights *w) {
    char *path = NULL;
    int64_t n_parts = 0;
    int64_t n_total = 0;
    MZ_TRY(mz_strdup(w->ctx, w->path, &path));
    MZ_TRY(add_part(w, path, 0, &n_parts, &n_total));
    for (int64_t part = 1; part < n_parts; part++) {
        int64_t n = 0;
        int64_t ignored = 0;
        MZ_TRY(part_path(w, part, n_parts, &path));
        if (!mz_file_exists(path)) {
            (void)mz_fail(&w->ctx->error, MZ_ERR_MISSING, "%s: its part %s does not exist", w->path,
                          path);
            mz_free(w->ctx, path);
            return MZ_ERR_MISSING;
        }
        MZ_TRY(add_part(w, path, part, &n, &ignored));
        if (n != n_parts) {
            return mz_fail(&w->ctx->error, MZ_ERR_FORMAT, "%s: is one of %lld parts, %s of %lld",
                           path, (long long)n, w->path, (long long)n_parts);
        }
    }
    if (n_total >= 0 && (size_t)n_total != w->list.n) {
        return mz_fail(&w->ctx->error, MZ_ERR_FORMAT,
                       "%s: %zu tensors, split.tensors.count is %lld", w->path, w->list.n,
                       (long long)n_total);
    }
    return sort_entries(w);
}

/* Replaces the folder in w->path by the weight file that is in it. */
static mz_status find_in_folder(mz_weights *w) {
    static const char *const names[] = {"model.safetensors", "model.safetensors.index.json",
                                        "pytorch_model.bin", "pytorch_model.bin.index.json"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char *path = NULL;
        MZ_TRY(mz_path_join(w->ctx, w->path, names[i], &path));
        if (mz_file_exists(path)) {
            mz_free(w->ctx, w->path);
            w->path = path;
            return MZ_OK;
        }
        mz_free(w->ctx, path);
    }
    return mz_fail(&w->ctx->error, MZ_ERR_MISSING,
                   "%s: no weights in this folder, expected %s, %s, %s or %s", w->path, names[0],
                   names[1], names[2], names[3]);
}

static mz_status open_weights(mz_weights *w) {
    if (mz_dir_exists(w->path)) {
        MZ_TRY(find_in_folder(w));
    }
    if (ends_with(w->path, ".index.json")) {
        return open_index(w);
    }
    if (ends_with(w->path, gguf_ending)) {
        return open_gguf(w);
    }
    char *path = NULL;
    MZ_TRY(mz_strdup(w->ctx, w->path, &path));
    MZ_TRY(add_shard(w, path));
    return sort_entries(w);
}

static mz_status open_with(mz_context *ctx, const char *path, mz_status (*open)(mz_weights *w),
                           mz_weights **out) {
    void *memory = NULL;
    MZ_TRY(mz_calloc(ctx, 1, sizeof(mz_weights), "checkpoint", &memory));
    mz_weights *w = memory;
    w->ctx = ctx;
    w->list.ctx = ctx;
    mz_status status = mz_strdup(ctx, path, &w->path);
    if (status == MZ_OK) {
        status = open(w);
    }
    if (status != MZ_OK) {
        mz_weights_close(ctx, w);
        return status;
    }
    *out = w;
    return MZ_OK;
}

mz_status mz_weights_open(mz_context *ctx, const char *path, mz_weights **out) {
    return open_with(ctx, path, open_weights, out);
}

mz_status mz_weights_open_gguf(mz_context *ctx, const char *path, mz_weights **out) {
    return open_with(ctx, path, open_gguf, out);
}

void mz_weights_close(mz_context *ctx, mz_weights *weights) {
    if (weights == NULL) {
        return;
    }
    mz_weight_list_free(&weights->list);
    for (size_t i = 0; i < weights->n_shards; i++) {
        mz_map_close(&weights->shards[i].map);
        mz_free(ctx, weights->shards[i].path);
    }
    mz_free(ctx, weights->shards);
    mz_free(ctx, weights->path);
    mz_free(ctx, weights);
}

/* --- asking --- */

static void note(notes *list, const char *format, ...) MZ_PRINTF(2, 3);

static void note(notes *list, const char *format, ...) {
    const size_t left = sizeof list->text - list->used;
    const char *separator = list->n_shown > 0 ? ", " : "";
    const size_t n_separator = strlen(separator);
    list->n++;
    if (list->n_shown + 1 != list->n || n_separator >= left) {
        return; /* the list is full: an unbroken beginning is shown */
    }
    va_list args;
    va_start(args, format);
    const int n =
        vsnprintf(list->text + list->used + n_separator, left - n_separator, format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= left - n_separator) {
        list->text[list->used] = '\0';
        return;
    }
    memcpy(list->text + list->used, separator, n_separator);
    list->used += n_separator + (size_t)n;
    list->n_shown++;
}

static bool is_aligned(const mz_weight_entry *e) {
    const mz_dtype_info *info = mz_dtype_get(e->dtype);
    return info->block_len > 1 || (uintptr_t)e->data % (uintptr_t)info->block_bytes == 0;
}

static mz_status make_aligned(mz_weights *w, mz_weight_entry *e) {
    if (e->copy != NULL || is_aligned(e)) {
        return MZ_OK;
    }
    void *copy = NULL;
    MZ_TRY(mz_alloc(w->ctx, e->n_bytes, e->name, &copy));
    memcpy(copy, e->data, e->n_bytes);
    e->copy = copy;
    return MZ_OK;
}

static mz_tensor tensor_of(const mz_weight_entry *e) {
    mz_tensor t = {.dtype = e->dtype, .n_dims = e->n_dims, .ld = e->shape[e->n_dims - 1]};
    memcpy(t.shape, e->shape, sizeof t.shape);
    /* Tensors are views for reading and writing; these stay read-only, as the map is. */
    t.data = e->copy != NULL ? e->copy : (void *)(uintptr_t)e->data;
    return t;
}

static mz_status get(mz_weights *w, const char *name, const int64_t *shape, int n_dims,
                     bool any_type, mz_tensor *out) {
    mz_weight_entry *e = find(w, name);
    if (e == NULL) {
        note(&w->missing, "%s", name);
        *out = (mz_tensor){0};
        return MZ_OK;
    }
    e->asked = true;
    const bool same_shape =
        e->n_dims == n_dims && memcmp(e->shape, shape, (size_t)n_dims * sizeof *shape) == 0;
    const mz_dtype_info *info = mz_dtype_get(e->dtype);
    if (!same_shape || (!any_type && !info->is_float)) {
        char actual[128];
        char expected[128];
        note(&w->deviating, "%s is %s %s, expected %s %s (in %s)", name, info->name,
             mz_shape_text(actual, sizeof actual, e->shape, e->n_dims),
             any_type ? "any type" : "f32, f16, bf16 or blocks",
             mz_shape_text(expected, sizeof expected, shape, n_dims), w->shards[e->file].path);
        *out = (mz_tensor){0}; /* not before: `shape` may lie in it */
        return MZ_OK;
    }
    MZ_TRY(make_aligned(w, e));
    *out = tensor_of(e);
    return MZ_OK;
}

mz_status mz_weights_get(mz_weights *weights, const char *name, const int64_t *shape, int n_dims,
                         mz_tensor *out) {
    return get(weights, name, shape, n_dims, false, out);
}

mz_status mz_weights_get_any(mz_weights *weights, const char *name, const int64_t *shape,
                             int n_dims, mz_tensor *out) {
    return get(weights, name, shape, n_dims, true, out);
}

bool mz_weights_find(mz_weights *weights, const char *name, mz_tensor *out) {
    mz_weight_entry *e = find(weights, name);
    if (e == NULL) {
        return false;
    }
    e->asked = true;
    if (make_aligned(weights, e) != MZ_OK) {
        weights->copy_failed = true;
        return false;
    }
    *out = tensor_of(e);
    return true;
}

/* "; 3 missing: a, b and 1 more", appended to `text`. */
static void describe(char *text, size_t size, const notes *list, const char *what) {
    const size_t used = strlen(text);
    if (list->n == 0) {
        return;
    }
    char more[64] = "";
    if (list->n > list->n_shown) {
        (void)snprintf(more, sizeof more, " and %lld more", (long long)(list->n - list->n_shown));
    }
    (void)snprintf(text + used, size - used, "%s%lld %s: %s%s", used > 0 ? "; " : "",
                   (long long)list->n, what, list->text, more);
}

mz_status mz_weights_finish(mz_weights *weights) {
    mz_error *err = &weights->ctx->error;
    if (weights->copy_failed) {
        return mz_fail(err, MZ_ERR_NOMEM, "%s: out of memory for the copy of an unaligned tensor",
                       weights->path);
    }
    notes extra = {0};
    for (size_t i = 0; i < weights->list.n; i++) {
        if (!weights->list.entries[i].asked) {
            note(&extra, "%s", weights->list.entries[i].name);
        }
    }
    char text[3 * NOTES_BYTES + 256] = "";
    describe(text, sizeof text, &weights->missing, "missing");
    describe(text, sizeof text, &weights->deviating, "other than expected");
    describe(text, sizeof text, &extra, "that the model does not have");
    if (text[0] == '\0') {
        return MZ_OK;
    }
    const bool lacking = weights->missing.n + weights->deviating.n > 0;
    return mz_fail(err, lacking ? MZ_ERR_MISSING : MZ_ERR_FORMAT, "%s: tensors: %s", weights->path,
                   text);
}

/* --- listing --- */

int64_t mz_weights_count(const mz_weights *weights) {
    return (int64_t)weights->list.n;
}

mz_status mz_weights_at(const mz_weights *weights, int64_t i, const char **name, mz_tensor *out) {
    if (i < 0 || i >= mz_weights_count(weights)) {
        return mz_fail(&weights->ctx->error, MZ_ERR_ARG, "%s: tensor number %lld of %lld",
                       weights->path, (long long)i, (long long)mz_weights_count(weights));
    }
    *name = weights->list.entries[i].name;
    *out = tensor_of(&weights->list.entries[i]);
    return MZ_OK;
}

int64_t mz_weights_n_files(const mz_weights *weights) {
    return (int64_t)weights->n_shards;
}

const char *mz_weights_file(const mz_weights *weights, int64_t i, size_t *n_bytes) {
    if (n_bytes != NULL) {
        *n_bytes = weights->shards[i].map.bytes;
    }
    return weights->shards[i].path;
}
