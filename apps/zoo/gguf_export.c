#include "apps/zoo/gguf_export.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "apps/zoo/gguf_export_internal.h"
#include "apps/zoo/gguf_map.h"
#include "apps/zoo/gguf_tokenizer.h"
#include "core/file.h"
#include "core/json.h"

enum { MAX_ROWS = 1 << 24 /* of q: heads times their size */ };

static bool ends_with(const char *text, const char *suffix) {
    const size_t n = strlen(text);
    const size_t n_suffix = strlen(suffix);
    return n >= n_suffix && strcmp(text + n - n_suffix, suffix) == 0;
}

mz_tensor_role mz_gguf_tensor_role(const char *name, int n_dims) {
    if (n_dims < 2 || ends_with(name, "norm.weight") || ends_with(name, ".bias") ||
        strstr(name, "ffn_gate_inp") != NULL || strncmp(name, "rope_", 5) == 0) {
        return MZ_ROLE_SMALL;
    }
    if (strcmp(name, "token_embd.weight") == 0 || strcmp(name, "output.weight") == 0) {
        return MZ_ROLE_EMBEDDING;
    }
    if (strstr(name, "_shexp.") != NULL) {
        return MZ_ROLE_SHARED;
    }
    if (strstr(name, "_exps.") != NULL || mz_gguf_is_single_expert(name)) {
        return MZ_ROLE_EXPERT;
    }
    return MZ_ROLE_OTHER;
}

/* One tensor of the source and where it goes. */
typedef struct source {
    mz_gguf_place place;
    const char *published;
    mz_tensor tensor;
} source;

/* Numbers in names compare as numbers, so that layer 2 comes before layer 10. */
static int compare_names(const char *a, const char *b) {
    while (*a != '\0' && *b != '\0') {
        if (*a >= '0' && *a <= '9' && *b >= '0' && *b <= '9') {
            char *end_a = NULL;
            char *end_b = NULL;
            const unsigned long x = strtoul(a, &end_a, 10);
            const unsigned long y = strtoul(b, &end_b, 10);
            if (x != y) {
                return x < y ? -1 : 1;
            }
            a = end_a;
            b = end_b;
        } else if (*a++ != *b++) {
            return (unsigned char)a[-1] < (unsigned char)b[-1] ? -1 : 1;
        }
    }
    return (*a != '\0') - (*b != '\0');
}

static int by_place(const void *a, const void *b) {
    const source *x = a;
    const source *y = b;
    const int order = compare_names(x->place.name, y->place.name);
    return order != 0 ? order
                      : (x->place.slice > y->place.slice) - (x->place.slice < y->place.slice);
}

static int by_item(const void *a, const void *b) {
    return compare_names(((const mz_gguf_item *)a)->name, ((const mz_gguf_item *)b)->name);
}

static void sort_items(mz_gguf_export *e) {
    if (e->n_items > 1) {
        qsort(e->items, (size_t)e->n_items, sizeof *e->items, by_item);
    }
    for (int64_t i = 0; i < e->n_items; i++) {
        e->stored[i] = e->items[i].parts[0].dtype;
    }
}

/* Room for n items. */
static mz_status allocate(mz_gguf_export *e, size_t n) {
    void *memory = NULL;
    MZ_TRY(mz_calloc(e->ctx, n + 1, sizeof *e->items, "tensors", &memory));
    e->items = memory;
    MZ_TRY(mz_calloc(e->ctx, n + 1, sizeof *e->stored, "tensors", &memory));
    e->stored = memory;
    MZ_TRY(mz_calloc(e->ctx, n + 1, sizeof *e->parts, "tensors", &memory));
    e->parts = memory;
    MZ_TRY(mz_calloc(e->ctx, n + 1, sizeof *e->names, "tensors", &memory));
    e->names = memory;
    return MZ_OK;
}

static void add_item(mz_gguf_export *e, const mz_gguf_item *item) {
    mz_gguf_item *added = &e->items[e->n_items];
    *added = *item;
    added->dtype = mz_gguf_tensor_role(item->name, item->n_dims) == MZ_ROLE_SMALL
                       ? MZ_DTYPE_F32
                       : item->parts[0].dtype;
    e->n_items++;
}

/* ---- a GGUF file as it is ---- */

