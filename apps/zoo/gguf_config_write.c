#include <math.h>
#include <stdio.h>
#include <string.h>

#include "apps/zoo/gguf_export_internal.h"
#include "apps/zoo/text_config.h"
#include "apps/zoo/zoo.h"

enum { KEY_BYTES = 128, MAX_INT = 1 << 30 };

/* One run. */
typedef struct run {
    const mz_gguf_config_source *s;
    mz_gguf_meta *meta;
    mz_json_object o;
} run;

static const char *key_of(const run *r, const char *suffix, char key[KEY_BYTES]) {
    (void)snprintf(key, KEY_BYTES, "%s.%s", r->s->architecture->name, suffix);
    return key;
}

static bool is(const mz_gguf_config_source *s, unsigned architectures) {
    return (s->architecture->bit & architectures) != 0;
}

static bool has(const mz_gguf_config_source *s, const char *field) {
    const json_t *value = json_object_get(s->config, field);
    return value != NULL && !json_is_null(value);
}

static mz_status put_int(const run *r, const char *suffix, int64_t value) {
    char key[KEY_BYTES];
    return mz_gguf_meta_int(r->meta, key_of(r, suffix, key), MZ_GGUF_U32, value);
}

static mz_status put_number(const run *r, const char *suffix, double value) {
    char key[KEY_BYTES];
    return mz_gguf_meta_f32(r->meta, key_of(r, suffix, key), (float)value);
}

static mz_status put_bool(const run *r, const char *suffix, bool value) {
    char key[KEY_BYTES];
    return mz_gguf_meta_bool(r->meta, key_of(r, suffix, key), value);
}

static mz_status put_text(const run *r, const char *suffix, const char *text) {
    char key[KEY_BYTES];
    return mz_gguf_meta_text(r->meta, key_of(r, suffix, key), text, strlen(text));
}

mz_status mz_gguf_source_open(mz_gguf_config_source *s) {
    const mz_json_object o = {s->ctx, s->config, s->path};
    const mz_family *family = NULL;
    const char *type = NULL;
    mz_text_config c;
    MZ_TRY(mz_json_string(&o, "model_type", &type));
    s->architecture = mz_gguf_architecture_of(type);
    if (s->architecture == NULL) {
        return mz_fail(&s->ctx->error, MZ_ERR_UNSUPPORTED,
                       "%s: model_type \"%s\" has no GGUF architecture that is known here (%s)",
                       s->path, type, mz_gguf_architecture_names());
    }
    if (has(s, "rope_parameters")) {
        return mz_fail(&s->ctx->error, MZ_ERR_UNSUPPORTED,
                       "%s: rope_parameters, expected rope_theta and rope_scaling", s->path);
    }
    MZ_TRY(mz_zoo_find_family(s->ctx, s->path, s->config, &family));
    MZ_TRY(family->read_text(&o, &c));
    s->n_heads = c.n_heads;
    s->n_kv_heads = c.n_kv_heads;
    s->head_dim = c.head_dim;
    return MZ_OK;
}

static mz_status put_field(const run *r, const mz_gguf_field *f) {
    int64_t whole = 0;
    double number = 0;
    if (!has(r->s, f->field)) {
        return f->need == MZ_GGUF_REQUIRED && strcmp(f->field, "v_head_dim") != 0
                   ? mz_fail(&r->s->ctx->error, MZ_ERR_MISSING, "%s: no field %s", r->s->path,
                             f->field)
                   : MZ_OK;
    }
    if (f->kind == MZ_GGUF_FIELD_INT) {
        MZ_TRY(mz_json_int(&r->o, f->field, 0, MAX_INT, &whole));
        return put_int(r, f->key, whole);
    }
    MZ_TRY(mz_json_number_or(&r->o, f->field, 0, -1e30, 1e30, &number));
    return put_number(r, f->key, number);
}

