/* Time-MoE (Shi et al. 2024): config.json and tensor names of the published checkpoints. */
#include "apps/zoo/time_moe.h"

#include <stdio.h>
#include <string.h>

#include "apps/zoo/forecaster_parts.h"
#include "experts/router.h"

typedef struct time_moe_config {
    int64_t d_model, d_ff, n_layers, n_heads, n_kv_heads, n_experts, top_k, max_positions;
    double norm_eps, rope_theta;
    bool use_dense;
    int32_t n_heads_out;
    int32_t head_length[MZ_MAX_FORECAST_HEADS];
} time_moe_config;

enum { MAX_WIDTH = 1 << 16, MAX_FFN_WIDTH = 1 << 20, MAX_LAYERS = 1024, MAX_HEAD_LENGTH = 4096 };

static mz_status read_head_length(const mz_json_object *o, const json_t *value,
                                  time_moe_config *c) {
    if (!json_is_integer(value)) {
        return mz_fail(&o->ctx->error, MZ_ERR_FORMAT,
                       "%s: horizon_lengths holds something else than whole numbers", o->name);
    }
    const json_int_t length = json_integer_value(value);
    const int32_t previous = c->n_heads_out > 0 ? c->head_length[c->n_heads_out - 1] : 0;
    if (length < 1 || length > MAX_HEAD_LENGTH) {
        return mz_fail(&o->ctx->error, MZ_ERR_LIMIT,
                       "%s: horizon_lengths holds %lld, expected 1 to %d", o->name,
                       (long long)length, (int)MAX_HEAD_LENGTH);
    }
    if (length <= previous) {
        return mz_fail(&o->ctx->error, MZ_ERR_FORMAT,
                       "%s: horizon_lengths must ascend, but %lld follows %d", o->name,
                       (long long)length, previous);
    }
    c->head_length[c->n_heads_out++] = (int32_t)length;
    return MZ_OK;
}

static mz_status read_head_lengths(const mz_json_object *o, time_moe_config *c) {
    const json_t *value = json_object_get(o->object, "horizon_lengths");
    if (value == NULL) {
        c->head_length[c->n_heads_out++] = 1;
        return MZ_OK;
    }
    if (!json_is_array(value)) {
        return read_head_length(o, value, c);
    }
    const size_t n = json_array_size(value);
    if (n < 1 || n > MZ_MAX_FORECAST_HEADS) {
        return mz_fail(&o->ctx->error, MZ_ERR_LIMIT,
                       "%s: horizon_lengths has %zu entries, expected 1 to %d", o->name, n,
                       (int)MZ_MAX_FORECAST_HEADS);
    }
    for (size_t i = 0; i < n; i++) {
        MZ_TRY(read_head_length(o, json_array_get(value, i), c));
    }
    return MZ_OK;
}

static mz_status check_sizes(const mz_json_object *o, const time_moe_config *c) {
    mz_error *err = &o->ctx->error;
    if (c->d_model % c->n_heads != 0 || c->d_model / c->n_heads % 2 != 0) {
        return mz_fail(err, MZ_ERR_FORMAT,
                       "%s: hidden_size %lld does not divide into %lld heads of even size", o->name,
                       (long long)c->d_model, (long long)c->n_heads);
    }
    if (c->d_model / c->n_heads > MZ_MAX_HEAD_DIM) {
        return mz_fail(
            err, MZ_ERR_UNSUPPORTED,
            "%s: hidden_size %lld over %lld heads is %lld a head, at most %d are supported",
            o->name, (long long)c->d_model, (long long)c->n_heads,
            (long long)(c->d_model / c->n_heads), (int)MZ_MAX_HEAD_DIM);
    }
    if (c->n_heads % c->n_kv_heads != 0) {
        return mz_fail(err, MZ_ERR_FORMAT,
                       "%s: num_attention_heads %lld is no multiple of num_key_value_heads %lld",
                       o->name, (long long)c->n_heads, (long long)c->n_kv_heads);
    }
    if (c->use_dense) {
        return MZ_OK;
    }
    if (c->top_k > c->n_experts) {
        return mz_fail(err, MZ_ERR_FORMAT, "%s: num_experts_per_tok %lld exceeds num_experts %lld",
                       o->name, (long long)c->top_k, (long long)c->n_experts);
    }
    if (c->d_ff / c->top_k < 1) {
        return mz_fail(err, MZ_ERR_FORMAT,
                       "%s: intermediate_size %lld leaves no width for %lld experts per token",
                       o->name, (long long)c->d_ff, (long long)c->top_k);
    }
    return MZ_OK;
}

