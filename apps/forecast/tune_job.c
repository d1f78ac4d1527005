#include "apps/forecast/tune_job.h"

#include <math.h>
#include <string.h>

#include "adapters/lora_config.h"
#include "apps/zoo/series_training.h"
#include "apps/zoo/zoo.h"

enum {
    MAX_WINDOW = 4096,    /* values of a window to train on */
    MICRO_POINTS = 16384, /* of a micro-batch: bounds the memory */
    LOOK_WINDOWS = 128,   /* windows that are scored while training, about */
    MIN_STEPS = 60,       /* steps by default */
    MAX_STEPS = 400,      /* */
    PASSES = 30           /* and between them, over the data */
};

static const double DEFAULT_MINUTES = 5;
static const double LR_FULL = 1e-4;
static const double LR_LORA = 1e-3;
static const double WEIGHT_DECAY = 0.01;

static mz_tune_scorer scorer_of(const mz_tune_job *j) {
    return (mz_tune_scorer){
        .batch = j->setup.batch, .split = &j->split, .season = j->request->in->season};
}

/* ---- what is trained ---- */

/* The adapter of the request, or how the one that is gone on with is. */
static mz_status describe_adapter(mz_tune_job *j, mz_lora_config *out) {
    const mz_tune_request *r = j->request;
    if (r->full) {
        return MZ_OK;
    }
    j->report.rank = r->rank;
    j->report.alpha = r->alpha;
    if (r->in->adapter == NULL) {
        /* Attention and experts; neither router nor what is before and behind the blocks. */
        static const char *const targets[] = {"model.layers.*_proj"};
        *out = (mz_lora_config){.rank = r->rank,
                                .alpha = r->alpha,
                                .targets = targets,
                                .n_targets = 1,
                                .base = j->setup.model_name};
        return MZ_OK;
    }
    mz_lora_config given = {0};
    MZ_TRY(mz_lora_config_read(j->ctx, r->in->adapter, &given));
    j->report.rank = given.rank;
    j->report.alpha = given.alpha;
    mz_lora_config_free(j->ctx, &given);
    return MZ_OK;
}

/* Windows are as long as those that will be asked for, or as the data lets them be. Few changes of
 * them: the model is to learn these series, on their own grid of time. */
static mz_series_sampler_config sampler_of(const mz_tune_job *j, const mz_series_source *sources,
                                           int32_t n_sources) {
    const mz_forecast_batch *batch = j->setup.batch;
    mz_series_sampler_config out = mz_series_sampler_config_default();
    int64_t longest =
        mz_forecaster_context_len(batch->forecaster, &batch->options, MZ_FORECAST_MAX_CONTEXT) +
        j->split.horizon;
    longest = longest < j->split.longest ? longest : j->split.longest;
    out.seed = (uint64_t)j->request->seed;
    out.sources = sources;
    out.n_sources = n_sources;
    out.max_points = longest < MAX_WINDOW ? longest : MAX_WINDOW;
    out.min_points = MZ_TUNE_MIN_TRAIN;
    out.horizon = j->split.horizon < out.max_points ? j->split.horizon : out.max_points;
    out.full_share = 0.7;
    out.augment = (mz_series_augment){.mix = 0.1, .gain = 0.1, .trend = 0.05};
    return out;
}

static int micro_batches(const mz_tune_job *j, int64_t max_points) {
    return (int)((j->request->batch * max_points + MICRO_POINTS - 1) / MICRO_POINTS);
}

