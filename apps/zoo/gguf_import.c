#include "apps/zoo/gguf_import.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "apps/zoo/gguf_map.h"
#include "apps/zoo/gguf_tokenizer.h"
#include "core/file.h"
#include "core/safetensors_write.h"
#include "core/weights.h"

/* The tensors of the checkpoint in the making; owns names and copies. */
typedef struct import {
    mz_context *ctx;
    const mz_gguf *gguf;
    mz_weights *weights;
    const json_t *config;
    char architecture[32];
    mz_dtype wide;
    mz_safetensors_item *items;
    size_t n_items, items_capacity;
    void **copies; /* [n_copies] */
    size_t n_copies, copies_capacity;
} import;

static int64_t size_of(const import *m, const char *field) {
    return json_integer_value(json_object_get(m->config, field));
}

static bool is_set(const import *m, const char *field) {
    return json_is_true(json_object_get(m->config, field));
}

static mz_status keep(import *m, size_t bytes, const char *what, void **out) {
    void *copies = m->copies;
    MZ_TRY(mz_grow(m->ctx, &copies, &m->copies_capacity, m->n_copies + 1, sizeof(void *),
                   "list of copies"));
    m->copies = copies;
    MZ_TRY(mz_alloc(m->ctx, bytes, what, out));
    m->copies[m->n_copies++] = *out;
    return MZ_OK;
}

static mz_status add(import *m, const char *name, const mz_tensor *t) {
    void *items = m->items;
    void *copy = NULL;
    const bool blocks = mz_dtype_get(t->dtype)->block_len > 1;
    MZ_TRY(mz_grow(m->ctx, &items, &m->items_capacity, m->n_items + 1, sizeof *m->items,
                   "tensor list"));
    m->items = items;
    MZ_TRY(keep(m, strlen(name) + 1, "tensor name", &copy));
    memcpy(copy, name, strlen(name) + 1);
    m->items[m->n_items++] =
        (mz_safetensors_item){.name = copy, .tensor = *t, .dtype = blocks ? m->wide : t->dtype};
    return MZ_OK;
}

static mz_status unknown(const import *m, const char *name) {
    return mz_fail(&m->ctx->error, MZ_ERR_UNSUPPORTED,
                   "%s: tensor %s has no published name in architecture %s", mz_gguf_path(m->gguf),
                   name, m->architecture);
}

/* Row 2j of a head is its published row j, row 2j + 1 is row j + head_dim / 2. */
static mz_status put_rows_back(import *m, const char *name, mz_tensor *t, int64_t n_heads) {
    const int64_t head_dim = size_of(m, "head_dim");
    const int64_t n = n_heads * head_dim;
    const size_t row_bytes =
        t->n_dims == 1 ? (size_t)mz_dtype_get(t->dtype)->block_bytes : mz_tensor_row_bytes(t);
    void *copy = NULL;
    if (t->n_dims > 2 || t->shape[0] != n || head_dim % 2 != 0 ||
        (t->n_dims == 1 && mz_dtype_get(t->dtype)->block_len > 1)) {
        return mz_fail(&m->ctx->error, MZ_ERR_SHAPE, "%s: %s has %lld rows, expected %lld of %lld",
                       mz_gguf_path(m->gguf), name, (long long)t->shape[0], (long long)n_heads,
                       (long long)head_dim);
    }
    MZ_TRY(keep(m, (size_t)n * row_bytes, name, &copy));
    for (int64_t i = 0; i < n; i++) {
        const int64_t within = i % head_dim;
        const int64_t to = i - within + within / 2 + within % 2 * (head_dim / 2);
        memcpy((uint8_t *)copy + (size_t)to * row_bytes,
               (const uint8_t *)t->data + (size_t)i * row_bytes, row_bytes);
    }
    t->data = copy;
    return MZ_OK;
}

static mz_status take_offset_off(import *m, const char *name, mz_tensor *t) {
    const int64_t n = mz_tensor_n_elements(t);
    void *copy = NULL;
    MZ_TRY(keep(m, (size_t)n * sizeof(float), name, &copy));
    float *values = copy;
    mz_dtype_get(t->dtype)->to_f32(values, t->data, n);
    for (int64_t i = 0; i < n; i++) {
        values[i] -= 1;
    }
    t->dtype = MZ_DTYPE_F32;
    t->data = copy;
    return MZ_OK;
}

