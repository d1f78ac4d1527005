#include "apps/zoo/gguf_map.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "apps/zoo/gguf_map_internal.h"
#include "apps/zoo/text_config.h"

/* A config in the making. */
typedef struct maker {
    mz_context *ctx;
    const mz_gguf *gguf;
    const mz_gguf_architecture *architecture;
    json_t *config;
} maker;

enum { KEY_BYTES = 128, MAX_INT = 1 << 30 };

static mz_status set(const maker *m, const char *field, json_t *value) {
    if (value == NULL || json_object_set_new(m->config, field, value) != 0) {
        return mz_fail(&m->ctx->error, MZ_ERR_NOMEM, "out of memory for the config of a GGUF file");
    }
    return MZ_OK;
}

static int64_t get(const maker *m, const char *field) {
    return json_integer_value(json_object_get(m->config, field));
}

static bool is(const maker *m, unsigned architectures) {
    return (m->architecture->bit & architectures) != 0;
}

static const char *key_of(const maker *m, const char *suffix, char key[KEY_BYTES]) {
    (void)snprintf(key, KEY_BYTES, "%s.%s", m->architecture->name, suffix);
    return key;
}

static bool has_key(const maker *m, const char *suffix) {
    char key[KEY_BYTES];
    return mz_gguf_has(m->gguf, key_of(m, suffix, key), NULL, NULL, NULL);
}

static bool has_tensor(const maker *m, const char *name) {
    mz_tensor t;
    return mz_gguf_tensor(m->gguf, name, &t);
}

/* A whole number, or an array of as many equal ones as there are layers. */
static mz_status read_int(const maker *m, const char *key, int64_t *out) {
    mz_gguf_type type = MZ_GGUF_U32;
    mz_gguf_type element = MZ_GGUF_U32;
    int64_t n = 0;
    if (!mz_gguf_has(m->gguf, key, &type, &element, &n) || type != MZ_GGUF_ARRAY) {
        return mz_gguf_int(m->gguf, &m->ctx->error, key, 0, MAX_INT, out);
    }
    if ((element != MZ_GGUF_U32 && element != MZ_GGUF_I32) || n < 1) {
        return mz_fail(&m->ctx->error, MZ_ERR_FORMAT, "%s: key %s is no array of whole numbers",
                       mz_gguf_path(m->gguf), key);
    }
    const int64_t first = mz_gguf_array_int(m->gguf, key, 0);
    for (int64_t i = 0; i < n; i++) {
        const int64_t value = mz_gguf_array_int(m->gguf, key, i);
        if (value != first || value < 0 || value > MAX_INT) {
            return mz_fail(&m->ctx->error, MZ_ERR_UNSUPPORTED,
                           "%s: key %s differs from layer to layer: %lld and %lld",
                           mz_gguf_path(m->gguf), key, (long long)first, (long long)value);
        }
    }
    *out = first;
    return MZ_OK;
}

/* Written with an f32's few digits, a number is the one that was published. */
static mz_status read_number(const maker *m, const char *key, double *out) {
    MZ_TRY(mz_gguf_number(m->gguf, &m->ctx->error, key, out));
    if (!isfinite(*out)) {
        return mz_fail(&m->ctx->error, MZ_ERR_FORMAT, "%s: key %s is not finite",
                       mz_gguf_path(m->gguf), key);
    }
    *out = mz_gguf_short_number((float)*out);
    return MZ_OK;
}

static mz_status copy_field(const maker *m, const mz_gguf_field *f) {
    char key[KEY_BYTES];
    int64_t whole = 0;
    double number = 0;
    if (!mz_gguf_has(m->gguf, key_of(m, f->key, key), NULL, NULL, NULL)) {
        if (f->need == MZ_GGUF_OPTIONAL) {
            return MZ_OK;
        }
        return mz_fail(&m->ctx->error, MZ_ERR_MISSING, "%s: no key %s", mz_gguf_path(m->gguf), key);
    }
    if (f->kind == MZ_GGUF_FIELD_INT) {
        MZ_TRY(read_int(m, key, &whole));
        return set(m, f->field, json_integer(whole));
    }
    MZ_TRY(read_number(m, key, &number));
    return set(m, f->field, json_real(number));
}