static mz_status put_yarn(const run *r, const mz_json_object *scaling) {
    static const char *const names[][2] = {{"beta_fast", "rope.scaling.yarn_beta_fast"},
                                           {"beta_slow", "rope.scaling.yarn_beta_slow"},
                                           {"attention_factor", "rope.scaling.attn_factor"}};
    int64_t original = 0;
    double value = 0;
    MZ_TRY(mz_json_int(scaling, "original_max_position_embeddings", 1, MAX_INT, &original));
    MZ_TRY(put_int(r, "rope.scaling.original_context_length", original));
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (json_is_number(json_object_get(scaling->object, names[i][0]))) {
            MZ_TRY(mz_json_number_or(scaling, names[i][0], 0, 0, 1e6, &value));
            MZ_TRY(put_number(r, names[i][1], value));
        }
    }
    if (is(r->s, MZ_GGUF_DEEPSEEK2)) {
        MZ_TRY(mz_json_number_or(scaling, "mscale_all_dim", 0, 0, 1e6, &value));
        MZ_TRY(put_number(r, "rope.scaling.yarn_log_multiplier", 0.1 * value));
    }
    return MZ_OK;
}

static mz_status put_scaling(const run *r, mz_llama3_scaling *llama3, bool *has_llama3) {
    const json_t *value = json_object_get(r->s->config, "rope_scaling");
    const mz_json_object scaling = {r->s->ctx, value, r->s->path};
    const char *type = NULL;
    double factor = 1;
    if (!has(r->s, "rope_scaling")) {
        return MZ_OK;
    }
    const char *field = json_object_get(value, "rope_type") != NULL ? "rope_type" : "type";
    MZ_TRY(mz_json_string(&scaling, field, &type));
    MZ_TRY(mz_json_number_or(&scaling, "factor", 1, 1e-6, 1e6, &factor));
    if (strcmp(type, "default") == 0) {
        return MZ_OK;
    }
    if (strcmp(type, "llama3") == 0 && is(r->s, MZ_GGUF_LLAMA)) {
        mz_llama3_scaling s = {.factor = factor};
        MZ_TRY(mz_json_number_or(&scaling, "low_freq_factor", 1, 1e-6, 1e6, &s.low));
        MZ_TRY(mz_json_number_or(&scaling, "high_freq_factor", 4, 1e-6, 1e6, &s.high));
        MZ_TRY(mz_json_number_or(&scaling, "original_max_position_embeddings", 8192, 1, 1e9,
                                 &s.original));
        *llama3 = s;
        *has_llama3 = true;
        return MZ_OK;
    }
    const bool yarn = strcmp(type, "yarn") == 0;
    if (!yarn && strcmp(type, "linear") != 0) {
        return mz_fail(&r->s->ctx->error, MZ_ERR_UNSUPPORTED,
                       "%s: rope scaling \"%s\", expected linear, yarn or (llama) llama3",
                       r->s->path, type);
    }
    MZ_TRY(put_text(r, "rope.scaling.type", type));
    MZ_TRY(put_number(r, "rope.scaling.factor", factor));
    return yarn ? put_yarn(r, &scaling) : MZ_OK;
}

/* Every how many layers attention is full; layer_types must say it so. */
static mz_status put_window_pattern(const run *r) {
    const json_t *types = json_object_get(r->s->config, "layer_types");
    const size_t n = json_array_size(types);
    size_t pattern = 0;
    if (n == 0) {
        int64_t given = 6;
        MZ_TRY(mz_json_int_or(&r->o, "sliding_window_pattern", 6, 1, MZ_MAX_TEXT_LAYERS, &given));
        pattern = (size_t)given;
    }
    for (size_t i = 0; i < n && pattern == 0; i++) {
        const char *type = json_string_value(json_array_get(types, i));
        if (type != NULL && strcmp(type, "full_attention") == 0) {
            pattern = i + 1;
        }
    }
    pattern = pattern == 0 ? n + 1 : pattern;
    for (size_t i = 0; i < n; i++) {
        const char *type = json_string_value(json_array_get(types, i));
        const bool full = (i + 1) % pattern == 0;
        if (type == NULL || strcmp(type, full ? "full_attention" : "sliding_attention") != 0) {
            return mz_fail(&r->s->ctx->error, MZ_ERR_UNSUPPORTED,
                           "%s: layer_types: layer %zu is %s, which is not every %zuth", r->s->path,
                           i, type != NULL ? type : "no text", pattern);
        }
    }
    return pattern == 6 ? MZ_OK : put_int(r, "attention.sliding_window_pattern", (int64_t)pattern);
}

static mz_status put_gemma3(const run *r) {
    double scalar = 0;
    MZ_TRY(put_window_pattern(r));
    MZ_TRY(
        mz_json_number_or(&r->o, "query_pre_attn_scalar", (double)r->s->head_dim, 1, 1e6, &scalar));
    if (scalar == (double)r->s->head_dim) {
        return MZ_OK;
    }
    return put_number(r, "attention.scale", 1 / sqrt(scalar));
}

