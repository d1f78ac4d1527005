#include "apps/train/train_job.h"

#include <stdio.h>

#include "apps/zoo/series_training.h"

/* ---- forecasting ---- */

static mz_series_source source_of(const mz_train_source *s) {
    static const mz_series_source_kind kinds[] = {
        [MZ_TRAIN_JSONL] = MZ_SERIES_SOURCE_TABLE,
        [MZ_TRAIN_CSV] = MZ_SERIES_SOURCE_TABLE,
        [MZ_TRAIN_TIME_MOE] = MZ_SERIES_SOURCE_BINARY,
        [MZ_TRAIN_SYNTHETIC] = MZ_SERIES_SOURCE_GENERATOR,
    };
    static const mz_series_weighting weightings[] = {
        [MZ_TRAIN_BY_SQRT_LENGTH] = MZ_SERIES_BY_SQRT_LENGTH,
        [MZ_TRAIN_BY_LENGTH] = MZ_SERIES_BY_LENGTH,
        [MZ_TRAIN_EVENLY] = MZ_SERIES_EVENLY,
    };
    mz_series_source out = mz_series_source_default(kinds[s->kind], s->path);
    out.share = s->weight;
    out.weighting = weightings[s->weighting];
    out.group_power = s->group_power;
    out.options.columns = s->columns;
    out.options.id = s->id;
    out.options.time = s->time;
    out.options.value = s->value;
    return out;
}

static mz_series_sampler_config sampler_of(const mz_train_data *d,
                                           const mz_series_source *sources) {
    const mz_train_augment *a = &d->augment;
    mz_series_sampler_config out = mz_series_sampler_config_default();
    out.seed = (uint64_t)d->seed;
    out.sources = sources;
    out.n_sources = d->n_sources;
    out.max_points = d->context + d->horizon;
    out.min_points = d->min_points;
    out.horizon = d->horizon;
    out.full_share = d->full_share;
    out.late_share = d->late_share;
    out.even_weights = d->even_weights;
    out.augment = (mz_series_augment){.mix = a->mix,
                                      .aggregate = a->aggregate,
                                      .interpolate = a->interpolate,
                                      .gain = a->gain,
                                      .trend = a->trend,
                                      .jump = a->jump,
                                      .censor = a->censor,
                                      .negate = a->negate,
                                      .reverse = a->reverse};
    return out;
}

static mz_status check_forecast(mz_context *ctx, const mz_train_recipe *r) {
    if (r->batch_tokens > 0) {
        return mz_fail(&ctx->error, MZ_ERR_UNSUPPORTED,
                       "%s: batch.tokens: the job \"forecast\" counts points", r->path);
    }
    return MZ_OK;
}

static mz_status check_loss(mz_context *ctx, const mz_train_recipe *r, const mz_trainable *t) {
    const mz_train_loss_kind kind =
        mz_series_training_has_levels(t) ? MZ_TRAIN_PINBALL : MZ_TRAIN_HUBER;
    if (r->loss.kind != MZ_TRAIN_LOSS_AUTO && r->loss.kind != kind) {
        return mz_fail(&ctx->error, MZ_ERR_FORMAT,
                       "%s: loss: kind is \"%s\", expected \"%s\" for a model that answers %s",
                       r->path, kind == MZ_TRAIN_HUBER ? "pinball" : "huber",
                       kind == MZ_TRAIN_HUBER ? "huber" : "pinball",
                       kind == MZ_TRAIN_HUBER ? "points" : "quantiles");
    }
    return MZ_OK;
}

static mz_status create_forecast(mz_context *ctx, const mz_train_recipe *r, mz_trainable **out) {
    mz_series_source sources[MZ_TRAIN_MAX_SOURCES];
    char name[1024];
    MZ_TRY(check_forecast(ctx, r));
    for (int i = 0; i < r->data.n_sources; i++) {
        sources[i] = source_of(&r->data.sources[i]);
    }
    (void)snprintf(name, sizeof name, "%s: model.init.config", r->path);
    const mz_lora_config lora = {.rank = r->model.lora_rank,
                                 .alpha = r->model.lora_alpha,
                                 .rslora = r->model.lora_rslora,
                                 .targets = r->model.lora_targets,
                                 .n_targets = r->model.n_lora_targets,
                                 .base = r->model.checkpoint};
    const mz_series_training_config config = {
        .checkpoint = r->model.checkpoint,
        .model_config = r->model.config,
        .model_name = name,
        .init = {.seed = (uint64_t)r->model.seed, .deviation = r->model.deviation},
        .precision = r->precision == MZ_TRAIN_BF16 ? MZ_PRECISION_BF16 : MZ_PRECISION_F32,
        .recompute = r->recompute,
        .lora = r->model.has_lora ? &lora : NULL,
        .lora_seed = (uint64_t)r->model.seed,
        .sampler = sampler_of(&r->data, sources),
        .batch_points = r->batch_points,
        .evaluation_examples = r->evaluation_examples,
        .row_power = r->loss.row_power,
        .loss = {.huber_delta = r->loss.delta,
                 .balance_factor = r->loss.balance_factor,
                 .balance_by_layer = r->loss.balance_per_layer,
                 .router_z_factor = r->loss.router_z},
    };
    mz_trainable *t = NULL;
    MZ_TRY(mz_series_training_create(ctx, &config, &t));
    const mz_status status = check_loss(ctx, r, t);
    if (status != MZ_OK) {
        t->destroy(t->self);
        return status;
    }
    *out = t;
    return MZ_OK;
}

mz_status mz_train_job_create(mz_context *ctx, const mz_train_recipe *recipe, mz_trainable **out) {
    switch (recipe->job) {
    case MZ_TRAIN_FORECAST:
        return create_forecast(ctx, recipe, out);
    }
    return mz_fail(&ctx->error, MZ_ERR_UNSUPPORTED, "%s: job: unknown", recipe->path);
}