static mz_status set_default(const maker *m, const char *field, json_t *value) {
    if (json_object_get(m->config, field) != NULL) {
        json_decref(value);
        return MZ_OK;
    }
    return set(m, field, value);
}

/* ---- what several families share ---- */

static mz_status set_vocabulary(const maker *m) {
    static const char *const ids[][2] = {{"bos_token_id", "tokenizer.ggml.bos_token_id"},
                                         {"eos_token_id", "tokenizer.ggml.eos_token_id"},
                                         {"pad_token_id", "tokenizer.ggml.padding_token_id"}};
    mz_tensor embedding;
    if (!mz_gguf_tensor(m->gguf, "token_embd.weight", &embedding) || embedding.n_dims != 2) {
        return mz_fail(&m->ctx->error, MZ_ERR_MISSING, "%s: no matrix token_embd.weight",
                       mz_gguf_path(m->gguf));
    }
    MZ_TRY(set(m, "vocab_size", json_integer(embedding.shape[0])));
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        int64_t id = -1;
        MZ_TRY(mz_gguf_int(m->gguf, &m->ctx->error, ids[i][1], 0, UINT32_MAX, &id));
        if (id >= 0 && id < embedding.shape[0]) {
            MZ_TRY(set(m, ids[i][0], json_integer(id)));
        }
    }
    return set(m, "tie_word_embeddings", json_boolean(!has_tensor(m, "output.weight")));
}

static mz_status set_heads(const maker *m) {
    const int64_t n_heads = get(m, "num_attention_heads");
    const int64_t d_model = get(m, "hidden_size");
    if (n_heads < 1 || d_model < 1 || d_model > MZ_MAX_TEXT_WIDTH) {
        return mz_fail(&m->ctx->error, MZ_ERR_FORMAT, "%s: %lld heads of a width of %lld",
                       mz_gguf_path(m->gguf), (long long)n_heads, (long long)d_model);
    }
    MZ_TRY(set_default(m, "num_key_value_heads", json_integer(n_heads)));
    return is(m, MZ_GGUF_DEEPSEEK2) ? MZ_OK
                                    : set_default(m, "head_dim", json_integer(d_model / n_heads));
}

/* The divisors that LLaMA 3's rule gives with the common constants and some length. */
static mz_status set_llama3_scaling(const maker *m, const mz_tensor *divisors) {
    enum { MAX_DIVISORS = 1024 };
    const int64_t n = mz_tensor_n_elements(divisors);
    const double theta = json_number_value(json_object_get(m->config, "rope_theta"));
    float given[MAX_DIVISORS];
    if (n < 1 || n > MAX_DIVISORS || divisors->dtype != MZ_DTYPE_F32 ||
        2 * n != get(m, "head_dim")) {
        return mz_fail(&m->ctx->error, MZ_ERR_UNSUPPORTED, "%s: rope_freqs.weight of %lld values",
                       mz_gguf_path(m->gguf), (long long)n);
    }
    mz_dtype_get(divisors->dtype)->to_f32(given, divisors->data, n);
    mz_llama3_scaling s = {.factor = mz_gguf_short_number(given[n - 1]), .low = 1, .high = 4};
    for (s.original = 32; s.original <= 1 << 20; s.original *= 2) {
        float made[MAX_DIVISORS];
        bool equal = s.factor >= 1;
        mz_llama3_divisors(&s, theta, n, made);
        for (int64_t i = 0; i < n && equal; i++) {
            equal = fabsf(made[i] - given[i]) <= 1e-4f * made[i];
        }
        if (equal) {
            return set(m, "rope_scaling",
                       json_pack("{s:s, s:f, s:f, s:f, s:I}", "rope_type", "llama3", "factor",
                                 s.factor, "low_freq_factor", s.low, "high_freq_factor", s.high,
                                 "original_max_position_embeddings", (json_int_t)s.original));
        }
    }
    return mz_fail(&m->ctx->error, MZ_ERR_UNSUPPORTED,
                   "%s: rope_freqs.weight is not LLaMA 3's scaling", mz_gguf_path(m->gguf));
}

