/* Patch-MoE: config.json and tensor names (docs/models/patch-moe.md). */
#include "apps/zoo/patch_moe.h"

#include <string.h>

#include "apps/zoo/decoder_loader.h"
#include "apps/zoo/forecaster_parts.h"
#include "experts/router.h"

typedef struct patch_moe_config {
    mz_decoder_sizes sizes;
    int64_t patch_len, head_len;
    int64_t embed_width, head_width; /* of the hidden layers of the two residual MLPs */
    int64_t max_positions;
    mz_value_transform transform;
    int32_t n_quantiles, median;
    double quantiles[MZ_MAX_MODEL_LEVELS];
} patch_moe_config;

enum { MAX_PATCH_LEN = 1024, MAX_HEAD_LEN = 4096, MAX_POINTS = 1 << 24 };

static mz_status read_level(const mz_json_object *o, const json_t *value, patch_moe_config *c) {
    mz_error *err = &o->ctx->error;
    const double level = json_number_value(value);
    const double previous = c->n_quantiles > 0 ? c->quantiles[c->n_quantiles - 1] : 0;
    if (!json_is_number(value)) {
        return mz_fail(err, MZ_ERR_FORMAT, "%s: quantiles holds something else than numbers",
                       o->name);
    }
    if (!(level > 0 && level < 1)) {
        return mz_fail(err, MZ_ERR_LIMIT, "%s: quantiles holds %g, expected between 0 and 1",
                       o->name, level);
    }
    if (level <= previous) {
        return mz_fail(err, MZ_ERR_FORMAT, "%s: quantiles must ascend, but %g follows %g", o->name,
                       level, previous);
    }
    c->median = level == 0.5 ? c->n_quantiles : c->median;
    c->quantiles[c->n_quantiles++] = level;
    return MZ_OK;
}

static mz_status read_levels(const mz_json_object *o, patch_moe_config *c) {
    mz_error *err = &o->ctx->error;
    const json_t *value = json_object_get(o->object, "quantiles");
    const size_t n = json_array_size(value);
    if (value == NULL) {
        return mz_fail(err, MZ_ERR_MISSING, "%s: no quantiles", o->name);
    }
    if (!json_is_array(value)) {
        return mz_fail(err, MZ_ERR_FORMAT, "%s: quantiles is no array of numbers", o->name);
    }
    if (n < 1 || n > MZ_MAX_MODEL_LEVELS) {
        return mz_fail(err, MZ_ERR_LIMIT, "%s: quantiles has %zu entries, expected 1 to %d",
                       o->name, n, (int)MZ_MAX_MODEL_LEVELS);
    }
    c->median = -1;
    for (size_t i = 0; i < n; i++) {
        MZ_TRY(read_level(o, json_array_get(value, i), c));
    }
    if (c->median < 0) {
        return mz_fail(err, MZ_ERR_FORMAT, "%s: quantiles lacks 0.5, the level that is fed back",
                       o->name);
    }
    return MZ_OK;
}

static mz_status read_transform(const mz_json_object *o, mz_value_transform *transform) {
    const char *name = NULL;
    MZ_TRY(mz_json_string(o, "value_transform", &name));
    if (strcmp(name, "arcsinh") != 0 && strcmp(name, "none") != 0) {
        return mz_fail(&o->ctx->error, MZ_ERR_UNSUPPORTED,
                       "%s: value_transform is \"%s\", known are: arcsinh, none", o->name, name);
    }
    *transform = strcmp(name, "arcsinh") == 0 ? MZ_TRANSFORM_ARCSINH : MZ_TRANSFORM_NONE;
    return MZ_OK;
}

static mz_status read_config(const mz_json_object *o, patch_moe_config *c) {
    mz_decoder_sizes *s = &c->sizes;
    *c = (patch_moe_config){0};
    MZ_TRY(mz_decoder_sizes_read(o, s));
    MZ_TRY(mz_json_int(o, "num_experts", 1, MZ_MAX_EXPERTS, &s->n_experts));
    MZ_TRY(mz_json_int(o, "num_experts_per_tok", 1, MZ_MAX_EXPERTS, &s->top_k));
    MZ_TRY(mz_json_int(o, "moe_intermediate_size", 1, MZ_MAX_FFN_WIDTH, &s->expert_width));
    MZ_TRY(
        mz_json_int(o, "shared_expert_intermediate_size", 1, MZ_MAX_FFN_WIDTH, &s->shared_width));
    MZ_TRY(mz_decoder_sizes_check(o, s));
    MZ_TRY(mz_json_int(o, "patch_len", 1, MAX_PATCH_LEN, &c->patch_len));
    MZ_TRY(mz_json_int(o, "head_len", 1, MAX_HEAD_LEN, &c->head_len));
    MZ_TRY(mz_json_int(o, "embed_intermediate_size", 1, MZ_MAX_FFN_WIDTH, &c->embed_width));
    MZ_TRY(mz_json_int(o, "head_intermediate_size", 1, MZ_MAX_FFN_WIDTH, &c->head_width));
    MZ_TRY(mz_json_int(o, "max_position_embeddings", 1, MAX_POINTS, &c->max_positions));
    MZ_TRY(read_transform(o, &c->transform));
    if (c->head_len % c->patch_len != 0) {
        return mz_fail(&o->ctx->error, MZ_ERR_FORMAT,
                       "%s: head_len %lld is no multiple of patch_len %lld", o->name,
                       (long long)c->head_len, (long long)c->patch_len);
    }
    return read_levels(o, c);
}

