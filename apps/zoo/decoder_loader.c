#include "apps/zoo/decoder_loader.h"

#include <stdio.h>

#include "experts/router.h"

mz_status mz_decoder_sizes_read(const mz_json_object *o, mz_decoder_sizes *sizes) {
    mz_decoder_sizes s = *sizes;
    MZ_TRY(mz_json_int(o, "hidden_size", 2, MZ_MAX_DECODER_WIDTH, &s.d_model));
    MZ_TRY(mz_json_int(o, "num_hidden_layers", 1, MZ_MAX_LAYERS, &s.n_layers));
    MZ_TRY(mz_json_int(o, "num_attention_heads", 1, s.d_model, &s.n_heads));
    MZ_TRY(mz_json_int_or(o, "num_key_value_heads", s.n_heads, 1, s.n_heads, &s.n_kv_heads));
    MZ_TRY(mz_json_number_or(o, "rms_norm_eps", 1e-6, 0, 1, &s.norm_eps));
    MZ_TRY(mz_json_number_or(o, "rope_theta", 10000, 1, 1e12, &s.rope_theta));
    *sizes = s;
    return MZ_OK;
}

mz_status mz_decoder_sizes_check(const mz_json_object *o, const mz_decoder_sizes *c) {
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
    if (c->n_experts > 0 && c->top_k > c->n_experts) {
        return mz_fail(err, MZ_ERR_FORMAT, "%s: num_experts_per_tok %lld exceeds num_experts %lld",
                       o->name, (long long)c->top_k, (long long)c->n_experts);
    }
    return MZ_OK;
}

void mz_decoder_sizes_describe(const mz_decoder_sizes *c, int64_t n_outside, mz_model_info *info) {
    const bool dense = c->n_experts == 0;
    const int64_t kv_width = c->d_model / c->n_heads * c->n_kv_heads;
    const int64_t attention =
        2 * c->d_model * c->d_model + c->d_model + 2 * kv_width * (c->d_model + 1);
    const int64_t shared = 3 * c->d_model * c->shared_width + (dense ? 0 : c->d_model);
    const int64_t expert = dense ? 0 : 3 * c->d_model * c->expert_width;
    const int64_t layer =
        attention + 2 * c->d_model + shared + c->n_experts * c->d_model; /* with the router */
    const int64_t outside = n_outside + c->d_model;
    info->n_parameters = outside + c->n_layers * (layer + c->n_experts * expert);
    info->n_active = outside + c->n_layers * (layer + (dense ? 0 : c->top_k * expert));
    info->n_layers = (int32_t)c->n_layers;
    info->n_experts = (int32_t)c->n_experts;
    info->top_k = dense ? 0 : (int32_t)c->top_k;
    info->n_shared_experts = dense ? 0 : 1;
    info->d_model = c->d_model;
}

mz_status mz_decoder_create(mz_context *ctx, const mz_decoder_sizes *sizes, mz_decoder *out) {
    void *blocks = NULL;
    MZ_TRY(mz_calloc(ctx, (size_t)sizes->n_layers, sizeof(mz_block), "blocks", &blocks));
    *out = (mz_decoder){
        .d_model = sizes->d_model,
        .n_layers = sizes->n_layers,
        .blocks = blocks,
        .final_norm = {.eps = (float)sizes->norm_eps},
        .ropes = {{.theta = sizes->rope_theta, .n_dims = sizes->d_model / sizes->n_heads}},
        .n_ropes = 1};
    return MZ_OK;
}

static mz_status load_ffn(mz_loader *l, mz_ffn *ffn, const mz_decoder_sizes *c,
                          mz_precision precision, const char *prefix) {
    ffn->activation = MZ_ACTIVATION_SILU;
    MZ_TRY(mz_loader_matrix(l, &ffn->w_gate, c->shared_width, c->d_model, precision,
                            "%s.gate_proj.weight", prefix));
    MZ_TRY(mz_loader_matrix(l, &ffn->w_up, c->shared_width, c->d_model, precision,
                            "%s.up_proj.weight", prefix));
    return mz_loader_matrix(l, &ffn->w_down, c->d_model, c->shared_width, precision,
                            "%s.down_proj.weight", prefix);
}