static mz_status check_kind(const mz_json_object *o, time_moe_config *c) {
    int64_t input_size = 0;
    const char *activation = NULL;
    bool aux_loss = true;
    MZ_TRY(mz_json_int_or(o, "input_size", 1, 1, MAX_WIDTH, &input_size));
    MZ_TRY(mz_json_string_or(o, "hidden_act", "silu", &activation));
    MZ_TRY(mz_json_bool_or(o, "use_dense", false, &c->use_dense));
    MZ_TRY(mz_json_bool_or(o, "apply_aux_loss", !c->use_dense, &aux_loss));
    if (input_size != 1) {
        return mz_fail(&o->ctx->error, MZ_ERR_UNSUPPORTED,
                       "%s: input_size is %lld, only 1 can be forecast", o->name,
                       (long long)input_size);
    }
    if (strcmp(activation, "silu") != 0) {
        return mz_fail(&o->ctx->error, MZ_ERR_UNSUPPORTED,
                       "%s: hidden_act is \"%s\", only \"silu\" is known", o->name, activation);
    }
    if (aux_loss == c->use_dense) {
        return mz_fail(&o->ctx->error, MZ_ERR_FORMAT,
                       "%s: use_dense and apply_aux_loss are both %s, expected exactly one",
                       o->name, aux_loss ? "true" : "false");
    }
    return MZ_OK;
}

static mz_status read_config(const mz_json_object *o, time_moe_config *c) {
    *c = (time_moe_config){0};
    MZ_TRY(check_kind(o, c));
    MZ_TRY(mz_json_int(o, "hidden_size", 2, MAX_WIDTH, &c->d_model));
    MZ_TRY(mz_json_int(o, "intermediate_size", 1, MAX_FFN_WIDTH, &c->d_ff));
    MZ_TRY(mz_json_int(o, "num_hidden_layers", 1, MAX_LAYERS, &c->n_layers));
    MZ_TRY(mz_json_int(o, "num_attention_heads", 1, c->d_model, &c->n_heads));
    MZ_TRY(mz_json_int_or(o, "num_key_value_heads", c->n_heads, 1, c->n_heads, &c->n_kv_heads));
    MZ_TRY(mz_json_int_or(o, "num_experts", 1, 1, MZ_MAX_EXPERTS, &c->n_experts));
    MZ_TRY(mz_json_int_or(o, "num_experts_per_tok", 2, 1, MZ_MAX_EXPERTS, &c->top_k));
    MZ_TRY(mz_json_int_or(o, "max_position_embeddings", 32768, 1, 1 << 24, &c->max_positions));
    MZ_TRY(mz_json_number_or(o, "rms_norm_eps", 1e-6, 0, 1, &c->norm_eps));
    MZ_TRY(mz_json_number_or(o, "rope_theta", 10000, 1, 1e12, &c->rope_theta));
    MZ_TRY(read_head_lengths(o, c));
    return check_sizes(o, c);
}

mz_status mz_time_moe_describe(mz_context *ctx, const mz_json_object *config, mz_model_info *info) {
    (void)ctx;
    time_moe_config c;
    MZ_TRY(read_config(config, &c));
    const int64_t kv_width = c.d_model / c.n_heads * c.n_kv_heads;
    const int64_t attention =
        2 * c.d_model * c.d_model + c.d_model + 2 * kv_width * (c.d_model + 1);
    const int64_t shared = 3 * c.d_model * c.d_ff + (c.use_dense ? 0 : c.d_model);
    const int64_t expert = c.use_dense ? 0 : 3 * c.d_model * (c.d_ff / c.top_k);
    const int64_t router = c.use_dense ? 0 : c.n_experts * c.d_model;
    int64_t outside = 2 * c.d_model + c.d_model; /* embedding, final norm */
    for (int32_t i = 0; i < c.n_heads_out; i++) {
        outside += c.head_length[i] * c.d_model;
    }
    const int64_t layer = attention + 2 * c.d_model + shared + router;
    info->n_parameters = outside + c.n_layers * (layer + (c.use_dense ? 0 : c.n_experts * expert));
    info->n_active = outside + c.n_layers * (layer + (c.use_dense ? 0 : c.top_k * expert));
    info->n_layers = (int32_t)c.n_layers;
    info->n_experts = c.use_dense ? 0 : (int32_t)c.n_experts;
    info->top_k = c.use_dense ? 0 : (int32_t)c.top_k;
    info->n_shared_experts = c.use_dense ? 0 : 1;
    info->d_model = c.d_model;
    info->max_positions = c.max_positions;
    return MZ_OK;
}

