#include "tests/golden/made_checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/half.h"
#include "core/json.h"
#include "core/weights.h"
#include "tests/golden/sha256.h"

typedef struct entry {
    char name[128];
    int64_t shape[2];
    int n_dims;
} entry;

typedef struct recipe {
    mz_context *ctx;
    const char *dir;
    int64_t d_model, n_layers, n_heads, n_kv_heads, n_experts;
    int64_t expert_width, shared_width;
    entry *entries;
    size_t n_entries, capacity;
    mz_weights *routers; /* NULL: the recipe's own values stay */
    mz_sha256 digest;
    uint32_t state;
} recipe;

static mz_status add(recipe *r, int64_t rows, int64_t cols, const char *format, const char *layer,
                     const char *suffix) {
    void *items = r->entries;
    MZ_TRY(mz_grow(r->ctx, &items, &r->capacity, r->n_entries + 1, sizeof *r->entries,
                   "tensor names"));
    r->entries = items;
    entry *e = &r->entries[r->n_entries++];
    *e = (entry){.shape = {rows, cols}, .n_dims = cols > 0 ? 2 : 1};
    (void)snprintf(e->name, sizeof e->name, "%s%s%s", format, layer, suffix);
    return MZ_OK;
}

static mz_status add_ffn(recipe *r, int64_t width, const char *layer, const char *prefix) {
    char name[96];
    static const char *const parts[] = {".gate_proj.weight", ".up_proj.weight",
                                        ".down_proj.weight"};
    for (int i = 0; i < 3; i++) {
        (void)snprintf(name, sizeof name, "%s%s", prefix, parts[i]);
        MZ_TRY(add(r, i < 2 ? width : r->d_model, i < 2 ? r->d_model : width, "model.layers.",
                   layer, name));
    }
    return MZ_OK;
}

static mz_status add_layer(recipe *r, int64_t index) {
    const int64_t d = r->d_model;
    const int64_t kv = d / r->n_heads * r->n_kv_heads;
    char l[24];
    char expert[48];
    (void)snprintf(l, sizeof l, "%lld", (long long)index);
    MZ_TRY(add(r, d, 0, "model.layers.", l, ".input_layernorm.weight"));
    MZ_TRY(add(r, d, 0, "model.layers.", l, ".post_attention_layernorm.weight"));
    MZ_TRY(add(r, d, d, "model.layers.", l, ".self_attn.q_proj.weight"));
    MZ_TRY(add(r, kv, d, "model.layers.", l, ".self_attn.k_proj.weight"));
    MZ_TRY(add(r, kv, d, "model.layers.", l, ".self_attn.v_proj.weight"));
    MZ_TRY(add(r, d, d, "model.layers.", l, ".self_attn.o_proj.weight"));
    MZ_TRY(add(r, d, 0, "model.layers.", l, ".self_attn.q_proj.bias"));
    MZ_TRY(add(r, kv, 0, "model.layers.", l, ".self_attn.k_proj.bias"));
    MZ_TRY(add(r, kv, 0, "model.layers.", l, ".self_attn.v_proj.bias"));
    MZ_TRY(add(r, r->n_experts, d, "model.layers.", l, ".ffn_layer.gate.weight"));
    MZ_TRY(add(r, 1, d, "model.layers.", l, ".ffn_layer.shared_expert_gate.weight"));
    MZ_TRY(add_ffn(r, r->shared_width, l, ".ffn_layer.shared_expert"));
    for (int64_t e = 0; e < r->n_experts; e++) {
        (void)snprintf(expert, sizeof expert, ".ffn_layer.experts.%lld", (long long)e);
        MZ_TRY(add_ffn(r, r->expert_width, l, expert));
    }
    return MZ_OK;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const entry *)a)->name, ((const entry *)b)->name);
}

