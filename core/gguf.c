#include "core/gguf.h"

#include <stdlib.h>
#include <string.h>

#include "core/gguf_internal.h"

/* The least that an entry of each kind takes in the file; counts are checked against it before
 * anything is allocated. */
enum { MIN_KEY = 13, MIN_TENSOR = 32, MIN_TEXT = 8, MIN_ARRAY = 12 };

static const struct {
    const char *name;
    uint32_t number;
    mz_dtype dtype;
} tensor_types[] = {
    {"F32", 0, MZ_DTYPE_F32},    {"F16", 1, MZ_DTYPE_F16},    {"Q4_0", 2, MZ_DTYPE_Q4_0},
    {"Q4_1", 3, MZ_DTYPE_Q4_1},  {"Q5_0", 6, MZ_DTYPE_Q5_0},  {"Q5_1", 7, MZ_DTYPE_Q5_1},
    {"Q8_0", 8, MZ_DTYPE_Q8_0},  {"Q2_K", 10, MZ_DTYPE_Q2_K}, {"Q3_K", 11, MZ_DTYPE_Q3_K},
    {"Q4_K", 12, MZ_DTYPE_Q4_K}, {"Q5_K", 13, MZ_DTYPE_Q5_K}, {"Q6_K", 14, MZ_DTYPE_Q6_K},
    {"BF16", 30, MZ_DTYPE_BF16},
};
enum { N_TENSOR_TYPES = sizeof tensor_types / sizeof tensor_types[0] };

bool mz_gguf_dtype(uint32_t number, mz_dtype *out) {
    for (int i = 0; i < N_TENSOR_TYPES; i++) {
        if (tensor_types[i].number == number) {
            *out = tensor_types[i].dtype;
            return true;
        }
    }
    return false;
}

bool mz_gguf_dtype_number(mz_dtype dtype, uint32_t *number, const char **name) {
    for (int i = 0; i < N_TENSOR_TYPES; i++) {
        if (tensor_types[i].dtype == dtype) {
            *number = tensor_types[i].number;
            if (name != NULL) {
                *name = tensor_types[i].name;
            }
            return true;
        }
    }
    return false;
}

size_t mz_gguf_type_bytes(uint32_t type) {
    static const uint8_t bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return type < sizeof bytes ? bytes[type] : 0;
}