static mz_status set_yarn(const maker *m, double factor) {
    static const char *const names[][2] = {{"beta_fast", "rope.scaling.yarn_beta_fast"},
                                           {"beta_slow", "rope.scaling.yarn_beta_slow"},
                                           {"attention_factor", "rope.scaling.attn_factor"}};
    char key[KEY_BYTES];
    int64_t original = get(m, "max_position_embeddings");
    double multiplier = 0;
    MZ_TRY(read_int(m, key_of(m, "rope.scaling.original_context_length", key), &original));
    MZ_TRY(set(m, "rope_scaling",
               json_pack("{s:s, s:s, s:f, s:I}", "rope_type", "yarn", "type", "yarn", "factor",
                         factor, "original_max_position_embeddings", (json_int_t)original)));
    const maker inner = {m->ctx, m->gguf, m->architecture,
                         json_object_get(m->config, "rope_scaling")};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        double value = 0;
        if (has_key(m, names[i][1])) {
            MZ_TRY(read_number(m, key_of(m, names[i][1], key), &value));
            MZ_TRY(set(&inner, names[i][0], json_real(value)));
        }
    }
    if (is(m, MZ_GGUF_DEEPSEEK2) && has_key(m, "rope.scaling.yarn_log_multiplier")) {
        MZ_TRY(read_number(m, key_of(m, "rope.scaling.yarn_log_multiplier", key), &multiplier));
        const double scale = mz_gguf_short_number((float)(multiplier / 0.1));
        MZ_TRY(set(&inner, "mscale", json_real(scale)));
        MZ_TRY(set(&inner, "mscale_all_dim", json_real(scale)));
    }
    return MZ_OK;
}

static mz_status set_rope(const maker *m) {
    char key[KEY_BYTES];
    const char *type = "none";
    size_t n = 4;
    double factor = 1;
    mz_tensor divisors;
    MZ_TRY(set_default(m, "rope_theta", json_real(10000)));
    if (mz_gguf_tensor(m->gguf, "rope_freqs.weight", &divisors)) {
        return set_llama3_scaling(m, &divisors);
    }
    MZ_TRY(mz_gguf_text(m->gguf, &m->ctx->error, key_of(m, "rope.scaling.type", key), &type, &n));
    if (n == 4 && memcmp(type, "none", 4) == 0) {
        return set(m, "rope_scaling", json_null());
    }
    const char *suffix =
        has_key(m, "rope.scale_linear") ? "rope.scale_linear" : "rope.scaling.factor";
    MZ_TRY(read_number(m, key_of(m, suffix, key), &factor));
    if (n == 6 && memcmp(type, "linear", 6) == 0) {
        return set(m, "rope_scaling",
                   json_pack("{s:s, s:s, s:f}", "rope_type", "linear", "type", "linear", "factor",
                             factor));
    }
    if (n == 4 && memcmp(type, "yarn", 4) == 0) {
        return set_yarn(m, factor);
    }
    return mz_fail(&m->ctx->error, MZ_ERR_UNSUPPORTED,
                   "%s: rope scaling \"%.*s\", expected none, linear or yarn",
                   mz_gguf_path(m->gguf), (int)(n < 32 ? n : 32), type);
}

