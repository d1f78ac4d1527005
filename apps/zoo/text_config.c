#include "apps/zoo/text_config.h"

#include <math.h>
#include <string.h>

#include "experts/router.h"

static const mz_text_names llama_names = {
    .embedding = "model.embed_tokens",
    .final_norm = "model.norm",
    .head = "lm_head",
    .layer = "model.layers",
    .attn_norm = "input_layernorm",
    .ffn_norm = "post_attention_layernorm",
    .w_q = "self_attn.q_proj",
    .w_k = "self_attn.k_proj",
    .w_v = "self_attn.v_proj",
    .w_o = "self_attn.o_proj",
    .q_norm = "self_attn.q_norm",
    .k_norm = "self_attn.k_norm",
    .w_gate = "mlp.gate_proj",
    .w_up = "mlp.up_proj",
    .w_down = "mlp.down_proj",
    .router = "mlp.gate",
    .experts = "mlp.experts",
    .expert_gate = "gate_proj",
    .expert_up = "up_proj",
    .expert_down = "down_proj",
    .shared = "mlp.shared_expert",
    .shared_gate = "mlp.shared_expert_gate",
};

/* ---- activations ---- */

mz_status mz_text_read_activation(const mz_json_object *o, const char *key, const char *fallback,
                                  mz_activation *out) {
    static const struct {
        const char *name;
        mz_activation activation;
    } known[] = {
        {"silu", MZ_ACTIVATION_SILU},
        {"gelu", MZ_ACTIVATION_GELU},
        {"gelu_new", MZ_ACTIVATION_GELU_TANH},
        {"gelu_pytorch_tanh", MZ_ACTIVATION_GELU_TANH},
        {"quick_gelu", MZ_ACTIVATION_GELU_QUICK},
        {"relu", MZ_ACTIVATION_RELU},
    };
    const char *name = NULL;
    MZ_TRY(mz_json_string_or(o, key, fallback, &name));
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(name, known[i].name) == 0) {
            *out = known[i].activation;
            return MZ_OK;
        }
    }
    return mz_fail(&o->ctx->error, MZ_ERR_UNSUPPORTED,
                   "%s: %s is \"%.64s\", known are: silu, gelu, gelu_new, gelu_pytorch_tanh, "
                   "quick_gelu, relu",
                   o->name, key, name);
}

/* ---- rotation ---- */

static mz_status read_llama3(const mz_json_object *o, mz_rope *rope) {
    rope->scaling = MZ_ROPE_LLAMA3;
    MZ_TRY(mz_json_number_or(o, "low_freq_factor", 1, 1e-6, 1e6, &rope->low_factor));
    MZ_TRY(mz_json_number_or(o, "high_freq_factor", 4, 1e-6, 1e6, &rope->high_factor));
    if (rope->high_factor <= rope->low_factor) {
        return mz_fail(&o->ctx->error, MZ_ERR_FORMAT,
                       "%s: high_freq_factor %g is not above low_freq_factor %g", o->name,
                       rope->high_factor, rope->low_factor);
    }
    return MZ_OK;
}

/* Growth of the attention's temperature with the stretch (Peng et al. 2023, section 3.4). */
static double yarn_mscale(double factor, double mscale) {
    return factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1;
}

static mz_status read_yarn(const mz_json_object *o, mz_rope *rope) {
    double mscale = 0;
    double all_dim = 0;
    rope->scaling = MZ_ROPE_YARN;
    MZ_TRY(mz_json_number_or(o, "beta_fast", 32, 1e-3, 1e6, &rope->beta_fast));
    MZ_TRY(mz_json_number_or(o, "beta_slow", 1, 1e-3, 1e6, &rope->beta_slow));
    MZ_TRY(mz_json_number_or(o, "mscale", 0, 0, 1e3, &mscale));
    MZ_TRY(mz_json_number_or(o, "mscale_all_dim", 0, 0, 1e3, &all_dim));
    const double usual = mscale > 0 && all_dim > 0 ? yarn_mscale(rope->factor, mscale) /
                                                         yarn_mscale(rope->factor, all_dim)
                                                   : yarn_mscale(rope->factor, 1);
    return mz_json_number_or(o, "attention_factor", usual, 1e-6, 1e6, &rope->attention_factor);
}