static mz_status load_gated_ffn(mz_loader *l, mz_gated_ffn *ffn, const time_moe_config *c,
                                mz_precision precision, const char *prefix) {
    ffn->activation = MZ_ACTIVATION_SILU;
    MZ_TRY(mz_loader_matrix(l, &ffn->w_gate, c->d_ff, c->d_model, precision, "%s.gate_proj.weight",
                            prefix));
    MZ_TRY(mz_loader_matrix(l, &ffn->w_up, c->d_ff, c->d_model, precision, "%s.up_proj.weight",
                            prefix));
    return mz_loader_matrix(l, &ffn->w_down, c->d_model, c->d_ff, precision, "%s.down_proj.weight",
                            prefix);
}

static mz_status load_moe(mz_loader *l, mz_moe *moe, const time_moe_config *c,
                          mz_precision precision, const char *layer) {
    char prefix[96];
    const int32_t n = (int32_t)c->n_experts;
    const int64_t width = c->d_ff / c->top_k; /* the config has no field for it */
    moe->router =
        (mz_router){.kind = MZ_ROUTER_SOFTMAX_TOPK, .n_experts = n, .top_k = (int32_t)c->top_k};
    moe->activation = MZ_ACTIVATION_SILU;
    moe->has_shared = true;
    MZ_TRY(mz_router_validate(&moe->router, &l->ctx->error));
    MZ_TRY(mz_loader_matrix(l, &moe->router_proj, n, c->d_model, MZ_PRECISION_F32,
                            "%s.ffn_layer.gate.weight", layer));
    MZ_TRY(mz_loader_matrix(l, &moe->shared_gate, 1, c->d_model, MZ_PRECISION_F32,
                            "%s.ffn_layer.shared_expert_gate.weight", layer));
    (void)snprintf(prefix, sizeof prefix, "%s.ffn_layer.shared_expert", layer);
    MZ_TRY(load_gated_ffn(l, &moe->shared, c, precision, prefix));
    (void)snprintf(prefix, sizeof prefix, "%s.ffn_layer.experts", layer);
    MZ_TRY(mz_loader_bank(l, &moe->w_gate, n, width, c->d_model, precision, prefix,
                          "gate_proj.weight"));
    MZ_TRY(
        mz_loader_bank(l, &moe->w_up, n, width, c->d_model, precision, prefix, "up_proj.weight"));
    return mz_loader_bank(l, &moe->w_down, n, c->d_model, width, precision, prefix,
                          "down_proj.weight");
}

static mz_status load_attention(mz_loader *l, mz_block *b, const time_moe_config *c,
                                mz_precision precision, const char *layer) {
    const int64_t d = c->d_model;
    const int64_t kv_width = b->head_dim * b->n_kv_heads;
    MZ_TRY(mz_loader_matrix(l, &b->w_q, d, d, precision, "%s.self_attn.q_proj.weight", layer));
    MZ_TRY(
        mz_loader_matrix(l, &b->w_k, kv_width, d, precision, "%s.self_attn.k_proj.weight", layer));
    MZ_TRY(
        mz_loader_matrix(l, &b->w_v, kv_width, d, precision, "%s.self_attn.v_proj.weight", layer));
    MZ_TRY(mz_loader_matrix(l, &b->w_o, d, d, precision, "%s.self_attn.o_proj.weight", layer));
    MZ_TRY(mz_loader_vector(l, &b->w_q.bias, d, "%s.self_attn.q_proj.bias", layer));
    MZ_TRY(mz_loader_vector(l, &b->w_k.bias, kv_width, "%s.self_attn.k_proj.bias", layer));
    return mz_loader_vector(l, &b->w_v.bias, kv_width, "%s.self_attn.v_proj.bias", layer);
}