/* How many of a head's dimensions rotate; only two families have a field for it. */
static mz_status set_partial_rotary(const maker *m) {
    char key[KEY_BYTES];
    const int64_t head_dim = get(m, "head_dim");
    int64_t n = head_dim;
    MZ_TRY(read_int(m, key_of(m, "rope.dimension_count", key), &n));
    if (is(m, MZ_GGUF_STABLELM | MZ_GGUF_PHI2) && n >= 1 && n <= head_dim) {
        const double factor = mz_gguf_short_number((float)n / (float)head_dim);
        return set(m, "partial_rotary_factor", json_real(factor));
    }
    if (n != head_dim) {
        return mz_fail(&m->ctx->error, MZ_ERR_UNSUPPORTED,
                       "%s: %lld of a head's %lld dimensions rotate", mz_gguf_path(m->gguf),
                       (long long)n, (long long)head_dim);
    }
    return MZ_OK;
}

/* The layers without a router, as Qwen's configs list them. */
static mz_status set_dense_layers(const maker *m, int64_t n_layers) {
    json_t *dense = json_array();
    MZ_TRY(set(m, "mlp_only_layers", dense)); /* which owns it from here, after a failure too */
    for (int64_t i = 0; i < n_layers; i++) {
        char name[64];
        (void)snprintf(name, sizeof name, "blk.%lld.ffn_gate_inp.weight", (long long)i);
        if (!has_tensor(m, name) && json_array_append_new(dense, json_integer(i)) != 0) {
            return mz_fail(&m->ctx->error, MZ_ERR_NOMEM, "out of memory for a config");
        }
    }
    return MZ_OK;
}

static mz_status set_experts(const maker *m) {
    const int64_t n_layers = get(m, "num_hidden_layers");
    bool stacked = false;
    for (int64_t i = 0; i < n_layers && !stacked; i++) {
        char name[64];
        (void)snprintf(name, sizeof name, "blk.%lld.ffn_up_exps.weight", (long long)i);
        stacked = has_tensor(m, name);
    }
    if (stacked) {
        MZ_TRY(set(m, "expert_layout", json_string("stacked")));
    }
    if (!is(m, MZ_GGUF_QWEN2MOE | MZ_GGUF_QWEN3MOE)) {
        return MZ_OK;
    }
    MZ_TRY(set(m, "decoder_sparse_step", json_integer(1)));
    return set_dense_layers(m, n_layers);
}

static mz_status set_renormalising(const maker *m) {
    char key[KEY_BYTES];
    bool renormalise = is(m, MZ_GGUF_QWEN3MOE);
    if (!is(m, MZ_GGUF_QWEN2MOE | MZ_GGUF_QWEN3MOE | MZ_GGUF_OLMOE | MZ_GGUF_DEEPSEEK2)) {
        return MZ_OK; /* always, or no experts */
    }
    MZ_TRY(
        mz_gguf_bool(m->gguf, &m->ctx->error, key_of(m, "expert_weights_norm", key), &renormalise));
    return set(m, "norm_topk_prob", json_boolean(renormalise));
}

/* ---- single families ---- */

static mz_status finish_llama(const maker *m) {
    const mz_gguf_architecture *as = m->architecture;
    const bool experts = get(m, "num_local_experts") > 0;
    if (experts) {
        as = mz_gguf_architecture_of("mixtral");
    } else if (get(m, "sliding_window") > 0) {
        as = mz_gguf_architecture_of("mistral");
    }
    MZ_TRY(set(m, "model_type", json_string(as->model_type)));
    MZ_TRY(set(m, "architectures", json_pack("[s]", as->class_name)));
    MZ_TRY(set(m, "rope_interleaved", json_true()));
    MZ_TRY(set(m, "attention_bias", json_boolean(has_tensor(m, "blk.0.attn_q.bias"))));
    return set(m, "mlp_bias", json_boolean(has_tensor(m, "blk.0.ffn_up.bias")));
}

static mz_status finish_moe_widths(const maker *m) {
    const int64_t n_used = get(m, "num_experts_per_tok");
    if (n_used > 0) { /* what the reference engine takes where the key is absent */
        MZ_TRY(set_default(m, "moe_intermediate_size",
                           json_integer(get(m, "intermediate_size") / n_used)));
    }
    mz_tensor shared;
    if (mz_gguf_tensor(m->gguf, "blk.0.ffn_up_shexp.weight", &shared)) {
        MZ_TRY(set_default(m, "shared_expert_intermediate_size", json_integer(shared.shape[0])));
    }
    return MZ_OK;
}