uint32_t mz_gguf_u32_at(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

uint64_t mz_gguf_u64_at(const uint8_t *p) {
    return (uint64_t)mz_gguf_u32_at(p) | (uint64_t)mz_gguf_u32_at(p + 4) << 32;
}

/* A place in the file. */
typedef struct cursor {
    mz_context *ctx;
    const uint8_t *data;
    size_t n_bytes;
    size_t at;
} cursor;

static size_t left(const cursor *c) {
    return c->n_bytes - c->at;
}

/* `what` names what the bytes are for. */
static mz_status take(cursor *c, uint64_t n, const char *what, const uint8_t **out) {
    if (n > left(c)) {
        return mz_fail(&c->ctx->error, MZ_ERR_FORMAT,
                       "%s of %llu bytes at byte %zu, the file ends at %zu", what,
                       (unsigned long long)n, c->at, c->n_bytes);
    }
    *out = c->data + c->at;
    c->at += (size_t)n;
    return MZ_OK;
}

static mz_status take_u32(cursor *c, const char *what, uint32_t *out) {
    const uint8_t *p = NULL;
    MZ_TRY(take(c, 4, what, &p));
    *out = mz_gguf_u32_at(p);
    return MZ_OK;
}

static mz_status take_u64(cursor *c, const char *what, uint64_t *out) {
    const uint8_t *p = NULL;
    MZ_TRY(take(c, 8, what, &p));
    *out = mz_gguf_u64_at(p);
    return MZ_OK;
}

static mz_status check_count(const cursor *c, const char *what, uint64_t n, size_t least,
                             uint64_t limit) {
    if (n > left(c) / least) {
        return mz_fail(&c->ctx->error, MZ_ERR_FORMAT, "%llu %s, the file has only %zu bytes left",
                       (unsigned long long)n, what, left(c));
    }
    if (n > limit) {
        return mz_fail(&c->ctx->error, MZ_ERR_LIMIT, "%llu %s, the limit is %llu",
                       (unsigned long long)n, what, (unsigned long long)limit);
    }
    return MZ_OK;
}

/* A key or a tensor's name, which becomes a C string. */
static mz_status take_name(cursor *c, const char *what, char **out) {
    mz_error *err = &c->ctx->error;
    uint64_t n = 0;
    const uint8_t *text = NULL;
    const size_t begin = c->at;
    MZ_TRY(take_u64(c, what, &n));
    if (n == 0 || n > MZ_GGUF_MAX_NAME_BYTES) {
        return mz_fail(err, MZ_ERR_FORMAT, "%s of %llu bytes at byte %zu, expected 1 to %d", what,
                       (unsigned long long)n, begin, MZ_GGUF_MAX_NAME_BYTES);
    }
    MZ_TRY(take(c, n, what, &text));
    for (size_t i = 0; i < (size_t)n; i++) {
        if (text[i] < ' ' || text[i] == 0x7f) {
            return mz_fail(err, MZ_ERR_FORMAT, "%s with control character %d at byte %zu", what,
                           text[i], begin);
        }
    }
    void *copy = NULL;
    MZ_TRY(mz_alloc(c->ctx, (size_t)n + 1, what, &copy));
    memcpy(copy, text, (size_t)n);
    ((char *)copy)[n] = '\0';
    *out = copy;
    return MZ_OK;
}

/* ---- values ---- */

static mz_status check_bools(const cursor *c, const uint8_t *p, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (p[i] > 1) {
            return mz_fail(&c->ctx->error, MZ_ERR_FORMAT, "bool %d, expected 0 or 1", p[i]);
        }
    }
    return MZ_OK;
}

static mz_status skip_text(cursor *c, const uint8_t **out) {
    uint64_t n = 0;
    const uint8_t *text = NULL;
    *out = c->data + c->at;
    MZ_TRY(take_u64(c, "text", &n));
    return take(c, n, "text", &text);
}

static mz_status skip_texts(cursor *c, uint64_t n, const uint8_t **out) {
    MZ_TRY(check_count(c, "texts", n, MIN_TEXT, INT64_MAX));
    for (uint64_t i = 0; i < n; i++) {
        const uint8_t *text = NULL;
        MZ_TRY(skip_text(c, &text));
        if (out != NULL) {
            out[i] = text;
        }
    }
    return MZ_OK;
}

/* n values of a type of fixed size. */
static mz_status skip_fixed(cursor *c, uint32_t type, uint64_t n, const uint8_t **out) {
    const size_t bytes = mz_gguf_type_bytes(type);
    if (bytes == 0) {
        return mz_fail(&c->ctx->error, MZ_ERR_FORMAT, "value type %u, expected 0 to 12", type);
    }
    MZ_TRY(check_count(c, "values", n, bytes, INT64_MAX));
    MZ_TRY(take(c, n * bytes, "values", out));
    return type == MZ_GGUF_BOOL ? check_bools(c, *out, (size_t)n) : MZ_OK;
}

/* n arrays, which are checked and cannot be read. */
static mz_status skip_arrays(cursor *c, uint64_t n) {
    MZ_TRY(check_count(c, "arrays", n, MIN_ARRAY, INT64_MAX));
    for (uint64_t i = 0; i < n; i++) {
        uint32_t type = 0;
        uint64_t n_inner = 0;
        const uint8_t *data = NULL;
        MZ_TRY(take_u32(c, "element type", &type));
        MZ_TRY(take_u64(c, "array length", &n_inner));
        if (type == MZ_GGUF_ARRAY) {
            return mz_fail(&c->ctx->error, MZ_ERR_LIMIT, "array in an array in an array");
        }
        MZ_TRY(type == MZ_GGUF_STRING ? skip_texts(c, n_inner, NULL)
                                      : skip_fixed(c, type, n_inner, &data));
    }
    return MZ_OK;
}

