#include "apps/zoo/decoder_loader.h"

#include "apps/zoo/text_decoder.h"

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

/* The same as a description of blocks, with the tensor names of Time-MoE. */
static void describe_blocks(const mz_decoder_sizes *s, mz_text_config *c) {
    const bool dense = s->n_experts == 0;
    const int64_t head_dim = s->d_model / s->n_heads;
    *c = (mz_text_config){.d_model = s->d_model,
                          .n_layers = s->n_layers,
                          .n_heads = s->n_heads,
                          .n_kv_heads = s->n_kv_heads,
                          .head_dim = head_dim,
                          .head_dim_v = head_dim,
                          .d_ff = s->shared_width,
                          .norm_eps = s->norm_eps,
                          .qkv_bias = true,
                          .gated = true,
                          .activation = MZ_ACTIVATION_SILU,
                          .ropes = {{.theta = s->rope_theta, .n_dims = head_dim}},
                          .n_ropes = 1,
                          .expert_width = s->expert_width,
                          .shared_width = dense ? 0 : s->shared_width,
                          .has_shared_gate = true,
                          .names = {.layer = "model.layers",
                                    .final_norm = "model.norm",
                                    .attn_norm = "input_layernorm",
                                    .ffn_norm = "post_attention_layernorm",
                                    .w_q = "self_attn.q_proj",
                                    .w_k = "self_attn.k_proj",
                                    .w_v = "self_attn.v_proj",
                                    .w_o = "self_attn.o_proj",
                                    .w_gate = "ffn_layer.gate_proj",
                                    .w_up = "ffn_layer.up_proj",
                                    .w_down = "ffn_layer.down_proj",
                                    .router = "ffn_layer.gate",
                                    .experts = "ffn_layer.experts",
                                    .expert_gate = "gate_proj",
                                    .expert_up = "up_proj",
                                    .expert_down = "down_proj",
                                    .shared = "ffn_layer.shared_expert",
                                    .shared_gate = "ffn_layer.shared_expert_gate"}};
    if (!dense) {
        c->router = (mz_router){.kind = MZ_ROUTER_SOFTMAX_TOPK,
                                .n_experts = (int32_t)s->n_experts,
                                .top_k = (int32_t)s->top_k};
    }
    for (int64_t l = 0; l < s->n_layers; l++) {
        c->layers[l].has_experts = !dense;
    }
}

void mz_decoder_sizes_describe(const mz_decoder_sizes *sizes, int64_t n_outside,
                               mz_model_info *info) {
    mz_text_config c;
    describe_blocks(sizes, &c); /* of no vocabulary: blocks and final norm are counted */
    mz_text_count(&c, &info->n_parameters, &info->n_active);
    info->n_parameters += n_outside;
    info->n_active += n_outside;
    info->n_layers = (int32_t)c.n_layers;
    info->n_experts = c.router.n_experts;
    info->top_k = c.router.top_k;
    info->n_shared_experts = c.shared_width > 0 ? 1 : 0;
    info->d_model = c.d_model;
}

mz_status mz_decoder_create(mz_context *ctx, const mz_decoder_sizes *sizes, mz_decoder *out) {
    mz_text_config c;
    describe_blocks(sizes, &c);
    return mz_text_blocks_create(ctx, &c, out);
}

mz_status mz_decoder_load(mz_loader *l, mz_decoder *decoder, const mz_decoder_sizes *sizes,
                          mz_precision precision) {
    mz_text_config c;
    describe_blocks(sizes, &c);
    return mz_text_blocks_load(l, decoder, &c, precision);
}