static mz_status read_scaling_kind(const mz_json_object *o, mz_rope *rope) {
    const char *type = NULL;
    MZ_TRY(mz_json_string_or(o, "type", "default", &type)); /* the older key */
    MZ_TRY(mz_json_string_or(o, "rope_type", type, &type));
    if (strcmp(type, "default") == 0 || strcmp(type, "none") == 0) {
        return MZ_OK;
    }
    MZ_TRY(mz_json_number_or(o, "factor", 1, 1e-3, 1e6, &rope->factor));
    if (strcmp(type, "linear") == 0) {
        rope->scaling = MZ_ROPE_LINEAR;
        return MZ_OK;
    }
    MZ_TRY(mz_json_number_or(o, "original_max_position_embeddings", rope->original_positions, 1,
                             MZ_MAX_TEXT_POSITIONS, &rope->original_positions));
    if (strcmp(type, "llama3") == 0) {
        return read_llama3(o, rope);
    }
    if (strcmp(type, "yarn") == 0) {
        return read_yarn(o, rope);
    }
    return mz_fail(
        &o->ctx->error, MZ_ERR_UNSUPPORTED,
        "%s: rope_scaling is of type \"%.64s\", known are: default, linear, llama3, yarn", o->name,
        type);
}

/* An object; NULL where there is none. */
static mz_status read_object(const mz_json_object *o, const char *key, const json_t **out) {
    *out = json_object_get(o->object, key);
    if (*out == NULL || json_is_null(*out)) {
        *out = NULL;
        return MZ_OK;
    }
    return json_is_object(*out)
               ? MZ_OK
               : mz_fail(&o->ctx->error, MZ_ERR_FORMAT, "%s: %s is no object", o->name, key);
}

mz_status mz_text_read_rope_parameters(const mz_json_object *o, const char *kind,
                                       mz_json_object *out) {
    const json_t *parameters = NULL;
    *out = (mz_json_object){o->ctx, NULL, o->name};
    MZ_TRY(read_object(o, "rope_parameters", &parameters));
    if (parameters == NULL) {
        return MZ_OK;
    }
    out->object = parameters;
    return json_object_get(parameters, kind) == NULL ? MZ_OK : read_object(out, kind, &out->object);
}

static mz_status read_rope(const mz_json_object *o, mz_text_config *c) {
    mz_rope *rope = &c->ropes[0];
    mz_json_object scaling;
    c->n_ropes = 1;
    *rope = (mz_rope){.n_dims = c->head_dim,
                      .head_dim = c->head_dim,
                      .original_positions = (double)c->max_positions};
    MZ_TRY(mz_text_read_rope_parameters(o, "full_attention", &scaling));
    MZ_TRY(mz_json_number_or(o, "rope_theta", 10000, 1.0001, 1e12, &rope->theta));
    MZ_TRY(mz_json_bool_or(o, "rope_interleaved", false, &rope->interleaved));
    if (scaling.object != NULL) {
        MZ_TRY(mz_json_number_or(&scaling, "rope_theta", rope->theta, 1.0001, 1e12, &rope->theta));
    } else {
        MZ_TRY(read_object(o, "rope_scaling", &scaling.object));
    }
    return scaling.object != NULL ? read_scaling_kind(&scaling, rope) : MZ_OK;
}

mz_status mz_text_read_partial_rotary(const mz_json_object *o, double fallback, mz_text_config *c) {
    double share = fallback;
    mz_json_object newer;
    MZ_TRY(mz_text_read_rope_parameters(o, "full_attention", &newer));
    MZ_TRY(mz_json_number_or(o, "partial_rotary_factor", fallback, 0, 1, &share));
    if (newer.object != NULL) {
        MZ_TRY(mz_json_number_or(&newer, "partial_rotary_factor", share, 0, 1, &share));
    }
    c->ropes[0].n_dims = (int64_t)(share * (double)c->head_dim);
    return MZ_OK;
}

/* ---- sizes ---- */

static mz_status read_end_token(const mz_json_object *o, const json_t *value, mz_text_config *c) {
    if (!json_is_integer(value)) {
        return mz_fail(&o->ctx->error, MZ_ERR_FORMAT,
                       "%s: eos_token_id holds something else than whole numbers", o->name);
    }
    const json_int_t id = json_integer_value(value);
    if (id < 0 || id >= c->vocab_size) {
        return MZ_OK; /* -1 and ids beyond the vocabulary stand for none in some configs */
    }
    if (c->n_end_tokens == MZ_MAX_END_TOKENS) {
        return mz_fail(&o->ctx->error, MZ_ERR_LIMIT, "%s: eos_token_id has more than %d entries",
                       o->name, (int)MZ_MAX_END_TOKENS);
    }
    c->end_tokens[c->n_end_tokens++] = (int32_t)id;
    return MZ_OK;
}

static mz_status read_end_tokens(const mz_json_object *o, mz_text_config *c) {
    const json_t *value = json_object_get(o->object, "eos_token_id");
    if (value == NULL || json_is_null(value)) {
        return MZ_OK;
    }
    if (!json_is_array(value)) {
        return read_end_token(o, value, c);
    }
    for (size_t i = 0; i < json_array_size(value); i++) {
        MZ_TRY(read_end_token(o, json_array_get(value, i), c));
    }
    return MZ_OK;
}

