/* Time-MoE (Shi et al. 2024): config.json and tensor names of the published checkpoints. */
#include "apps/zoo/time_moe.h"

#include <string.h>

#include "apps/zoo/decoder_loader.h"
#include "apps/zoo/forecaster_parts.h"
#include "experts/router.h"

typedef struct time_moe_config {
    mz_decoder_sizes sizes;
    int64_t max_positions;
    int32_t n_heads_out;
    int32_t head_length[MZ_MAX_FORECAST_HEADS];
} time_moe_config;

enum { MAX_HEAD_LENGTH = 4096 };

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

static mz_status check_kind(const mz_json_object *o, bool *use_dense) {
    int64_t input_size = 0;
    const char *activation = NULL;
    bool aux_loss = true;
    MZ_TRY(mz_json_int_or(o, "input_size", 1, 1, MZ_MAX_DECODER_WIDTH, &input_size));
    MZ_TRY(mz_json_string_or(o, "hidden_act", "silu", &activation));
    MZ_TRY(mz_json_bool_or(o, "use_dense", false, use_dense));
    MZ_TRY(mz_json_bool_or(o, "apply_aux_loss", !*use_dense, &aux_loss));
    if (input_size != 1) {
        return mz_fail(&o->ctx->error, MZ_ERR_UNSUPPORTED,
                       "%s: input_size is %lld, only 1 can be forecast", o->name,
                       (long long)input_size);
    }
    if (strcmp(activation, "silu") != 0) {
        return mz_fail(&o->ctx->error, MZ_ERR_UNSUPPORTED,
                       "%s: hidden_act is \"%s\", only \"silu\" is known", o->name, activation);
    }
    if (aux_loss == *use_dense) {
        return mz_fail(&o->ctx->error, MZ_ERR_FORMAT,
                       "%s: use_dense and apply_aux_loss are both %s, expected exactly one",
                       o->name, aux_loss ? "true" : "false");
    }
    return MZ_OK;
}

/* Width of the feed-forward networks: the config has no field for that of an expert. */
static mz_status read_experts(const mz_json_object *o, bool use_dense, mz_decoder_sizes *s) {
    int64_t n_experts = 0;
    MZ_TRY(mz_json_int(o, "intermediate_size", 1, MZ_MAX_FFN_WIDTH, &s->shared_width));
    MZ_TRY(mz_json_int_or(o, "num_experts", 1, 1, MZ_MAX_EXPERTS, &n_experts));
    MZ_TRY(mz_json_int_or(o, "num_experts_per_tok", 2, 1, MZ_MAX_EXPERTS, &s->top_k));
    s->n_experts = use_dense ? 0 : n_experts;
    s->expert_width = s->shared_width / s->top_k;
    MZ_TRY(mz_decoder_sizes_check(o, s));
    if (!use_dense && s->expert_width < 1) {
        return mz_fail(&o->ctx->error, MZ_ERR_FORMAT,
                       "%s: intermediate_size %lld leaves no width for %lld experts per token",
                       o->name, (long long)s->shared_width, (long long)s->top_k);
    }
    return MZ_OK;
}

static mz_status read_config(const mz_json_object *o, time_moe_config *c) {
    bool use_dense = false;
    *c = (time_moe_config){0};
    MZ_TRY(check_kind(o, &use_dense));
    MZ_TRY(mz_decoder_sizes_read(o, &c->sizes));
    MZ_TRY(mz_json_int_or(o, "max_position_embeddings", 32768, 1, 1 << 24, &c->max_positions));
    MZ_TRY(read_head_lengths(o, c));
    return read_experts(o, use_dense, &c->sizes);
}

mz_status mz_time_moe_describe(mz_context *ctx, const mz_json_object *config, mz_model_info *info) {
    (void)ctx;
    time_moe_config c;
    MZ_TRY(read_config(config, &c));
    int64_t outside = 2 * c.sizes.d_model; /* embedding */
    for (int32_t i = 0; i < c.n_heads_out; i++) {
        outside += c.head_length[i] * c.sizes.d_model;
    }
    mz_decoder_sizes_describe(&c.sizes, outside, info);
    info->max_positions = c.max_positions;
    info->patch_len = 1;
    return MZ_OK;
}

/* Everything of the checkpoint; called twice (core/loader.h). Embedding, router and heads always
 * count their inputs in full. */
static mz_status load_tensors(mz_forecaster_parts *p, const time_moe_config *c,
                              mz_precision precision) {
    mz_loader *l = &p->loader;
    const mz_precision full = MZ_PRECISION_F32;
    MZ_TRY(mz_loader_matrix(l, &p->embed.w_gate, c->sizes.d_model, 1, full,
                            "model.embed_layer.gate_layer.weight"));
    MZ_TRY(mz_loader_matrix(l, &p->embed.w_up, c->sizes.d_model, 1, full,
                            "model.embed_layer.emb_layer.weight"));
    MZ_TRY(mz_decoder_load(l, &p->decoder, &c->sizes, precision));
    for (int32_t i = 0; i < c->n_heads_out; i++) {
        MZ_TRY(mz_loader_matrix(l, &p->heads.w[i], c->head_length[i], c->sizes.d_model, full,
                                "lm_heads.%d.out_layer.weight", i));
    }
    return MZ_OK;
}

static mz_status load_parts(mz_context *ctx, mz_forecaster_parts *p, const char *dir,
                            const time_moe_config *c, const mz_load_options *options) {
    MZ_TRY(mz_decoder_create(ctx, &c->sizes, &p->decoder));
    p->patch_len = 1;
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
    mz_forecaster_parts *parts = NULL;
    mz_forecaster *f = NULL;
    MZ_TRY(read_config(config, &c));
    MZ_TRY(mz_forecaster_create(ctx, &f, &parts));
    const mz_status status = load_parts(ctx, parts, dir, &c, options);
    if (status != MZ_OK) {
        mz_forecaster_close(f);
        return status;
    }
    *out = f;
    return MZ_OK;
}