static mz_status load_block(mz_loader *l, mz_block *b, const time_moe_config *c,
                            mz_precision precision, int64_t index) {
    char layer[64];
    char dense[80];
    (void)snprintf(layer, sizeof layer, "model.layers.%lld", (long long)index);
    *b = (mz_block){.norm_eps = (float)c->norm_eps,
                    .n_heads = c->n_heads,
                    .n_kv_heads = c->n_kv_heads,
                    .head_dim = c->d_model / c->n_heads,
                    .has_experts = !c->use_dense};
    MZ_TRY(mz_loader_vector(l, &b->attn_norm, c->d_model, "%s.input_layernorm.weight", layer));
    MZ_TRY(
        mz_loader_vector(l, &b->ffn_norm, c->d_model, "%s.post_attention_layernorm.weight", layer));
    MZ_TRY(load_attention(l, b, c, precision, layer));
    if (b->has_experts) {
        return load_moe(l, &b->moe, c, precision, layer);
    }
    (void)snprintf(dense, sizeof dense, "%s.ffn_layer", layer);
    return load_gated_ffn(l, &b->ffn, c, precision, dense);
}

/* Everything of the checkpoint; called twice (core/loader.h). Embedding, router and heads always
 * count their inputs in full. */
static mz_status load_tensors(mz_forecaster_parts *p, const time_moe_config *c,
                              mz_precision precision) {
    mz_loader *l = &p->loader;
    const mz_precision full = MZ_PRECISION_F32;
    MZ_TRY(mz_loader_matrix(l, &p->embed.w_gate, c->d_model, 1, full,
                            "model.embed_layer.gate_layer.weight"));
    MZ_TRY(mz_loader_matrix(l, &p->embed.w_up, c->d_model, 1, full,
                            "model.embed_layer.emb_layer.weight"));
    for (int64_t i = 0; i < c->n_layers; i++) {
        MZ_TRY(load_block(l, &p->decoder.blocks[i], c, precision, i));
    }
    MZ_TRY(mz_loader_vector(l, &p->decoder.final_norm, c->d_model, "model.norm.weight"));
    for (int32_t i = 0; i < c->n_heads_out; i++) {
        MZ_TRY(mz_loader_matrix(l, &p->heads.w[i], c->head_length[i], c->d_model, full,
                                "lm_heads.%d.out_layer.weight", i));
    }
    return MZ_OK;
}

static mz_status load_parts(mz_context *ctx, mz_forecaster_parts *p, const char *dir,
                            const time_moe_config *c, const mz_load_options *options) {
    void *blocks = NULL;
    MZ_TRY(mz_calloc(ctx, (size_t)c->n_layers, sizeof(mz_block), "blocks", &blocks));
    p->decoder = (mz_decoder){.d_model = c->d_model,
                              .n_layers = c->n_layers,
                              .blocks = blocks,
                              .norm_eps = (float)c->norm_eps,
                              .rope_theta = c->rope_theta};
    p->embed.activation = MZ_ACTIVATION_SILU;
    p->heads.n_heads = c->n_heads_out;
    memcpy(p->heads.length, c->head_length, sizeof p->heads.length);
    p->max_positions = c->max_positions;
    MZ_TRY(mz_loader_open(ctx, options->backend != NULL ? options->backend : mz_backend_cpu(), dir,
                          &options->weights, &p->loader));
    MZ_TRY(load_tensors(p, c, options->precision));
    MZ_TRY(mz_loader_begin_fill(&p->loader));
    return load_tensors(p, c, options->precision);
}

mz_status mz_time_moe_load(mz_context *ctx, const char *dir, const mz_json_object *config,
                           const mz_load_options *options, mz_forecaster **out) {
    time_moe_config c;
    mz_forecaster_parts parts = {0};
    MZ_TRY(read_config(config, &c));
    const mz_status status = load_parts(ctx, &parts, dir, &c, options);
    if (status != MZ_OK) {
        mz_forecaster_parts_close(ctx, &parts);
        return status;
    }
    return mz_forecaster_create(ctx, &parts, out);
}