static bool is_replaced_key(const char *key) {
    return strncmp(key, "split.", 6) == 0 || strcmp(key, "general.alignment") == 0 ||
           strcmp(key, "general.file_type") == 0 ||
           strcmp(key, "general.quantization_version") == 0;
}

static mz_status open_gguf(mz_gguf_export *e, const char *path) {
    MZ_TRY(mz_gguf_open(e->ctx, path, &e->gguf));
    MZ_TRY(mz_weights_open(e->ctx, path, &e->weights));
    for (int64_t i = 0; i < mz_gguf_n_keys(e->gguf); i++) {
        const char *key = mz_gguf_key(e->gguf, i);
        if (!is_replaced_key(key)) {
            MZ_TRY(mz_gguf_meta_copy(&e->meta, e->gguf, key));
        }
    }
    const int64_t n = mz_weights_count(e->weights);
    MZ_TRY(allocate(e, (size_t)n));
    for (int64_t i = 0; i < n; i++) {
        mz_gguf_item item = {.n_parts = 1, .parts = &e->parts[i]};
        MZ_TRY(mz_weights_at(e->weights, i, &item.name, &e->parts[i]));
        item.n_dims = e->parts[i].n_dims;
        memcpy(item.shape, e->parts[i].shape, sizeof item.shape);
        add_item(e, &item);
    }
    sort_items(e);
    return MZ_OK;
}

/* ---- a published folder ---- */

static bool is_skipped(const char *name, bool tied) {
    return ends_with(name, "rotary_emb.inv_freq") || (tied && strcmp(name, "lm_head.weight") == 0);
}

static mz_status list_sources(mz_gguf_export *e, const mz_gguf_config_source *s, source *sources,
                              size_t *n_out) {
    const bool gemma = (s->architecture->bit & MZ_GGUF_GEMMA3) != 0;
    const json_t *tied = json_object_get(s->config, "tie_word_embeddings");
    const bool is_tied = tied == NULL ? gemma : json_is_true(tied);
    size_t n = 0;
    for (int64_t i = 0; i < mz_weights_count(e->weights); i++) {
        source *one = &sources[n];
        MZ_TRY(mz_weights_at(e->weights, i, &one->published, &one->tensor));
        if (is_skipped(one->published, is_tied)) {
            continue;
        }
        if (!mz_gguf_tensor_place(s->architecture->name, one->published, &one->place)) {
            return mz_fail(&e->ctx->error, MZ_ERR_UNSUPPORTED,
                           "%s: tensor %s has no name in GGUF files of architecture %s", s->path,
                           one->published, s->architecture->name);
        }
        if (!mz_weights_find(e->weights, one->published, &one->tensor)) {
            return mz_fail(&e->ctx->error, MZ_ERR_NOMEM, "%s: out of memory", one->published);
        }
        n++;
    }
    if (n > 1) {
        qsort(sources, n, sizeof *sources, by_place);
    }
    *n_out = n;
    return MZ_OK;
}

/* Row 2j of a head is its published row j, row 2j + 1 is row j + head_dim / 2. */
static mz_status make_order(mz_gguf_export *e, int k, int64_t n_heads, int64_t head_dim) {
    void *memory = NULL;
    MZ_TRY(
        mz_calloc(e->ctx, (size_t)(n_heads * head_dim), sizeof(int64_t), "order of rows", &memory));
    e->orders[k] = memory;
    for (int64_t i = 0; i < n_heads * head_dim; i++) {
        const int64_t within = i % head_dim;
        e->orders[k][i] = i - within + within / 2 + within % 2 * (head_dim / 2);
    }
    return MZ_OK;
}

/* Rows of q and k in the order of the format; a bias is a column of them. */
static mz_status set_order(mz_gguf_export *e, const mz_gguf_config_source *s, mz_gguf_item *item,
                           mz_tensor *part) {
    const bool is_q = strstr(item->name, ".attn_q.") != NULL;
    const int64_t n_heads = is_q ? s->n_heads : s->n_kv_heads;
    if ((s->architecture->bit & MZ_GGUF_LLAMA) == 0 ||
        (!is_q && strstr(item->name, ".attn_k.") == NULL)) {
        return MZ_OK;
    }
    if (part->shape[0] != n_heads * s->head_dim || s->head_dim % 2 != 0) {
        return mz_fail(&e->ctx->error, MZ_ERR_SHAPE, "%s: %lld rows for %lld heads of %lld",
                       item->name, (long long)part->shape[0], (long long)n_heads,
                       (long long)s->head_dim);
    }
    if (part->n_dims == 1) {
        *part = mz_tensor_2d(part->dtype, part->shape[0], 1, part->data);
    }
    item->row_order = e->orders[is_q ? 0 : 1];
    return MZ_OK;
}