static bool ends_with(const char *text, const char *suffix) {
    const size_t n = strlen(text);
    const size_t n_suffix = strlen(suffix);
    return n >= n_suffix && strcmp(text + n - n_suffix, suffix) == 0;
}

static mz_status add_stack(import *m, const char *name, const mz_tensor *t) {
    char published[MZ_GGUF_NAME_BYTES];
    mz_tensor slice = *t;
    if (t->n_dims < 2) {
        return unknown(m, name);
    }
    slice.n_dims = t->n_dims - 1;
    memmove(slice.shape, t->shape + 1, 3 * sizeof slice.shape[0]);
    const size_t bytes = (size_t)mz_tensor_n_rows(&slice) * mz_tensor_row_bytes(&slice);
    for (int64_t i = 0; i < t->shape[0]; i++) {
        slice.data = (uint8_t *)t->data + (size_t)i * bytes;
        if (!mz_gguf_published_name(m->architecture, name, i, published)) {
            return unknown(m, name);
        }
        MZ_TRY(add(m, published, &slice));
    }
    return MZ_OK;
}

/* blk.N.attn_qkv: rows of q, then k, then v. */
static mz_status add_fused(import *m, const char *name, const mz_tensor *t) {
    static const char *const parts[] = {"attn_q.", "attn_k.", "attn_v."};
    const char *fused = strstr(name, "attn_qkv.");
    const int64_t kv = size_of(m, "num_key_value_heads") * size_of(m, "head_dim");
    const int64_t q = size_of(m, "num_attention_heads") * size_of(m, "head_dim");
    const int64_t n_rows[] = {q, kv, kv};
    int64_t begin = 0;
    if (fused == NULL || t->n_dims > 2 || t->shape[0] != q + 2 * kv ||
        (t->n_dims == 1 && mz_dtype_get(t->dtype)->block_len > 1)) {
        return unknown(m, name);
    }
    for (int i = 0; i < 3; i++) {
        char file[MZ_GGUF_NAME_BYTES];
        char published[MZ_GGUF_NAME_BYTES];
        mz_tensor view = t->n_dims == 2 ? mz_tensor_rows(t, begin, n_rows[i]) : *t;
        if (t->n_dims == 1) {
            view = mz_tensor_1d(t->dtype, n_rows[i],
                                (uint8_t *)t->data +
                                    (size_t)begin * (size_t)mz_dtype_get(t->dtype)->block_bytes);
        }
        const int n = snprintf(file, sizeof file, "%.*s%s%s", (int)(fused - name), name, parts[i],
                               fused + strlen("attn_qkv."));
        if (n < 0 || n >= (int)sizeof file ||
            !mz_gguf_published_name(m->architecture, file, -1, published)) {
            return unknown(m, name);
        }
        MZ_TRY(add(m, published, &view));
        begin += n_rows[i];
    }
    return MZ_OK;
}

static mz_status add_tensor(import *m, const char *name, mz_tensor t) {
    char published[MZ_GGUF_NAME_BYTES];
    if (strcmp(name, "rope_freqs.weight") == 0) {
        return MZ_OK; /* is in the config */
    }
    if (mz_gguf_is_stack(m->architecture, name)) {
        return add_stack(m, name, &t);
    }
    if (strstr(name, ".attn_qkv.") != NULL) {
        return add_fused(m, name, &t);
    }
    if (!mz_gguf_published_name(m->architecture, name, -1, published)) {
        return unknown(m, name);
    }
    const bool is_q = strstr(name, ".attn_q.") != NULL;
    if (is_set(m, "rope_interleaved") && (is_q || strstr(name, ".attn_k.") != NULL)) {
        MZ_TRY(put_rows_back(m, name, &t,
                             size_of(m, is_q ? "num_attention_heads" : "num_key_value_heads")));
    }
    if (is_set(m, "norm_offset_included") && ends_with(name, "norm.weight")) {
        MZ_TRY(take_offset_off(m, name, &t));
    }
    if (strstr(name, "ffn_gate_inp_shexp.") != NULL && t.n_dims == 1) {
        t = mz_tensor_2d(t.dtype, 1, t.shape[0], t.data); /* published as a matrix of one row */
    }
    return add(m, published, &t);
}