static mz_status list_time_moe(recipe *r, const mz_json_object *o) {
    const json_t *lengths = json_object_get(o->object, "horizon_lengths");
    int64_t top_k = 0;
    MZ_TRY(mz_json_int(o, "intermediate_size", 1, 1 << 20, &r->shared_width));
    MZ_TRY(mz_json_int(o, "num_experts_per_tok", 1, 1024, &top_k));
    r->expert_width = r->shared_width / top_k;
    MZ_TRY(add(r, r->d_model, 1, "model.embed_layer.emb_layer.weight", "", ""));
    MZ_TRY(add(r, r->d_model, 1, "model.embed_layer.gate_layer.weight", "", ""));
    for (size_t i = 0; i < json_array_size(lengths); i++) {
        char index[24];
        (void)snprintf(index, sizeof index, "%zu", i);
        MZ_TRY(add(r, json_integer_value(json_array_get(lengths, i)), r->d_model, "lm_heads.",
                   index, ".out_layer.weight"));
    }
    return MZ_OK;
}

static mz_status add_residual_mlp(recipe *r, int64_t d_in, int64_t d_hidden, int64_t d_out,
                                  const char *prefix) {
    MZ_TRY(add(r, d_hidden, d_in, prefix, ".gate_proj.weight", ""));
    MZ_TRY(add(r, d_hidden, d_in, prefix, ".up_proj.weight", ""));
    MZ_TRY(add(r, d_out, d_hidden, prefix, ".down_proj.weight", ""));
    return add(r, d_out, d_in, prefix, ".skip_proj.weight", "");
}

static mz_status list_patch_moe(recipe *r, const mz_json_object *o) {
    int64_t patch_len = 0;
    int64_t head_len = 0;
    int64_t embed_width = 0;
    int64_t head_width = 0;
    const int64_t n_levels = (int64_t)json_array_size(json_object_get(o->object, "quantiles"));
    MZ_TRY(mz_json_int(o, "moe_intermediate_size", 1, 1 << 20, &r->expert_width));
    MZ_TRY(mz_json_int(o, "shared_expert_intermediate_size", 1, 1 << 20, &r->shared_width));
    MZ_TRY(mz_json_int(o, "patch_len", 1, 1024, &patch_len));
    MZ_TRY(mz_json_int(o, "head_len", 1, 4096, &head_len));
    MZ_TRY(mz_json_int(o, "embed_intermediate_size", 1, 1 << 20, &embed_width));
    MZ_TRY(mz_json_int(o, "head_intermediate_size", 1, 1 << 20, &head_width));
    MZ_TRY(add_residual_mlp(r, 2 * patch_len, embed_width, r->d_model, "model.embed"));
    return add_residual_mlp(r, r->d_model, head_width, head_len * n_levels, "head");
}

static mz_status list_tensors(recipe *r, const json_t *config) {
    const mz_json_object o = {r->ctx, config, r->dir};
    const char *model_type = NULL;
    MZ_TRY(mz_json_string_or(&o, "model_type", "time_moe", &model_type));
    MZ_TRY(mz_json_int(&o, "hidden_size", 2, 1 << 16, &r->d_model));
    MZ_TRY(mz_json_int(&o, "num_hidden_layers", 1, 1024, &r->n_layers));
    MZ_TRY(mz_json_int(&o, "num_attention_heads", 1, 1024, &r->n_heads));
    MZ_TRY(mz_json_int(&o, "num_key_value_heads", 1, 1024, &r->n_kv_heads));
    MZ_TRY(mz_json_int(&o, "num_experts", 1, 1024, &r->n_experts));
    MZ_TRY((strcmp(model_type, "patch_moe") == 0 ? list_patch_moe : list_time_moe)(r, &o));
    MZ_TRY(add(r, r->d_model, 0, "model.norm.weight", "", ""));
    for (int64_t l = 0; l < r->n_layers; l++) {
        MZ_TRY(add_layer(r, l));
    }
    qsort(r->entries, r->n_entries, sizeof *r->entries, by_name);
    return MZ_OK;
}