static mz_status load_moe(mz_loader *l, mz_moe *moe, const mz_decoder_sizes *c,
                          mz_precision precision, const char *layer) {
    char prefix[96];
    const int32_t n = (int32_t)c->n_experts;
    const int64_t width = c->expert_width;
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
    MZ_TRY(load_ffn(l, &moe->shared, c, precision, prefix));
    (void)snprintf(prefix, sizeof prefix, "%s.ffn_layer.experts", layer);
    MZ_TRY(mz_loader_bank(l, &moe->w_gate, n, width, c->d_model, precision, prefix,
                          "gate_proj.weight"));
    MZ_TRY(
        mz_loader_bank(l, &moe->w_up, n, width, c->d_model, precision, prefix, "up_proj.weight"));
    return mz_loader_bank(l, &moe->w_down, n, c->d_model, width, precision, prefix,
                          "down_proj.weight");
}

static mz_status load_attention(mz_loader *l, mz_block *b, const mz_decoder_sizes *c,
                                mz_precision precision, const char *layer) {
    const int64_t d = c->d_model;
    const int64_t kv_width = b->head_dim * b->n_kv_heads;
    MZ_TRY(
        mz_loader_matrix(l, &b->plain.w_q, d, d, precision, "%s.self_attn.q_proj.weight", layer));
    MZ_TRY(mz_loader_matrix(l, &b->plain.w_k, kv_width, d, precision, "%s.self_attn.k_proj.weight",
                            layer));
    MZ_TRY(mz_loader_matrix(l, &b->plain.w_v, kv_width, d, precision, "%s.self_attn.v_proj.weight",
                            layer));
    MZ_TRY(mz_loader_matrix(l, &b->w_o, d, d, precision, "%s.self_attn.o_proj.weight", layer));
    MZ_TRY(mz_loader_vector(l, &b->plain.w_q.bias, d, "%s.self_attn.q_proj.bias", layer));
    MZ_TRY(mz_loader_vector(l, &b->plain.w_k.bias, kv_width, "%s.self_attn.k_proj.bias", layer));
    return mz_loader_vector(l, &b->plain.w_v.bias, kv_width, "%s.self_attn.v_proj.bias", layer);
}

static mz_status load_block(mz_loader *l, mz_block *b, const mz_decoder_sizes *c,
                            mz_precision precision, int64_t index) {
    char layer[64];
    char dense[80];
    (void)snprintf(layer, sizeof layer, "model.layers.%lld", (long long)index);
    *b = (mz_block){.attn_norm = {.eps = (float)c->norm_eps},
                    .ffn_norm = {.eps = (float)c->norm_eps},
                    .n_heads = c->n_heads,
                    .n_kv_heads = c->n_kv_heads,
                    .head_dim = c->d_model / c->n_heads,
                    .head_dim_v = c->d_model / c->n_heads,
                    .has_experts = c->n_experts > 0};
    MZ_TRY(
        mz_loader_vector(l, &b->attn_norm.weight, c->d_model, "%s.input_layernorm.weight", layer));
    MZ_TRY(mz_loader_vector(l, &b->ffn_norm.weight, c->d_model,
                            "%s.post_attention_layernorm.weight", layer));
    MZ_TRY(load_attention(l, b, c, precision, layer));
    if (b->has_experts) {
        return load_moe(l, &b->moe, c, precision, layer);
    }
    (void)snprintf(dense, sizeof dense, "%s.ffn_layer", layer);
    return load_ffn(l, &b->ffn, c, precision, dense);
}

mz_status mz_decoder_load(mz_loader *l, mz_decoder *decoder, const mz_decoder_sizes *sizes,
                          mz_precision precision) {
    for (int64_t i = 0; i < sizes->n_layers; i++) {
        MZ_TRY(load_block(l, &decoder->blocks[i], sizes, precision, i));
    }
    return mz_loader_vector(l, &decoder->final_norm.weight, sizes->d_model, "model.norm.weight");
}