static mz_status create_trainable(mz_tune_job *j, mz_tune_training *training) {
    const mz_tune_request *r = j->request;
    mz_series_source sources[2];
    mz_lora_config lora = {0};
    MZ_TRY(describe_adapter(j, &lora));
    MZ_TRY(mz_tune_split_train(&j->split, &j->train));
    sources[0] = mz_series_source_default(MZ_SERIES_SOURCE_MEMORY, mz_cli_base_name(r->in->file));
    sources[0].series = j->train;
    sources[0].n_series = j->split.n;
    sources[0].missing = (mz_missing)r->in->missing;
    sources[0].share = 1 - r->synthetic_share;
    sources[1] = mz_series_source_default(MZ_SERIES_SOURCE_GENERATOR, NULL);
    sources[1].share = r->synthetic_share;
    const mz_series_sampler_config sampler = sampler_of(j, sources, 2);
    training->n_micro = micro_batches(j, sampler.max_points);
    const mz_series_training_config config = {
        .checkpoint = j->setup.model_dir,
        .precision = (mz_precision)r->in->precision,
        .lora = r->full || r->in->adapter != NULL ? NULL : &lora,
        .lora_seed = (uint64_t)r->seed,
        .adapter = r->full ? NULL : r->in->adapter,
        .sampler = sampler,
        .batch_points = (r->batch * sampler.max_points + training->n_micro - 1) / training->n_micro,
        .row_power = 0.5,
        .loss = {.huber_delta = 2, .balance_factor = 0.02, .balance_by_layer = false}};
    training->n_steps = r->n_steps;
    if (r->n_steps == 0) {
        const int64_t n =
            (int64_t)((double)j->split.n_train * PASSES / (double)(r->batch * sampler.max_points));
        training->n_steps = n < MIN_STEPS ? MIN_STEPS : n > MAX_STEPS ? MAX_STEPS : n;
    }
    return mz_series_training_create(j->ctx, &config, &j->trainable);
}

/* ---- training ---- */

static mz_status score_validation(void *self, double *out) {
    mz_tune_job *j = self;
    const mz_tune_scorer scorer = scorer_of(j);
    mz_backtest_totals totals;
    MZ_TRY(mz_tune_score(&scorer, mz_series_training_forecaster(j->trainable), MZ_TUNE_VALIDATION,
                         j->stride, false, &totals));
    *out = mz_total_scores_metric(&totals.methods[MZ_BACKTEST_MODEL],
                                  mz_tune_metric(&j->before[MZ_TUNE_VALIDATION]));
    return MZ_OK;
}

static bool is_stopped(void *self) {
    (void)self;
    return mz_cli_interrupted();
}

static mz_status train(mz_tune_job *j) {
    const mz_tune_request *r = j->request;
    const double seconds = (r->minutes > 0 ? r->minutes : DEFAULT_MINUTES) * 60;
    mz_tune_training training = {.fixed_steps = r->n_steps > 0 && r->minutes <= 0,
                                 .seconds = seconds,
                                 .lr = r->lr > 0 ? r->lr
                                       : r->full ? LR_FULL
                                                 : LR_LORA,
                                 .weight_decay = WEIGHT_DECAY,
                                 .quiet = r->in->quiet,
                                 .score = score_validation,
                                 .stop = is_stopped,
                                 .self = j};
    j->stride = (j->split.n_windows + LOOK_WINDOWS - 1) / LOOK_WINDOWS;
    MZ_TRY(create_trainable(j, &training));
    j->report.lr = training.lr;
    j->report.n_parameters = mz_parameters_n_values(j->trainable->parameters);
    return mz_tune_train(j->ctx, j->trainable, &training, &j->trained);
}

static mz_status score(mz_tune_job *j, mz_forecaster *forecaster, bool baselines,
                       mz_backtest_totals *totals) {
    const mz_tune_scorer scorer = scorer_of(j);
    for (int part = MZ_TUNE_VALIDATION; part <= MZ_TUNE_TEST; part++) {
        MZ_TRY(mz_tune_score(&scorer, forecaster, (mz_tune_part)part, 1, baselines, &totals[part]));
    }
    return MZ_OK;
}

/* ---- writing ---- */

/* The adapter in the folder becomes a model. It is rounded as the model's file is, so that the new
 * one is scored once more. */