static mz_status read_array(cursor *c, mz_gguf_entry *e) {
    uint32_t type = 0;
    uint64_t n = 0;
    MZ_TRY(take_u32(c, "element type", &type));
    MZ_TRY(take_u64(c, "array length", &n));
    e->data = c->data + c->at;
    e->n = (int64_t)n;
    if (type == MZ_GGUF_ARRAY) {
        MZ_TRY(skip_arrays(c, n));
    } else if (type == MZ_GGUF_STRING) {
        void *texts = NULL;
        MZ_TRY(check_count(c, "texts", n, MIN_TEXT, INT64_MAX));
        MZ_TRY(mz_calloc(c->ctx, (size_t)n, sizeof *e->texts, "index of texts", &texts));
        e->texts = texts;
        MZ_TRY(skip_texts(c, n, e->texts));
    } else {
        MZ_TRY(skip_fixed(c, type, n, &e->data));
    }
    e->element_type = (mz_gguf_type)type;
    return MZ_OK;
}

static mz_status read_value(cursor *c, mz_gguf_entry *e) {
    uint32_t type = 0;
    MZ_TRY(take_u32(c, "value type", &type));
    e->type = (mz_gguf_type)type;
    e->element_type = e->type;
    e->n = 1;
    if (type == MZ_GGUF_ARRAY) {
        return read_array(c, e);
    }
    return type == MZ_GGUF_STRING ? skip_text(c, &e->data) : skip_fixed(c, type, 1, &e->data);
}

static int by_key(const void *a, const void *b) {
    const mz_gguf_entry *const *x = a;
    const mz_gguf_entry *const *y = b;
    return strcmp((*x)->key, (*y)->key);
}

static mz_status sort_keys(mz_gguf *g) {
    void *sorted = NULL;
    MZ_TRY(mz_calloc(g->ctx, g->n_entries, sizeof *g->sorted, "index of keys", &sorted));
    g->sorted = sorted;
    for (size_t i = 0; i < g->n_entries; i++) {
        g->sorted[i] = &g->entries[i];
    }
    if (g->n_entries > 1) {
        qsort(g->sorted, g->n_entries, sizeof *g->sorted, by_key);
    }
    for (size_t i = 1; i < g->n_entries; i++) {
        if (strcmp(g->sorted[i - 1]->key, g->sorted[i]->key) == 0) {
            return mz_fail(&g->ctx->error, MZ_ERR_FORMAT, "key %s is there twice",
                           g->sorted[i]->key);
        }
    }
    return MZ_OK;
}

static mz_status read_keys(mz_gguf *g, cursor *c, uint64_t n) {
    void *entries = NULL;
    MZ_TRY(check_count(c, "keys", n, MIN_KEY, MZ_GGUF_MAX_KEYS));
    MZ_TRY(mz_calloc(g->ctx, (size_t)n, sizeof *g->entries, "metadata", &entries));
    g->entries = entries;
    for (uint64_t i = 0; i < n; i++) {
        mz_gguf_entry *e = &g->entries[i];
        MZ_TRY(take_name(c, "key", &e->key));
        g->n_entries++;
        e->raw = c->data + c->at;
        if (read_value(c, e) != MZ_OK) {
            return mz_fail_prefix(&g->ctx->error, "key %s", e->key);
        }
        e->n_raw_bytes = (size_t)(c->data + c->at - e->raw);
    }
    return sort_keys(g);
}

/* ---- tensors ---- */