static mz_status finish_stablelm(const maker *m) {
    MZ_TRY(set(m, "use_qkv_bias", json_boolean(has_tensor(m, "blk.0.attn_q.bias"))));
    MZ_TRY(set(m, "qk_layernorm", json_boolean(has_tensor(m, "blk.0.attn_q_norm.weight"))));
    return set(m, "use_parallel_residual", json_boolean(!has_tensor(m, "blk.0.ffn_norm.weight")));
}

static mz_status finish_gemma3(const maker *m) {
    char key[KEY_BYTES];
    const int64_t n_layers = get(m, "num_hidden_layers");
    const int64_t head_dim = get(m, "head_dim");
    int64_t pattern = 6;
    double scale = 0;
    MZ_TRY(read_int(m, key_of(m, "attention.sliding_window_pattern", key), &pattern));
    if (pattern < 1) {
        return mz_fail(&m->ctx->error, MZ_ERR_FORMAT, "%s: key %s is 0", mz_gguf_path(m->gguf),
                       key);
    }
    json_t *types = json_array();
    for (int64_t i = 0; i < n_layers; i++) {
        const bool full = (i + 1) % pattern == 0;
        if (json_array_append_new(
                types, json_string(full ? "full_attention" : "sliding_attention")) != 0) {
            json_decref(types);
            types = NULL;
            break;
        }
    }
    MZ_TRY(set(m, "layer_types", types));
    MZ_TRY(set_default(m, "rope_local_base_freq", json_real(10000)));
    /* The 27B model, known by its depth, has another scale than its heads' size. */
    int64_t scalar =
        n_layers == 62 ? get(m, "hidden_size") / get(m, "num_attention_heads") : head_dim;
    MZ_TRY(read_number(m, key_of(m, "attention.scale", key), &scale));
    if (scale > 0) {
        scalar = llround(1 / (scale * scale));
    }
    MZ_TRY(set(m, "query_pre_attn_scalar", json_integer(scalar)));
    MZ_TRY(set(m, "hidden_activation", json_string("gelu_pytorch_tanh")));
    return set(m, "norm_offset_included", json_true());
}

static mz_status finish_deepseek2(const maker *m) {
    char key[KEY_BYTES];
    int64_t key_length = 0;
    if (!has_tensor(m, "blk.0.attn_kv_b.weight")) {
        return mz_fail(&m->ctx->error, MZ_ERR_UNSUPPORTED,
                       "%s: no blk.0.attn_kv_b.weight (files with attn_k_b and attn_v_b instead "
                       "cannot be read)",
                       mz_gguf_path(m->gguf));
    }
    MZ_TRY(read_int(m, key_of(m, "attention.key_length", key), &key_length));
    const int64_t plain = key_length - get(m, "qk_rope_head_dim");
    if (plain < 1) {
        return mz_fail(&m->ctx->error, MZ_ERR_FORMAT, "%s: key %s is %lld, of which %lld rotate",
                       mz_gguf_path(m->gguf), key, (long long)key_length,
                       (long long)get(m, "qk_rope_head_dim"));
    }
    const bool groups = get(m, "n_group") > 1;
    MZ_TRY(set(m, "qk_nope_head_dim", json_integer(plain)));
    MZ_TRY(set(m, "num_key_value_heads", json_integer(get(m, "num_attention_heads"))));
    MZ_TRY(set(m, "moe_layer_freq", json_integer(1)));
    MZ_TRY(set(m, "scoring_func", json_string("softmax")));
    MZ_TRY(set_default(m, "q_lora_rank", json_null()));
    MZ_TRY(set_default(m, "n_group", json_integer(1)));
    MZ_TRY(set_default(m, "topk_group", json_integer(1)));
    MZ_TRY(set_default(m, "first_k_dense_replace", json_integer(0)));
    MZ_TRY(set_default(m, "routed_scaling_factor", json_real(1)));
    return set(m, "topk_method", json_string(groups ? "group_limited_greedy" : "greedy"));
}