static mz_status put_deepseek2(const run *r) {
    int64_t plain = 0;
    int64_t rotated = 0;
    bool renormalise = false;
    MZ_TRY(mz_json_int(&r->o, "qk_nope_head_dim", 1, MZ_MAX_TEXT_WIDTH, &plain));
    MZ_TRY(mz_json_int(&r->o, "qk_rope_head_dim", 1, MZ_MAX_TEXT_WIDTH, &rotated));
    MZ_TRY(mz_json_bool_or(&r->o, "norm_topk_prob", false, &renormalise));
    MZ_TRY(put_int(r, "attention.head_count_kv", r->s->n_heads));
    MZ_TRY(put_int(r, "attention.key_length", plain + rotated));
    MZ_TRY(put_int(r, "expert_gating_func", 1)); /* softmax */
    return put_bool(r, "expert_weights_norm", renormalise);
}

static mz_status put_renormalising(const run *r) {
    const bool usual = is(r->s, MZ_GGUF_QWEN3MOE);
    bool renormalise = usual;
    if (!is(r->s, MZ_GGUF_QWEN2MOE | MZ_GGUF_QWEN3MOE | MZ_GGUF_OLMOE)) {
        return MZ_OK;
    }
    MZ_TRY(mz_json_bool_or(&r->o, "norm_topk_prob", false, &renormalise));
    return renormalise == usual ? MZ_OK : put_bool(r, "expert_weights_norm", renormalise);
}

static mz_status put_rotary(const run *r) {
    double factor = 1;
    const double fallback = is(r->s, MZ_GGUF_PHI2) ? 0.5 : 0.25;
    if (is(r->s, MZ_GGUF_STABLELM | MZ_GGUF_PHI2)) {
        MZ_TRY(mz_json_number_or(&r->o, "partial_rotary_factor", fallback, 0, 1, &factor));
    }
    return put_int(r, "rope.dimension_count", (int64_t)(factor * (double)r->s->head_dim + 1e-6));
}

static mz_status put_family(const run *r) {
    bool flag = false;
    if (is(r->s, MZ_GGUF_DEEPSEEK2)) {
        return put_deepseek2(r);
    }
    MZ_TRY(put_rotary(r));
    if (!has(r->s, "head_dim")) {
        MZ_TRY(put_int(r, "attention.key_length", r->s->head_dim));
    }
    MZ_TRY(put_int(r, "attention.value_length", r->s->head_dim));
    if (!has(r->s, "num_key_value_heads")) {
        MZ_TRY(put_int(r, "attention.head_count_kv", r->s->n_heads));
    }
    if (is(r->s, MZ_GGUF_STABLELM)) {
        MZ_TRY(mz_json_bool_or(&r->o, "use_parallel_residual", false, &flag));
        return put_bool(r, "use_parallel_residual", flag);
    }
    MZ_TRY(mz_json_bool_or(&r->o, "use_sliding_window", false, &flag));
    if (flag) {
        return mz_fail(&r->s->ctx->error, MZ_ERR_UNSUPPORTED,
                       "%s: use_sliding_window is true, which GGUF has no key for", r->s->path);
    }
    return is(r->s, MZ_GGUF_GEMMA3) ? put_gemma3(r) : put_renormalising(r);
}

mz_status mz_gguf_write_config(const mz_gguf_config_source *s, const char *name, mz_gguf_meta *meta,
                               mz_llama3_scaling *scaling, bool *has_scaling) {
    const run r = {.s = s, .meta = meta, .o = {s->ctx, s->config, s->path}};
    const char *architecture = s->architecture->name;
    int64_t vocab_size = 0;
    MZ_TRY(mz_gguf_meta_text(meta, "general.architecture", architecture, strlen(architecture)));
    MZ_TRY(mz_gguf_meta_text(meta, "general.name", name, strlen(name)));
    for (int i = 0; mz_gguf_field_at(i) != NULL; i++) {
        if ((mz_gguf_field_at(i)->architectures & s->architecture->bit) != 0) {
            MZ_TRY(put_field(&r, mz_gguf_field_at(i)));
        }
    }
    MZ_TRY(mz_json_int(&r.o, "vocab_size", 1, MAX_INT, &vocab_size));
    MZ_TRY(put_int(&r, "vocab_size", vocab_size));
    MZ_TRY(put_scaling(&r, scaling, has_scaling));
    return put_family(&r);
}