static mz_status read_dims(cursor *c, const char *name, mz_weight_entry *e) {
    mz_error *err = &c->ctx->error;
    uint32_t n_dims = 0;
    MZ_TRY(take_u32(c, "number of dimensions", &n_dims));
    if (n_dims < 1 || n_dims > MZ_MAX_DIMS) {
        return mz_fail(err, MZ_ERR_FORMAT, "tensor %s: %u dimensions, expected 1 to %d", name,
                       n_dims, MZ_MAX_DIMS);
    }
    e->n_dims = (int)n_dims;
    for (int i = e->n_dims - 1; i >= 0; i--) { /* innermost first */
        uint64_t size = 0;
        MZ_TRY(take_u64(c, "dimension", &size));
        if (size == 0 || size > INT64_MAX) {
            return mz_fail(err, MZ_ERR_FORMAT, "tensor %s: dimension %llu", name,
                           (unsigned long long)size);
        }
        e->shape[i] = (int64_t)size;
    }
    return MZ_OK;
}

static mz_status read_type(cursor *c, const char *name, mz_weight_entry *e) {
    mz_error *err = &c->ctx->error;
    uint32_t number = 0;
    char text[128];
    MZ_TRY(take_u32(c, "tensor type", &number));
    if (!mz_gguf_dtype(number, &e->dtype)) {
        return mz_fail(err, MZ_ERR_UNSUPPORTED,
                       "tensor %s: type %u is not supported, expected F32, F16, BF16, Q8_0, Q4_0, "
                       "Q4_1, Q5_0, Q5_1 or Q2_K to Q6_K",
                       name, number);
    }
    const mz_dtype_info *info = mz_dtype_get(e->dtype);
    (void)mz_shape_text(text, sizeof text, e->shape, e->n_dims);
    if (e->shape[e->n_dims - 1] % info->block_len != 0) {
        return mz_fail(err, MZ_ERR_FORMAT, "tensor %s: rows of %s %s are no multiple of %d", name,
                       info->name, text, info->block_len);
    }
    if (!mz_weight_n_bytes(e->dtype, e->shape, e->n_dims, &e->n_bytes)) {
        return mz_fail(err, MZ_ERR_FORMAT, "tensor %s: %s has more elements than any file", name,
                       text);
    }
    return MZ_OK;
}

/* Until the end of the descriptions is known, the data's place is an offset. */
typedef struct offset_list {
    uint64_t *of;
    size_t n;
} offset_list;

static mz_status read_tensor(cursor *c, mz_weight_list *list, int32_t file, uint64_t *offset) {
    char *name = NULL;
    mz_weight_entry e = {.file = file};
    MZ_TRY(take_name(c, "tensor name", &name));
    mz_status status = read_dims(c, name, &e);
    if (status == MZ_OK) {
        status = read_type(c, name, &e);
    }
    if (status == MZ_OK) {
        status = take_u64(c, "offset", offset);
    }
    if (status == MZ_OK) {
        status = mz_weight_list_add(list, name, &e);
    }
    mz_free(c->ctx, name);
    return status;
}

static mz_status place(const cursor *c, mz_weight_list *list, size_t first,
                       const offset_list *offsets, size_t alignment) {
    mz_error *err = &c->ctx->error;
    const size_t pad = (alignment - c->at % alignment) % alignment;
    const size_t begin = pad > left(c) ? c->n_bytes : c->at + pad;
    const size_t n_data = c->n_bytes - begin;
    for (size_t i = 0; i < offsets->n; i++) {
        mz_weight_entry *e = &list->entries[first + i];
        const uint64_t offset = offsets->of[i];
        if (offset % alignment != 0) {
            return mz_fail(err, MZ_ERR_FORMAT, "tensor %s: offset %llu, expected a multiple of %zu",
                           e->name, (unsigned long long)offset, alignment);
        }
        if (offset > n_data || e->n_bytes > n_data - (size_t)offset) {
            return mz_fail(err, MZ_ERR_FORMAT,
                           "tensor %s: %zu bytes at offset %llu, the file has %zu of data", e->name,
                           e->n_bytes, (unsigned long long)offset, n_data);
        }
        e->data = c->data + begin + offset;
    }
    return MZ_OK;
}

static int by_place(const void *a, const void *b) {
    const mz_weight_entry *x = a;
    const mz_weight_entry *y = b;
    return (x->data > y->data) - (x->data < y->data);
}