static mz_status write_tensors(import *m, const char *dir) {
    char *path = NULL;
    for (int64_t i = 0; i < mz_weights_count(m->weights); i++) {
        const char *name = NULL;
        mz_tensor t;
        MZ_TRY(mz_weights_at(m->weights, i, &name, &t));
        if (!mz_weights_find(m->weights, name, &t)) {
            return mz_fail(&m->ctx->error, MZ_ERR_NOMEM, "%s: out of memory", name);
        }
        MZ_TRY(add_tensor(m, name, t));
    }
    MZ_TRY(mz_path_join(m->ctx, dir, "model.safetensors", &path));
    const mz_status status =
        mz_safetensors_write(m->ctx, path, m->items, (int64_t)m->n_items, NULL, 0);
    mz_free(m->ctx, path);
    return status;
}

static mz_status write_config(import *m, const char *dir) {
    static const char *const own[] = {"rope_interleaved", "norm_offset_included", "expert_layout"};
    char *path = NULL;
    mz_output out = {0};
    json_t *config = json_copy((json_t *)(uintptr_t)m->config);
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) {
        (void)json_object_del(config, own[i]);
    }
    char *text = config != NULL ? json_dumps(config, JSON_INDENT(2)) : NULL;
    json_decref(config);
    if (text == NULL) {
        return mz_fail(&m->ctx->error, MZ_ERR_NOMEM, "out of memory for a config");
    }
    mz_status status = mz_path_join(m->ctx, dir, "config.json", &path);
    if (status == MZ_OK) {
        status = mz_output_open(m->ctx, path, &out);
    }
    if (status == MZ_OK) {
        (void)fprintf(out.stream, "%s\n", text);
        status = mz_output_commit(m->ctx, &out);
    }
    free(text);
    mz_free(m->ctx, path);
    return status;
}

/* All that is ever written into the folder. */
static const char *const file_names[] = {"config.json", "model.safetensors", "tokenizer.json",
                                         "tokenizer.model", "tokenizer_config.json"};
enum { N_FILE_NAMES = sizeof file_names / sizeof file_names[0] };

/* A model beside another would be half of each. */
static mz_status check_folder(mz_context *ctx, const char *dir) {
    for (int i = 0; i < N_FILE_NAMES; i++) {
        bool there = false;
        MZ_TRY(mz_dir_has_file(ctx, dir, file_names[i], &there));
        if (there) {
            return mz_fail(&ctx->error, MZ_ERR_ARG,
                           "%s: holds %s already; a converted checkpoint needs another folder", dir,
                           file_names[i]);
        }
    }
    return MZ_OK;
}

/* None of the files was there before. The error stays as it is. */
static void remove_files(mz_context *ctx, const char *dir) {
    const mz_error error = ctx->error;
    for (int i = 0; i < N_FILE_NAMES; i++) {
        char *path = NULL;
        if (mz_path_join(ctx, dir, file_names[i], &path) == MZ_OK) {
            (void)unlink(path);
        }
        mz_free(ctx, path);
    }
    ctx->error = error;
}

static mz_status run(import *m, const char *dir, char note[MZ_NOTE_BYTES]) {
    const char *text = NULL;
    size_t n = 0;
    MZ_TRY(mz_gguf_text(m->gguf, &m->ctx->error, "general.architecture", &text, &n));
    (void)snprintf(m->architecture, sizeof m->architecture, "%.*s", (int)n, text);
    MZ_TRY(mz_weights_open(m->ctx, mz_gguf_path(m->gguf), &m->weights));
    MZ_TRY(write_tensors(m, dir));
    MZ_TRY(mz_gguf_tokenizer_import(m->ctx, m->gguf, dir, note, MZ_NOTE_BYTES));
    return write_config(m, dir);
}

mz_status mz_gguf_import(mz_context *ctx, const char *path, const char *dir, mz_dtype wide,
                         char note[MZ_NOTE_BYTES]) {
import m = {.ctx = ctx, .wide = wide };
    mz_gguf *gguf = NULL;
    json_t *config = NULL;
    MZ_TRY(check_folder(ctx, dir));
    MZ_TRY(mz_gguf_open(ctx, path, &gguf));
    mz_status status = mz_gguf_config(ctx, gguf, &config);
    if (status == MZ_OK) {
        m.gguf = gguf;
        m.config = config;
        status = run(&m, dir, note);
        if (status != MZ_OK) {
            remove_files(ctx, dir);
        }
    }
    for (size_t i = 0; i < m.n_copies; i++) {
        mz_free(ctx, m.copies[i]);
    }
    mz_free(ctx, m.copies);
    mz_free(ctx, m.items);
    mz_weights_close(ctx, m.weights);
    json_decref(config);
    mz_gguf_close(ctx, gguf);
    return status;
}