/* Weights of a residual MLP. */
static int64_t n_weights(int64_t d_in, int64_t d_hidden, int64_t d_out) {
    return 2 * d_hidden * d_in + d_out * (d_hidden + d_in);
}

mz_status mz_patch_moe_describe(mz_context *ctx, const mz_json_object *config,
                                mz_model_info *info) {
    (void)ctx;
    patch_moe_config c;
    MZ_TRY(read_config(config, &c));
    const int64_t d = c.sizes.d_model;
    mz_decoder_sizes_describe(&c.sizes,
                              n_weights(2 * c.patch_len, c.embed_width, d) +
                                  n_weights(d, c.head_width, c.head_len * c.n_quantiles),
                              info);
    info->max_positions = c.max_positions;
    info->patch_len = c.patch_len;
    info->n_levels = c.n_quantiles;
    memcpy(info->levels, c.quantiles, sizeof info->levels);
    return MZ_OK;
}

static mz_status load_residual_mlp(mz_loader *l, mz_residual_mlp *mlp, int64_t d_in,
                                   int64_t d_hidden, int64_t d_out, const char *prefix) {
    const mz_precision full = MZ_PRECISION_F32;
    mlp->activation = MZ_ACTIVATION_SILU;
    MZ_TRY(mz_loader_matrix(l, &mlp->w_gate, d_hidden, d_in, full, "%s.gate_proj.weight", prefix));
    MZ_TRY(mz_loader_matrix(l, &mlp->w_up, d_hidden, d_in, full, "%s.up_proj.weight", prefix));
    MZ_TRY(mz_loader_matrix(l, &mlp->w_down, d_out, d_hidden, full, "%s.down_proj.weight", prefix));
    return mz_loader_matrix(l, &mlp->w_skip, d_out, d_in, full, "%s.skip_proj.weight", prefix);
}

/* Everything of the checkpoint; called twice (core/loader.h). Embedding and head always count their
 * inputs in full. */
static mz_status load_tensors(mz_forecaster_parts *p, const patch_moe_config *c,
                              mz_precision precision) {
    const int64_t d = c->sizes.d_model;
    MZ_TRY(load_residual_mlp(&p->loader, &p->patch_embed, 2 * c->patch_len, c->embed_width, d,
                             "model.embed"));
    MZ_TRY(mz_decoder_load(&p->loader, &p->decoder, &c->sizes, precision));
    return load_residual_mlp(&p->loader, &p->patch_head, d, c->head_width,
                             c->head_len * c->n_quantiles, "head");
}

static mz_status load_parts(mz_context *ctx, mz_forecaster_parts *p, const char *dir,
                            const patch_moe_config *c, const mz_load_options *options) {
    MZ_TRY(mz_decoder_create(ctx, &c->sizes, &p->decoder));
    p->rows = MZ_ROWS_PATCH;
    p->patch_len = c->patch_len;
    p->transform = c->transform;
    p->heads.n_heads = 1;
    p->heads.length[0] = (int32_t)c->head_len;
    p->n_quantiles = c->n_quantiles;
    p->median = c->median;
    memcpy(p->quantiles, c->quantiles, sizeof p->quantiles);
    p->max_positions = c->max_positions;
    MZ_TRY(mz_loader_open(ctx, options->backend != NULL ? options->backend : mz_backend_cpu(), dir,
                          &options->weights, &p->loader));
    MZ_TRY(load_tensors(p, c, options->precision));
    MZ_TRY(mz_loader_begin_fill(&p->loader));
    return load_tensors(p, c, options->precision);
}

mz_status mz_patch_moe_load(mz_context *ctx, const char *dir, const mz_json_object *config,
                            const mz_load_options *options, mz_forecaster **out) {
    patch_moe_config c;
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