static mz_status check_overlap(mz_weight_list *list, size_t first) {
    if (list->n - first > 1) {
        qsort(list->entries + first, list->n - first, sizeof *list->entries, by_place);
    }
    for (size_t i = first + 1; i < list->n; i++) {
        const mz_weight_entry *before = &list->entries[i - 1];
        const mz_weight_entry *e = &list->entries[i];
        if (before->n_bytes > (size_t)(e->data - before->data)) {
            return mz_fail(&list->ctx->error, MZ_ERR_FORMAT, "tensors %s and %s overlap",
                           before->name, e->name);
        }
    }
    return MZ_OK;
}

static mz_status read_tensors(cursor *c, mz_weight_list *list, int32_t file, uint64_t n,
                              size_t alignment) {
    void *memory = NULL;
    const size_t first = list->n;
    MZ_TRY(check_count(c, "tensors", n, MIN_TENSOR, MZ_WEIGHTS_MAX_TENSORS));
    MZ_TRY(mz_calloc(c->ctx, (size_t)n, sizeof(uint64_t), "tensor offsets", &memory));
    const offset_list offsets = {.of = memory, .n = (size_t)n};
    mz_status status = MZ_OK;
    for (size_t i = 0; i < offsets.n && status == MZ_OK; i++) {
        status = read_tensor(c, list, file, &offsets.of[i]);
    }
    if (status == MZ_OK) {
        status = place(c, list, first, &offsets, alignment);
    }
    mz_free(c->ctx, memory);
    return status != MZ_OK ? status : check_overlap(list, first);
}

/* ---- the file ---- */

static mz_status read_version(cursor *c) {
    mz_error *err = &c->ctx->error;
    const uint8_t *magic = NULL;
    uint32_t version = 0;
    if (left(c) < 4 || memcmp(c->data, "GGUF", 4) != 0) {
        return mz_fail(err, MZ_ERR_FORMAT, "is no GGUF file: it does not begin with \"GGUF\"");
    }
    MZ_TRY(take(c, 4, "GGUF", &magic));
    MZ_TRY(take_u32(c, "version", &version));
    if (version == 2 || version == 3) {
        return MZ_OK;
    }
    if (version >> 24 != 0 && (version & 0xffffffu) == 0) {
        return mz_fail(err, MZ_ERR_FORMAT, "is a big-endian GGUF file, expected little-endian");
    }
    return mz_fail(err, MZ_ERR_FORMAT, "GGUF version %u, expected 2 or 3", version);
}

static mz_status read_alignment(const mz_gguf *g, size_t *out) {
    int64_t alignment = MZ_GGUF_ALIGNMENT;
    MZ_TRY(mz_gguf_int(g, &g->ctx->error, "general.alignment", 1, (int64_t)1 << 30, &alignment));
    if ((alignment & (alignment - 1)) != 0) {
        return mz_fail(&g->ctx->error, MZ_ERR_FORMAT,
                       "general.alignment %lld, expected a power of two", (long long)alignment);
    }
    *out = (size_t)alignment;
    return MZ_OK;
}

static mz_status parse(mz_gguf *g, const mz_weight_file *file, mz_weight_list *list) {
    cursor c = {.ctx = g->ctx, .data = file->data, .n_bytes = file->n_bytes};
    uint64_t n_tensors = 0;
    uint64_t n_keys = 0;
    size_t alignment = 0;
    MZ_TRY(read_version(&c));
    MZ_TRY(take_u64(&c, "number of tensors", &n_tensors));
    MZ_TRY(take_u64(&c, "number of keys", &n_keys));
    MZ_TRY(read_keys(g, &c, n_keys));
    MZ_TRY(read_alignment(g, &alignment));
    return read_tensors(&c, list, file->index, n_tensors, alignment);
}

mz_status mz_gguf_parse(mz_gguf *g, const mz_weight_file *file, mz_weight_list *list) {
    return parse(g, file, list) == MZ_OK ? MZ_OK : mz_fail_prefix(&g->ctx->error, "%s", file->path);
}