static mz_status merge(mz_tune_job *j) {
    const char *dir = j->request->output;
    const mz_load_options load = {.precision = (mz_precision)j->request->in->precision};
    MZ_TRY(mz_zoo_merge(j->ctx, j->setup.model_dir, dir, dir));
    MZ_TRY(mz_tune_output_remove(&j->output, true));
    MZ_TRY(mz_zoo_load_forecaster(j->ctx, dir, &load, &j->merged));
    return score(j, j->merged, true, j->after);
}

static mz_status write_report(mz_tune_job *j) {
    char *path = NULL;
    mz_output out = {0};
    MZ_TRY(mz_path_join(j->ctx, j->request->output, "report.json", &path));
    mz_status status = mz_output_open(j->ctx, path, &out);
    if (status == MZ_OK) {
        mz_tune_report_json(&j->report, out.stream);
        status = mz_output_commit(j->ctx, &out);
    }
    mz_free(j->ctx, path);
    return status;
}

static mz_status write_all(mz_tune_job *j) {
    mz_tune_report *report = &j->report;
    report->is_better =
        mz_tune_is_better(&j->before[MZ_TUNE_VALIDATION], &j->after[MZ_TUNE_VALIDATION]);
    MZ_TRY(mz_tune_output_clear(&j->output));
    if (report->is_better) {
        /* f32, for what was scored is what is written. */
        MZ_TRY(j->trainable->save(j->trainable->self, j->request->output, NULL, MZ_DTYPE_F32));
    }
    if (report->is_better && report->merged) {
        MZ_TRY(merge(j));
        report->is_better =
            mz_tune_is_better(&j->before[MZ_TUNE_VALIDATION], &j->after[MZ_TUNE_VALIDATION]);
        if (!report->is_better) {
            MZ_TRY(mz_tune_output_remove(&j->output, false));
        }
    }
    return write_report(j);
}

/* ---- work ---- */

static mz_status open_job(mz_tune_job *j, const mz_command *command) {
    const mz_tune_request *r = j->request;
    MZ_TRY(mz_forecast_setup_open(j->ctx, r->in, &j->setup));
    MZ_TRY(mz_tune_output_check(j->ctx, r->output, j->setup.model_dir, r->force));
    const mz_forecast_source source = mz_forecast_setup_source(&j->setup);
    const mz_status status =
        mz_tune_split_read(j->ctx, &source, r->in->horizon, r->n_windows, &j->split);
    if (status == MZ_ERR_ARG) {
        return mz_fail_prefix(&j->ctx->error, "%s", r->in->file);
    }
    MZ_TRY(status);
    if (!r->in->quiet) {
        mz_forecast_setup_tell_notes(&j->setup, command, r->in->file);
    }
    j->report = (mz_tune_report){.file = mz_cli_base_name(r->in->file),
                                 .model = j->setup.model_name,
                                 .path = r->in->file,
                                 .model_option = r->in->model,
                                 .output = r->output,
                                 .split = &j->split,
                                 .before = j->before,
                                 .after = j->after,
                                 .trained = &j->trained,
                                 .seed = r->seed,
                                 .merged = r->merge};
    /* Not earlier: waiting for standard input must end at once. */
    mz_cli_catch_interrupts();
    return mz_tune_output_open(j->ctx, r->output, j->setup.model_dir, r->force, &j->output);
}

mz_status mz_tune_job_run(mz_tune_job *j, const mz_command *command) {
    MZ_TRY(open_job(j, command));
    MZ_TRY(score(j, j->setup.batch->forecaster, true, j->before));
    MZ_TRY(train(j));
    MZ_TRY(score(j, mz_series_training_forecaster(j->trainable), true, j->after));
    return write_all(j);
}

void mz_tune_job_close(mz_tune_job *j) {
    if (j->trainable != NULL) {
        j->trainable->destroy(j->trainable->self);
    }
    mz_forecaster_close(j->merged);
    mz_tune_output_close(&j->output);
    mz_free(j->ctx, j->train);
    mz_tune_split_free(&j->split);
    mz_forecast_setup_close(&j->setup);
}