/* Sources [begin, end) are one tensor of the file. */
static mz_status add_group(mz_gguf_export *e, const mz_gguf_config_source *s, const source *sources,
                           size_t begin, size_t end) {
    const source *first = &sources[begin];
    char *name = e->names[e->n_items];
    (void)snprintf(name, sizeof e->names[0], "%s", first->place.name);
    mz_gguf_item item = {.name = name,
                         .parts = &e->parts[begin],
                         .n_parts = (int64_t)(end - begin),
                         .n_dims = first->tensor.n_dims};
    const bool stack = first->place.slice >= 0;
    memcpy(item.shape, first->tensor.shape, sizeof item.shape);
    if (stack) {
        item.n_dims = item.n_dims < MZ_MAX_DIMS ? item.n_dims + 1 : item.n_dims;
        memmove(item.shape + 1, first->tensor.shape, 3 * sizeof item.shape[0]);
        item.shape[0] = item.n_parts;
    }
    for (size_t i = begin; i < end; i++) {
        if (stack ? sources[i].place.slice != (int64_t)(i - begin) : i > begin) {
            return mz_fail(&e->ctx->error, stack ? MZ_ERR_MISSING : MZ_ERR_FORMAT,
                           "%s: tensor %s is number %lld of %s, expected %zu", s->path,
                           sources[i].published, (long long)sources[i].place.slice, name,
                           i - begin);
        }
        e->parts[i] = sources[i].tensor;
    }
    MZ_TRY(set_order(e, s, &item, &e->parts[begin]));
    if ((s->architecture->bit & MZ_GGUF_GEMMA3) != 0 && ends_with(name, "norm.weight")) {
        item.offset = 1;
    }
    if (ends_with(name, "ffn_gate_inp_shexp.weight") && item.n_dims == 2 && item.shape[0] == 1) {
        item.n_dims = 1; /* published as a matrix of one row */
        item.shape[0] = item.shape[1];
    }
    add_item(e, &item);
    return MZ_OK;
}

static mz_status add_divisors(mz_gguf_export *e, const mz_gguf_config_source *s,
                              const mz_llama3_scaling *scaling) {
    const mz_json_object o = {s->ctx, s->config, s->path};
    const int64_t n = s->head_dim / 2;
    double theta = 0;
    void *memory = NULL;
    MZ_TRY(mz_json_number_or(&o, "rope_theta", 10000, 1, 1e12, &theta));
    MZ_TRY(mz_calloc(e->ctx, (size_t)n, sizeof(float), "frequency divisors", &memory));
    e->divisors = memory;
    mz_llama3_divisors(scaling, theta, n, e->divisors);
    e->divisors_tensor = mz_tensor_1d(MZ_DTYPE_F32, n, e->divisors);
    add_item(e, &(mz_gguf_item){.name = "rope_freqs.weight",
                                .parts = &e->divisors_tensor,
                                .n_parts = 1,
                                .n_dims = 1,
                                .shape = {n}});
    return MZ_OK;
}

static mz_status add_tensors(mz_gguf_export *e, const mz_gguf_config_source *s) {
    void *memory = NULL;
    size_t n = 0;
    MZ_TRY(make_order(e, 0, s->n_heads, s->head_dim));
    MZ_TRY(make_order(e, 1, s->n_kv_heads, s->head_dim));
    MZ_TRY(mz_calloc(e->ctx, (size_t)mz_weights_count(e->weights) + 1, sizeof(source), "tensors",
                     &memory));
    source *sources = memory;
    mz_status status = list_sources(e, s, sources, &n);
    size_t begin = 0;
    for (size_t i = 1; i <= n && status == MZ_OK; i++) {
        if (i == n || strcmp(sources[i].place.name, sources[begin].place.name) != 0) {
            status = add_group(e, s, sources, begin, i);
            begin = i;
        }
    }
    mz_free(e->ctx, sources);
    return status;
}