mz_status mz_text_read_head_dim(const mz_json_object *o, int64_t fallback, mz_text_config *c) {
    const int64_t usual = fallback > 0 ? fallback : 1;
    MZ_TRY(mz_json_int_or(o, "head_dim", usual, 1, MZ_MAX_TEXT_WIDTH, &c->head_dim));
    c->head_dim_v = c->head_dim;
    c->ropes[0].n_dims = c->head_dim;
    c->ropes[0].head_dim = c->head_dim;
    return MZ_OK;
}

static mz_status read_sizes(const mz_json_object *o, mz_text_config *c) {
    MZ_TRY(mz_json_int(o, "vocab_size", 1, MZ_MAX_TEXT_VOCABULARY, &c->vocab_size));
    MZ_TRY(mz_json_int(o, "hidden_size", 2, MZ_MAX_TEXT_WIDTH, &c->d_model));
    MZ_TRY(mz_json_int(o, "num_hidden_layers", 1, MZ_MAX_TEXT_LAYERS, &c->n_layers));
    MZ_TRY(mz_json_int(o, "num_attention_heads", 1, MZ_MAX_TEXT_HEADS, &c->n_heads));
    MZ_TRY(mz_json_int_or(o, "num_key_value_heads", c->n_heads, 1, c->n_heads, &c->n_kv_heads));
    MZ_TRY(mz_text_read_head_dim(o, c->d_model / c->n_heads, c));
    MZ_TRY(
        mz_json_int_or(o, "intermediate_size", 4 * c->d_model, 1, MZ_MAX_TEXT_FFN_WIDTH, &c->d_ff));
    return mz_json_int_or(o, "max_position_embeddings", 2048, 1, MZ_MAX_TEXT_POSITIONS,
                          &c->max_positions);
}

mz_status mz_text_read_common(const mz_json_object *o, mz_text_config *c) {
    *c = (mz_text_config){.gated = true, .embed_scale = 1, .names = llama_names};
    MZ_TRY(read_sizes(o, c));
    MZ_TRY(mz_json_number_or(o, "rms_norm_eps", 1e-6, 0, 1, &c->norm_eps));
    MZ_TRY(mz_json_bool_or(o, "tie_word_embeddings", false, &c->tied));
    MZ_TRY(mz_text_read_activation(o, "hidden_act", "silu", &c->activation));
    MZ_TRY(read_end_tokens(o, c));
    return read_rope(o, c);
}

/* ---- layers ---- */

mz_status mz_text_read_window(const mz_json_object *o, bool guarded, mz_text_config *c) {
    bool used = true;
    int64_t first = 0;
    MZ_TRY(mz_json_int_or(o, "sliding_window", 0, 0, MZ_MAX_TEXT_POSITIONS, &c->window));
    if (guarded) {
        MZ_TRY(mz_json_bool_or(o, "use_sliding_window", false, &used));
        MZ_TRY(mz_json_int_or(o, "max_window_layers", 0, 0, MZ_MAX_TEXT_LAYERS, &first));
    }
    for (int64_t l = 0; l < c->n_layers; l++) {
        c->layers[l].is_windowed = used && c->window > 0 && l >= first;
    }
    return MZ_OK;
}

/* Takes the experts away from the layers that the config names. */
static mz_status read_dense_layers(const mz_json_object *o, mz_text_config *c) {
    const json_t *list = json_object_get(o->object, "mlp_only_layers");
    if (list == NULL || json_is_null(list)) {
        return MZ_OK;
    }
    if (!json_is_array(list)) {
        return mz_fail(&o->ctx->error, MZ_ERR_FORMAT, "%s: mlp_only_layers is no array", o->name);
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *value = json_array_get(list, i);
        if (!json_is_integer(value)) {
            return mz_fail(&o->ctx->error, MZ_ERR_FORMAT,
                           "%s: mlp_only_layers holds something else than whole numbers", o->name);
        }
        const json_int_t layer = json_integer_value(value);
        if (layer >= 0 && layer < c->n_layers) {
            c->layers[layer].has_experts = false;
        }
    }
    return MZ_OK;
}

mz_status mz_text_read_experts(const mz_json_object *o, const char *n_experts, mz_text_config *c) {
    int64_t n = 0;
    int64_t top_k = 0;
    int64_t step = 1;
    MZ_TRY(mz_json_int(o, n_experts, 1, MZ_MAX_EXPERTS, &n));
    MZ_TRY(mz_json_int(o, "num_experts_per_tok", 1, MZ_MAX_EXPERTS, &top_k));
    MZ_TRY(mz_json_int_or(o, "decoder_sparse_step", 1, 1, MZ_MAX_TEXT_LAYERS, &step));
    c->router.n_experts = (int32_t)n;
    c->router.top_k = (int32_t)top_k;
    for (int64_t l = 0; l < c->n_layers; l++) {
        c->layers[l].has_experts = (l + 1) % step == 0;
    }
    return read_dense_layers(o, c);
}