void mz_gguf_clear(mz_gguf *g) {
    for (size_t i = 0; i < g->n_entries; i++) {
        mz_free(g->ctx, g->entries[i].key);
        mz_free(g->ctx, g->entries[i].texts);
    }
    mz_free(g->ctx, g->entries);
    mz_free(g->ctx, g->sorted);
    mz_weights_close(g->ctx, g->weights);
    mz_map_close(&g->map);
    mz_free(g->ctx, g->path);
    *g = (mz_gguf){.ctx = g->ctx};
}

/* Which of how many files this is: it must be number `part`. */
static mz_status check_part(const mz_gguf *g, int64_t part, int64_t *n_parts, int64_t *n_total) {
    mz_error *err = &g->ctx->error;
    int64_t number = 0;
    *n_parts = 1;
    *n_total = -1;
    MZ_TRY(mz_gguf_int(g, err, "split.count", 0, MZ_WEIGHTS_MAX_FILES, n_parts));
    MZ_TRY(mz_gguf_int(g, err, "split.no", 0, MZ_WEIGHTS_MAX_FILES, &number));
    MZ_TRY(mz_gguf_int(g, err, "split.tensors.count", 0, MZ_WEIGHTS_MAX_TENSORS, n_total));
    *n_parts = *n_parts < 1 ? 1 : *n_parts;
    if (number != part) {
        return mz_fail(err, MZ_ERR_FORMAT, "is part %lld of %lld, expected part %lld",
                       (long long)number + 1, (long long)*n_parts, (long long)part + 1);
    }
    return MZ_OK;
}

static mz_status open_file(mz_gguf *g, const char *path) {
    MZ_TRY(mz_strdup(g->ctx, path, &g->path));
    MZ_TRY(mz_map_open(g->ctx, path, &g->map));
    const mz_weight_file file = {.path = path, .data = g->map.data, .n_bytes = g->map.bytes};
    mz_weight_list list = {.ctx = g->ctx};
    const mz_status status = mz_gguf_parse(g, &file, &list);
    mz_weight_list_free(&list);
    return status == MZ_OK ? mz_weights_open_gguf(g->ctx, path, &g->weights) : status;
}

mz_status mz_gguf_open(mz_context *ctx, const char *path, mz_gguf **out) {
    void *memory = NULL;
    MZ_TRY(mz_calloc(ctx, 1, sizeof(mz_gguf), "GGUF file", &memory));
    mz_gguf *g = memory;
    g->ctx = ctx;
    const mz_status status = open_file(g, path);
    if (status != MZ_OK) {
        mz_gguf_close(ctx, g);
        return status;
    }
    *out = g;
    return MZ_OK;
}

void mz_gguf_close(mz_context *ctx, mz_gguf *gguf) {
    if (gguf != NULL) {
        mz_gguf_clear(gguf);
        mz_free(ctx, gguf);
    }
}

bool mz_gguf_tensor(const mz_gguf *gguf, const char *name, mz_tensor *out) {
    int64_t low = 0;
    int64_t high = mz_weights_count(gguf->weights);
    while (low < high) { /* they are in name order */
        const int64_t middle = low + (high - low) / 2;
        const char *found = NULL;
        if (mz_weights_at(gguf->weights, middle, &found, out) != MZ_OK) {
            return false;
        }
        const int order = strcmp(name, found);
        if (order == 0) {
            return true;
        }
        low = order > 0 ? middle + 1 : low;
        high = order > 0 ? high : middle;
    }
    return false;
}

mz_status mz_gguf_read(mz_weight_list *list, const mz_weight_file *file, int64_t part,
                       int64_t *n_parts, int64_t *n_total) {
    mz_gguf g = {.ctx = list->ctx};
    mz_status status = mz_gguf_parse(&g, file, list);
    if (status == MZ_OK && check_part(&g, part, n_parts, n_total) != MZ_OK) {
        status = mz_fail_prefix(&g.ctx->error, "%s", file->path);
    }
    mz_gguf_clear(&g);
    return status;
}