static mz_status open_parts(mz_gguf_export *e, const char *dir, mz_gguf_config_source *s) {
    mz_llama3_scaling scaling = {0};
    bool has_scaling = false;
    const char *slash = strrchr(dir, '/');
    const char *name = slash != NULL && slash[1] != '\0' ? slash + 1 : dir;
    mz_tensor embedding = {0};
    MZ_TRY(mz_gguf_source_open(s));
    MZ_TRY(mz_weights_open(e->ctx, dir, &e->weights));
    MZ_TRY(mz_gguf_write_config(s, name, &e->meta, &scaling, &has_scaling));
    MZ_TRY(allocate(e, (size_t)mz_weights_count(e->weights) + 1));
    MZ_TRY(add_tensors(e, s));
    if (has_scaling) {
        MZ_TRY(add_divisors(e, s, &scaling));
    }
    sort_items(e);
    if (!mz_weights_find(e->weights, "model.embed_tokens.weight", &embedding)) {
        return mz_fail(&e->ctx->error, MZ_ERR_MISSING, "%s: no tensor model.embed_tokens.weight",
                       dir);
    }
    MZ_TRY(mz_gguf_tokenizer_export(e->ctx, dir, embedding.shape[0], &e->meta, e->note,
                                    sizeof e->note));
    e->tokenizer_note = e->note[0] != '\0' ? e->note : NULL;
    return MZ_OK;
}

static mz_status open_folder(mz_gguf_export *e, const char *dir) {
    char *path = NULL;
    json_t *config = NULL;
    MZ_TRY(mz_path_join(e->ctx, dir, "config.json", &path));
    mz_status status = mz_json_load(e->ctx, path, &config);
    if (status == MZ_OK) {
        mz_gguf_config_source s = {.ctx = e->ctx, .config = config, .path = path};
        status = open_parts(e, dir, &s);
    }
    json_decref(config);
    mz_free(e->ctx, path);
    return status;
}

/* ---- */

mz_status mz_gguf_export_open(mz_context *ctx, const char *path, mz_gguf_export *out) {
    *out = (mz_gguf_export){.ctx = ctx, .meta = {.ctx = ctx}};
    return ends_with(path, ".gguf") ? open_gguf(out, path) : open_folder(out, path);
}

void mz_gguf_export_close(mz_gguf_export *e) {
    if (e->ctx == NULL) {
        return;
    }
    mz_gguf_meta_free(&e->meta);
    mz_free(e->ctx, e->items);
    mz_free(e->ctx, e->stored);
    mz_free(e->ctx, e->parts);
    mz_free(e->ctx, e->names);
    mz_free(e->ctx, e->orders[0]);
    mz_free(e->ctx, e->orders[1]);
    mz_free(e->ctx, e->divisors);
    mz_weights_close(e->ctx, e->weights);
    mz_gguf_close(e->ctx, e->gguf);
    *e = (mz_gguf_export){0};
}

mz_status mz_gguf_export_finish(mz_gguf_export *e, mz_dtype type) {
    /* The format's numbers of a file's main type; of the K types those without mixing. */
    static const uint8_t numbers[MZ_DTYPE_COUNT] = {
        [MZ_DTYPE_F32] = 0,   [MZ_DTYPE_F16] = 1,   [MZ_DTYPE_BF16] = 32, [MZ_DTYPE_Q8_0] = 7,
        [MZ_DTYPE_Q4_0] = 2,  [MZ_DTYPE_Q4_1] = 3,  [MZ_DTYPE_Q5_0] = 8,  [MZ_DTYPE_Q5_1] = 9,
        [MZ_DTYPE_Q2_K] = 10, [MZ_DTYPE_Q3_K] = 11, [MZ_DTYPE_Q4_K] = 14, [MZ_DTYPE_Q5_K] = 16,
        [MZ_DTYPE_Q6_K] = 18,
    };
    MZ_TRY(mz_gguf_meta_int(&e->meta, "general.file_type", MZ_GGUF_U32, numbers[type]));
    return mz_gguf_meta_int(&e->meta, "general.quantization_version", MZ_GGUF_U32, 2);
}