/* ---- checks ---- */

static mz_status check_rope(const mz_json_object *o, const mz_text_config *c) {
    const mz_rope *rope = &c->ropes[0];
    if (rope->n_dims < 2 || rope->n_dims % 2 != 0) {
        return mz_fail(&o->ctx->error, MZ_ERR_FORMAT,
                       "%s: %lld of the %lld elements of a head rotate, expected an even number",
                       o->name, (long long)rope->n_dims, (long long)c->head_dim);
    }
    return MZ_OK;
}

mz_status mz_text_check(const mz_json_object *o, const mz_text_config *c) {
    mz_error *err = &o->ctx->error;
    if (c->n_heads % c->n_kv_heads != 0) {
        return mz_fail(err, MZ_ERR_FORMAT,
                       "%s: num_attention_heads %lld is no multiple of num_key_value_heads %lld",
                       o->name, (long long)c->n_heads, (long long)c->n_kv_heads);
    }
    if (c->head_dim > MZ_MAX_HEAD_DIM || c->head_dim_v > MZ_MAX_HEAD_DIM) {
        return mz_fail(err, MZ_ERR_UNSUPPORTED, "%s: heads of %lld, at most %d are supported",
                       o->name,
                       (long long)(c->head_dim > c->head_dim_v ? c->head_dim : c->head_dim_v),
                       (int)MZ_MAX_HEAD_DIM);
    }
    MZ_TRY(check_rope(o, c));
    if (c->router.n_experts > 0) {
        const mz_status status = mz_router_validate(&c->router, err);
        return status == MZ_OK ? MZ_OK : mz_fail_prefix(err, "%s", o->name);
    }
    return MZ_OK;
}

/* ---- counts ---- */

static int64_t linear_size(int64_t d_out, int64_t d_in, bool bias) {
    return d_out * d_in + (bias ? d_out : 0);
}

static int64_t norm_size(const mz_text_config *c, int64_t n) {
    return c->norm_bias ? 2 * n : n;
}

static int64_t attention_size(const mz_text_config *c) {
    const int64_t q = c->n_heads * c->head_dim;
    const int64_t k = c->n_kv_heads * c->head_dim;
    const int64_t v = c->n_kv_heads * c->head_dim_v;
    const int64_t out = linear_size(c->d_model, c->n_heads * c->head_dim_v, c->o_bias);
    if (c->is_latent) {
        const int64_t narrow = c->q_rank > 0 ? c->q_rank * (c->d_model + 1 + q) : q * c->d_model;
        return narrow + (c->kv_rank + c->rope_dim) * c->d_model + c->kv_rank +
               c->n_heads * (c->head_dim - c->rope_dim + c->head_dim_v) * c->kv_rank + out;
    }
    const int64_t norms = c->qk_norm == MZ_QK_NORM_NONE   ? 0
                          : c->qk_norm == MZ_QK_NORM_HEAD ? 2 * c->head_dim
                                                          : q + k;
    return linear_size(q + k + v, c->d_model, c->qkv_bias) + norms + out;
}

static int64_t ffn_size(const mz_text_config *c, int64_t width, bool bias) {
    return (c->gated ? 2 : 1) * linear_size(width, c->d_model, bias) +
           linear_size(c->d_model, width, bias);
}

void mz_text_count(const mz_text_config *c, int64_t *n_parameters, int64_t *n_active) {
    const int64_t n_norms =
        (c->order == MZ_BLOCK_PARALLEL_ONE_NORM ? 1 : 2) + (c->post_norms ? 2 : 0);
    const int64_t expert = ffn_size(c, c->expert_width, false);
    const int64_t shared = c->shared_width > 0 ? ffn_size(c, c->shared_width, false) +
                                                     (c->has_shared_gate ? c->d_model : 0)
                                               : 0;
    int64_t all = c->vocab_size * c->d_model * (c->tied ? 1 : 2) +
                  (c->head_bias ? c->vocab_size : 0) + norm_size(c, c->d_model);
    int64_t active = all;
    for (int64_t l = 0; l < c->n_layers; l++) {
        const int64_t common = attention_size(c) + n_norms * norm_size(c, c->d_model);
        const int64_t routed = shared + c->router.n_experts * c->d_model;
        const bool sparse = c->layers[l].has_experts;
        all += common +
               (sparse ? routed + c->router.n_experts * expert : ffn_size(c, c->d_ff, c->ffn_bias));
        active += common +
                  (sparse ? routed + c->router.top_k * expert : ffn_size(c, c->d_ff, c->ffn_bias));
    }
    *n_parameters = all;
    *n_active = active;
}