static int64_t n_elements(const entry *e) {
    return e->n_dims == 2 ? e->shape[0] * e->shape[1] : e->shape[0];
}

/* The recipe's step 3: how a random number becomes a value of this tensor. */
static float value_of(const char *name, float r) {
    if (strstr(name, "norm") != NULL) {
        return 1.0f + r / 4.0f;
    }
    if (strstr(name, ".bias") != NULL) {
        return r / 2.0f;
    }
    if (strstr(name, "embed_layer") != NULL) {
        return 4.0f * r;
    }
    if (strstr(name, "down_proj") != NULL || strstr(name, "lm_heads") != NULL ||
        strstr(name, "shared_expert_gate") != NULL) {
        return r / 8.0f;
    }
    return r / 4.0f;
}

static void write_header(const recipe *r, FILE *out, mz_dtype dtype) {
    const size_t size = (size_t)mz_dtype_get(dtype)->block_bytes;
    size_t offset = 0;
    char *text = NULL;
    size_t n_text = 0;
    FILE *header = open_memstream(&text, &n_text);
    if (header == NULL) {
        return; /* the missing header shows when the file is read */
    }
    fputs("{\"__metadata__\":{\"format\":\"pt\"}", header);
    for (size_t i = 0; i < r->n_entries; i++) {
        const entry *e = &r->entries[i];
        const size_t bytes = (size_t)n_elements(e) * size;
        fprintf(header, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[%lld", e->name,
                dtype == MZ_DTYPE_F32 ? "F32" : "BF16", (long long)e->shape[0]);
        if (e->n_dims == 2) {
            fprintf(header, ",%lld", (long long)e->shape[1]);
        }
        fprintf(header, "],\"data_offsets\":[%zu,%zu]}", offset, offset + bytes);
        offset += bytes;
    }
    fputc('}', header);
    while (ftell(header) % 8 != 0) {
        fputc(' ', header);
    }
    (void)fclose(header);
    const uint64_t n = n_text;
    (void)fwrite(&n, sizeof n, 1, out);
    (void)fwrite(text, 1, n_text, out);
    free(text);
}

/* Makes one tensor, feeds the digest, replaces a router, writes. */
static mz_status write_tensor(recipe *r, const entry *e, FILE *out, mz_dtype dtype) {
    const int64_t n = n_elements(e);
    void *memory = NULL;
    MZ_TRY(mz_alloc(r->ctx, (size_t)n * 6, "tensor", &memory));
    float *wide = memory;
    uint16_t *half = (uint16_t *)(wide + n);
    for (int64_t i = 0; i < n; i++) {
        r->state = r->state * 1664525u + 1013904223u;
        half[i] = mz_bf16_from_f32(value_of(e->name, (float)(r->state >> 16) / 65536.0f - 0.5f));
    }
    mz_sha256_update(&r->digest, half, (size_t)n * sizeof *half);
    mz_tensor router;
    if (r->routers != NULL && mz_weights_find(r->routers, e->name, &router) &&
        router.dtype == MZ_DTYPE_BF16 && mz_tensor_n_elements(&router) == n) {
        memcpy(half, router.data, (size_t)n * sizeof *half);
    }
    if (dtype == MZ_DTYPE_F32) {
        mz_dtype_get(MZ_DTYPE_BF16)->to_f32(wide, half, n);
    }
    (void)fwrite(dtype == MZ_DTYPE_F32 ? (void *)wide : (void *)half,
                 (size_t)mz_dtype_get(dtype)->block_bytes, (size_t)n, out);
    mz_free(r->ctx, memory);
    return MZ_OK;
}

/* State and digest against golden.json, where there is one. */
static mz_status check_against_golden(recipe *r) {
    char *path = NULL;
    json_t *golden = NULL;
    char digest[65];
    MZ_TRY(mz_path_join(r->ctx, r->dir, "golden.json", &path));
    mz_status status = mz_file_exists(path) ? mz_json_load(r->ctx, path, &golden) : MZ_OK;
    mz_free(r->ctx, path);
    const json_t *weights = json_object_get(golden, "weights");
    if (status != MZ_OK || weights == NULL) {
        json_decref(golden);
        return status;
    }
    const char *wanted = json_string_value(json_object_get(
        weights, "sha256_of_all_bf16_bytes_in_name_order_before_the_routers_are_replaced"));
    const json_int_t state =
        json_integer_value(json_object_get(weights, "lcg_state_after_weights"));
    mz_sha256_final(&r->digest, digest);
    if (wanted == NULL || strcmp(digest, wanted) != 0 || state != (json_int_t)r->state) {
        status = mz_fail(&r->ctx->error, MZ_ERR_FORMAT,
                         "made weights have state %u and digest %s, golden.json names %lld and %s",
                         r->state, digest, (long long)state, wanted != NULL ? wanted : "none");
    }
    json_decref(golden);
    return status;
}

static mz_status write_weights(recipe *r, const char *path, mz_dtype dtype) {
    mz_output out;
    MZ_TRY(mz_output_open(r->ctx, path, &out));
    mz_status status = MZ_OK;
    write_header(r, out.stream, dtype);
    for (size_t i = 0; i < r->n_entries && status == MZ_OK; i++) {
        status = write_tensor(r, &r->entries[i], out.stream, dtype);
    }
    if (status == MZ_OK) {
        status = check_against_golden(r);
    }
    if (status != MZ_OK) {
        mz_output_abort(r->ctx, &out);
        return status;
    }
    return mz_output_commit(r->ctx, &out);
}

static mz_status copy_file(mz_context *ctx, const char *from, const char *to) {
    char *text = NULL;
    size_t n = 0;
    mz_output out;
    MZ_TRY(mz_file_read(ctx, from, 1 << 20, &text, &n));
    mz_status status = mz_output_open(ctx, to, &out);
    if (status == MZ_OK) {
        (void)fwrite(text, 1, n, out.stream);
        status = mz_output_commit(ctx, &out);
    }
    mz_free(ctx, text);
    return status;
}

static mz_status make(recipe *r, const char *const paths[4], mz_dtype dtype) {
    json_t *config = NULL;
    MZ_TRY(mz_json_load(r->ctx, paths[0], &config));
    mz_status status = list_tensors(r, config);
    json_decref(config);
    if (status == MZ_OK && mz_file_exists(paths[1])) {
        status = mz_weights_open(r->ctx, paths[1], &r->routers);
    }
    if (status == MZ_OK) {
        status = copy_file(r->ctx, paths[0], paths[2]);
    }
    return status == MZ_OK ? write_weights(r, paths[3], dtype) : status;
}

mz_status mz_made_checkpoint_write(mz_context *ctx, const char *recipe_dir, const char *out_dir,
                                   mz_dtype dtype) {
    recipe r = {.ctx = ctx, .dir = recipe_dir, .state = 12345};
    char *paths[4] = {NULL};
    mz_status status = mz_path_join(ctx, recipe_dir, "config.json", &paths[0]);
    status =
        status == MZ_OK ? mz_path_join(ctx, recipe_dir, "routers.safetensors", &paths[1]) : status;
    status = status == MZ_OK ? mz_path_join(ctx, out_dir, "config.json", &paths[2]) : status;
    status = status == MZ_OK ? mz_path_join(ctx, out_dir, "model.safetensors", &paths[3]) : status;
    mz_sha256_init(&r.digest);
    if (status == MZ_OK) {
        status = make(&r, (const char *const *)paths, dtype);
    }
    mz_weights_close(ctx, r.routers);
    mz_free(ctx, r.entries);
    for (int i = 0; i < 4; i++) {
        mz_free(ctx, paths[i]);
    }
    return status;
}