static mz_status finish_family(const maker *m) {
    if (is(m, MZ_GGUF_LLAMA)) {
        return finish_llama(m);
    }
    MZ_TRY(set(m, "model_type", json_string(m->architecture->model_type)));
    MZ_TRY(set(m, "architectures", json_pack("[s]", m->architecture->class_name)));
    switch (m->architecture->bit) {
    case MZ_GGUF_QWEN2MOE:
    case MZ_GGUF_QWEN3MOE:
        return finish_moe_widths(m);
    case MZ_GGUF_STABLELM:
        return finish_stablelm(m);
    case MZ_GGUF_PHI2:
        return set(m, "qk_layernorm", json_false());
    case MZ_GGUF_GEMMA3:
        return finish_gemma3(m);
    case MZ_GGUF_DEEPSEEK2:
        return finish_deepseek2(m);
    default:
        return MZ_OK;
    }
}

static mz_status find_architecture(mz_context *ctx, const mz_gguf *gguf,
                                   const mz_gguf_architecture **out) {
    char name[32] = "";
    const char *text = "";
    size_t n = 0;
    MZ_TRY(mz_gguf_text(gguf, &ctx->error, "general.architecture", &text, &n));
    if (n == 0) {
        return mz_fail(&ctx->error, MZ_ERR_MISSING, "%s: no key general.architecture",
                       mz_gguf_path(gguf));
    }
    if (n < sizeof name && memchr(text, '\0', n) == NULL) {
        memcpy(name, text, n);
        *out = mz_gguf_architecture_find(name);
    }
    if (*out == NULL) {
        return mz_fail(&ctx->error, MZ_ERR_UNSUPPORTED, "%s: architecture \"%.*s\", expected %s",
                       mz_gguf_path(gguf), (int)(n < 64 ? n : 64), text,
                       mz_gguf_architecture_names());
    }
    return MZ_OK;
}

static mz_status make(const maker *m) {
    for (int i = 0; mz_gguf_field_at(i) != NULL; i++) {
        const mz_gguf_field *f = mz_gguf_field_at(i);
        if ((f->architectures & m->architecture->bit) != 0) {
            MZ_TRY(copy_field(m, f));
        }
    }
    const int64_t n_layers = get(m, "num_hidden_layers");
    if (n_layers < 1 || n_layers > MZ_MAX_TEXT_LAYERS) {
        return mz_fail(&m->ctx->error, MZ_ERR_LIMIT, "%s: %lld layers, expected 1 to %d",
                       mz_gguf_path(m->gguf), (long long)n_layers, MZ_MAX_TEXT_LAYERS);
    }
    MZ_TRY(set_vocabulary(m));
    MZ_TRY(set_heads(m));
    MZ_TRY(set_rope(m));
    if (!is(m, MZ_GGUF_DEEPSEEK2)) {
        MZ_TRY(set_partial_rotary(m));
    }
    MZ_TRY(set_experts(m));
    MZ_TRY(set_renormalising(m));
    if (!is(m, MZ_GGUF_GEMMA3)) {
        MZ_TRY(set(m, "hidden_act", json_string(is(m, MZ_GGUF_PHI2) ? "gelu_new" : "silu")));
    }
    return finish_family(m);
}

mz_status mz_gguf_config(mz_context *ctx, const mz_gguf *gguf, json_t **config) {
    maker m = {.ctx = ctx, .gguf = gguf};
    MZ_TRY(find_architecture(ctx, gguf, &m.architecture));
    m.config = json_object();
    if (m.config == NULL) {
        return mz_fail(&ctx->error, MZ_ERR_NOMEM, "out of memory for the config of a GGUF file");
    }
    const mz_status status = make(&m);
    if (status != MZ_OK) {
        json_decref(m.config);
        return status;
    }
    *config = m.config;
    return MZ_OK;
}
