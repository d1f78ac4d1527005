#include "apps/forecast/forecast_batch.h"

#include "apps/cli.h"
#include "apps/forecast/forecast_batch_internal.h"

#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

enum { MAX_KEPT_VALUES = 1 << 23 }; /* of a batch, above which it is full */

static void release_entry(mz_context *ctx, mz_forecast_entry *e) {
    mz_free(ctx, e->id);
    mz_free(ctx, e->values);
    mz_free(ctx, e->forecast);
    mz_free(ctx, e->quantiles);
    mz_free(ctx, e->baselines);
    mz_free(ctx, e->future);
    mz_free(ctx, e->stamps);
    mz_free(ctx, e->future_stamps);
    mz_free(ctx, e->value_name);
    mz_free(ctx, e->error);
    *e = (mz_forecast_entry){0};
}

static void drop_ready(mz_forecast_batch *b) {
    for (int i = 0; i < b->n_ready; i++) {
        release_entry(b->ctx, &b->entries[i]);
    }
    for (int i = b->n_ready; i < b->n_entries; i++) {
        b->entries[i - b->n_ready] = b->entries[i];
        b->entries[i] = (mz_forecast_entry){0};
    }
    b->n_entries -= b->n_ready;
    b->n_ready = 0;
}

void mz_forecast_batch_close(mz_forecast_batch *b) {
    for (int i = 0; i < b->n_entries; i++) {
        release_entry(b->ctx, &b->entries[i]);
    }
    b->n_entries = 0;
    b->n_ready = 0;
}

/* ---- reading ---- */

void mz_forecast_warn(mz_warnings *w, const char *format, ...) {
    va_list args;
    if (w->n == MZ_MAX_WARNINGS) {
        return;
    }
    va_start(args, format);
    (void)vsnprintf(w->text[w->n++], MZ_WARNING_BYTES, format, args);
    va_end(args);
}

static void warn_of_gaps(const mz_gap_report *gaps, mz_missing policy, mz_warnings *w) {
    static const char *const done[] = {"filled (linear)", "filled (forward)", "filled (seasonal)",
                                       "dropped"};
    if (gaps->n_inner > 0 && policy != MZ_MISSING_ERROR) {
        mz_forecast_warn(w, "%lld missing value%s %s", (long long)gaps->n_inner,
                         mz_cli_plural(gaps->n_inner), done[policy]);
    }
    if (gaps->n_trailing > 0) {
        mz_forecast_warn(
            w,
            "%lld missing value%s at the end removed: the forecast starts after the last observed "
            "value",
            (long long)gaps->n_trailing, mz_cli_plural(gaps->n_trailing));
    }
}

/* Fails with what keeps the repaired series from being forecast. */
static mz_status check_series(mz_forecast_batch *b, const mz_series *series, int64_t n_read) {
    mz_error *err = &b->ctx->error;
    if (n_read == 0) {
        return mz_fail(err, MZ_ERR_ARG, "it has no values");
    }
    if (series->n_values == 0) {
        return mz_fail(err, MZ_ERR_ARG, "nothing to go by, all %lld value%s missing",
                       (long long)n_read, n_read == 1 ? " is" : "s are");
    }
    const int64_t n = mz_forecaster_context_len(b->forecaster, &b->options, series->n_values);
    for (int64_t i = series->n_values - n;
         b->options.normalize == MZ_NORMALIZE_NONE && i < series->n_values; i++) {
        if (fabs(series->values[i]) > (double)FLT_MAX) {
            return mz_fail(err, MZ_ERR_ARG, "the value %g is too large without normalisation",
                           series->values[i]);
        }
    }
    return MZ_OK;
}

/* Copies what the model will use. */
static mz_status keep_values(mz_forecast_batch *b, const mz_series *series, mz_forecast_entry *e) {
    e->n_context = mz_forecaster_context_len(b->forecaster, &b->options, series->n_values);
    /* Measures of a held-out future are scaled by the whole past, and baselines see it. */
    const int64_t n = b->hold_out || b->baselines ? series->n_values : e->n_context;
    void *values = NULL;
    void *forecast = NULL;
    void *quantiles = NULL;
    void *baselines = NULL;
    MZ_TRY(mz_calloc(b->ctx, (size_t)n, sizeof(double), "series", &values));
    e->values = values;
    e->n_values = n;
    e->n_observed = series->n_values;
    memcpy(e->values, series->values + (series->n_values - n), (size_t)n * sizeof(double));
    MZ_TRY(mz_calloc(b->ctx, (size_t)b->options.horizon, sizeof(double), "forecast", &forecast));
    e->forecast = forecast;
    if (b->quantiles != NULL) {
        const size_t n_quantiles = (size_t)b->quantiles->n * (size_t)b->options.horizon;
        MZ_TRY(mz_calloc(b->ctx, n_quantiles, sizeof(double), "quantiles", &quantiles));
        e->quantiles = quantiles;
    }
    if (b->baselines) {
        const size_t n_baselines = MZ_BASELINE_COUNT * (size_t)b->options.horizon;
        MZ_TRY(mz_calloc(b->ctx, n_baselines, sizeof(double), "baselines", &baselines));
        e->baselines = baselines;
    }
    return MZ_OK;
}

/* Copies dates of the values kept, and steps on from the last to those of the forecast, unless they
 * were held out with it. */
static mz_status keep_dates(mz_forecast_batch *b, const mz_series *series, mz_forecast_entry *e) {
    const int64_t horizon = b->options.horizon;
    void *stamps = NULL;
    void *future = NULL;
    e->frequency = series->frequency;
    e->form = series->form;
    if (series->value_name != NULL) {
        MZ_TRY(mz_strdup(b->ctx, series->value_name, &e->value_name));
    }
    if (series->stamps == NULL) {
        return MZ_OK;
    }
    const mz_stamp *newest = series->stamps + (series->n_values - e->n_values);
    MZ_TRY(mz_calloc(b->ctx, (size_t)e->n_values, sizeof(mz_stamp), "dates", &stamps));
    e->stamps = stamps;
    memcpy(stamps, newest, (size_t)e->n_values * sizeof(mz_stamp));
    if (e->future_stamps != NULL || series->frequency.kind == MZ_FREQUENCY_NONE) {
        return MZ_OK;
    }
    MZ_TRY(mz_calloc(b->ctx, (size_t)horizon, sizeof(mz_stamp), "dates", &future));
    e->future_stamps = future;
    const mz_stamp last = series->stamps[series->n_values - 1];
    for (int64_t h = 0; h < horizon; h++) {
        if (!mz_frequency_step(&series->frequency, last, h + 1, &e->future_stamps[h])) {
            mz_free(b->ctx, e->future_stamps);
            e->future_stamps = NULL;
            mz_forecast_warn(&e->warnings, "no dates: step %lld lies beyond the year 9999",
                             (long long)h + 1);
            return MZ_OK;
        }
    }
    return MZ_OK;
}

const char *mz_forecast_error_text(const mz_error *err, const char *id) {
    mz_error name;
    char shown[MZ_SERIES_ID_SHOWN_BYTES];
    mz_series_show_id(id, shown);
    (void)mz_fail(&name, MZ_ERR_ARG, "series \"%s\": ", shown);
    const size_t n = strlen(name.message);
    return err->message + (strncmp(err->message, name.message, n) == 0 ? n : 0);
}

/* Moves the last values to the entry. The past must end where the future begins: missing values in
 * between repeat the last one that was observed. */
static mz_status hold_out(mz_forecast_batch *b, mz_series *series, mz_forecast_entry *e) {
    const int64_t horizon = b->options.horizon;
    void *future = NULL;
    if (series->n_values <= horizon) {
        return mz_fail(&b->ctx->error, MZ_ERR_ARG,
                       "%lld value%s, at least %lld are needed to hold out %lld",
                       (long long)series->n_values, mz_cli_plural(series->n_values),
                       (long long)horizon + 1, (long long)horizon);
    }
    MZ_TRY(mz_calloc(b->ctx, (size_t)horizon, sizeof(double), "future", &future));
    e->future = future;
    series->n_values -= horizon;
    memcpy(e->future, series->values + series->n_values, (size_t)horizon * sizeof(double));
    if (series->stamps != NULL) {
        void *stamps = NULL;
        MZ_TRY(mz_calloc(b->ctx, (size_t)horizon, sizeof(mz_stamp), "dates", &stamps));
        e->future_stamps = stamps;
        memcpy(stamps, series->stamps + series->n_values, (size_t)horizon * sizeof(mz_stamp));
    }
    int64_t last = series->n_values;
    while (last > 0 && isnan(series->values[last - 1])) {
        last--;
    }
    for (int64_t i = last; last > 0 && i < series->n_values; i++) {
        series->values[i] = series->values[last - 1];
    }
    return MZ_OK;
}

static mz_status read_entry(mz_forecast_batch *b, mz_series *series, mz_forecast_entry *e) {
    const int64_t n_read = series->n_values;
    mz_gap_report gaps = {0};
    MZ_TRY(mz_strdup(b->ctx, series->id, &e->id));
    if (series->error != NULL) {
        return mz_strdup(b->ctx, series->error, &e->error);
    }
    mz_status status = b->hold_out ? hold_out(b, series, e) : MZ_OK;
    if (status == MZ_OK && b->season != MZ_SEASON_UNUSED) {
        status = mz_series_season(b->ctx, series, b->season, &e->season);
    }
    if (status == MZ_OK) {
        status = mz_series_fill(b->ctx, series, b->missing, e->season, &gaps);
    }
    if (status == MZ_OK) {
        status = check_series(b, series, n_read);
    }
    if (status == MZ_ERR_ARG) {
        return mz_strdup(b->ctx, mz_forecast_error_text(&b->ctx->error, e->id), &e->error);
    }
    MZ_TRY(status);
    for (int i = 0; i < series->n_notes; i++) {
        mz_forecast_warn(&e->warnings, "%s", series->notes[i]);
    }
    warn_of_gaps(&gaps, b->missing, &e->warnings);
    MZ_TRY(keep_values(b, series, e));
    return keep_dates(b, series, e);
}

/* Lists the entries that the model has to answer; returns how many. */
static int collect_items(mz_forecast_batch *b, int n_entries) {
    int n = 0;
    for (int i = 0; i < n_entries; i++) {
        const mz_forecast_entry *e = &b->entries[i];
        if (e->error == NULL) {
            b->items[n++] = (mz_forecast_item){.values = e->values + (e->n_values - e->n_context),
                                               .n_values = e->n_context,
                                               .forecast = e->forecast};
        }
    }
    return n;
}

mz_status mz_forecast_batch_next(mz_forecast_batch *b, const mz_forecast_source *source) {
    int64_t n_kept = 0;
    drop_ready(b);
    for (int i = 0; i < b->n_entries; i++) {
        n_kept += b->entries[i].n_values;
    }
    while (b->n_entries < MZ_FORECAST_BATCH) {
        mz_series series;
        bool end = false;
        MZ_TRY(source->next(source->self, &series, &end));
        if (end) {
            break;
        }
        MZ_TRY(read_entry(b, &series, &b->entries[b->n_entries++]));
        n_kept += b->entries[b->n_entries - 1].n_values;
        if (n_kept > MAX_KEPT_VALUES) {
            break;
        }
        const int n_items = collect_items(b, b->n_entries);
        if (n_items > 1 &&
            mz_forecaster_batch_size(b->forecaster, &b->options, b->items, n_items) < n_items) {
            b->n_ready = b->n_entries - 1;
            return MZ_OK;
        }
    }
    b->n_ready = b->n_entries;
    return MZ_OK;
}

/* ---- running ---- */

static void warn_of_flags(const mz_forecast_batch *b, uint32_t flags, mz_forecast_entry *e) {
    mz_warnings *w = &e->warnings;
    if ((flags & MZ_FORECAST_NAIVE) != 0) {
        mz_forecast_warn(
            w, "a single value says nothing about the future: it is repeated (naive forecast)");
    }
    if ((flags & MZ_FORECAST_CONSTANT) != 0) {
        mz_forecast_warn(w, "all values are equal: the value is repeated (constant forecast)");
    }
    if ((flags & MZ_FORECAST_SHORT) != 0) {
        mz_forecast_warn(w, "short series: %lld value%s to go by", (long long)e->n_context,
                         mz_cli_plural(e->n_context));
    }
    if ((flags & MZ_FORECAST_BEYOND_TRAINING) != 0) {
        mz_forecast_warn(
            w,
            "%lld values and %lld steps are more than the %lld positions the model was trained for",
            (long long)e->n_context, (long long)b->options.horizon,
            (long long)mz_forecaster_max_positions(b->forecaster));
    }
    if ((flags & MZ_FORECAST_CLAMPED) != 0) {
        mz_forecast_warn(w, "values beyond the range of a double were set to its end");
    }
}

bool mz_forecast_is_about_series(mz_status status) {
    return status == MZ_ERR_ARG || status == MZ_ERR_FORMAT || status == MZ_ERR_LIMIT;
}

/* The batch failed for the sake of some series: each on its own shows which. */
static mz_status run_singly(mz_forecast_batch *b) {
    int k = 0;
    for (int i = 0; i < b->n_ready; i++) {
        mz_forecast_entry *e = &b->entries[i];
        if (e->error != NULL) {
            continue;
        }
        const mz_status status = mz_forecaster_run(b->forecaster, &b->options, &b->items[k], 1);
        if (mz_forecast_is_about_series(status)) {
            MZ_TRY(mz_strdup(b->ctx, b->ctx->error.message, &e->error));
        } else {
            MZ_TRY(status);
            warn_of_flags(b, b->items[k].warnings, e);
        }
        k++;
    }
    return MZ_OK;
}

/* Forecasts the first n_items items. */
static mz_status run_items(mz_forecast_batch *b, int n_items) {
    const mz_status status = mz_forecaster_run(b->forecaster, &b->options, b->items, n_items);
    if (mz_forecast_is_about_series(status)) {
        return run_singly(b);
    }
    MZ_TRY(status);
    int k = 0;
    for (int i = 0; i < b->n_ready; i++) {
        if (b->entries[i].error == NULL) {
            warn_of_flags(b, b->items[k++].warnings, &b->entries[i]);
        }
    }
    return MZ_OK;
}

static mz_status run_baselines(mz_forecast_batch *b, const mz_forecast_entry *e) {
    const int64_t horizon = b->options.horizon;
    for (int i = 0; i < MZ_BASELINE_COUNT; i++) {
        MZ_TRY(mz_baseline_forecast(b->ctx, (mz_baseline)i, e->values, e->n_values,
                                    e->season > 0 ? e->season : 1, horizon,
                                    e->baselines + i * horizon));
    }
    return MZ_OK;
}

/* Who watches a batch in the making. */
typedef struct watcher {
    mz_forecast_batch *batch;
    double interrupted_s; /* when an interrupt was noticed; 0: there was none */
} watcher;

/* After an interrupt a batch is completed if that is a matter of a moment, and given up else. */
static bool watch_pass(void *self, int64_t n_rows, int64_t n_total) {
    const double moment_s = 2;
    watcher *w = self;
    if (w->batch->progress != NULL) {
        const double share = fmin((double)n_rows / (double)n_total, 1);
        mz_progress_update_part(w->batch->progress, w->batch->n_before, share * w->batch->n_ready);
    }
    if (w->batch->ignores_interrupts || !mz_cli_interrupted()) {
        return true;
    }
    const double now = mz_now_s();
    w->interrupted_s = w->interrupted_s > 0 ? w->interrupted_s : now;
    return now - w->interrupted_s < moment_s;
}

static mz_status run_batch(mz_forecast_batch *b) {
    const int n = collect_items(b, b->n_ready);
    double *memory = NULL; /* of what the bands are taken from */
    if (n == 0) {
        return MZ_OK;
    }
    if (b->quantiles != NULL) {
        MZ_TRY(mz_forecast_bands_prepare(b, n, &memory));
    }
    watcher w = {.batch = b};
    mz_forecaster_set_watch(b->forecaster, (mz_forecast_watch){watch_pass, &w});
    mz_status status = run_items(b, n);
    mz_forecaster_set_watch(b->forecaster, (mz_forecast_watch){0});
    if (status == MZ_OK && b->quantiles != NULL) {
        status = mz_forecast_bands(b);
    }
    mz_free(b->ctx, memory);
    return status;
}

/* In place, so that every form of the answer shows the same numbers. */
static void finish_values(const mz_forecast_batch *b, double *values, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        values[i] = b->nonnegative ? fmax(values[i], 0) : values[i];
        values[i] = b->round ? round(values[i]) : values[i];
    }
}

mz_status mz_forecast_batch_run(mz_forecast_batch *b) {
    const int64_t horizon = b->options.horizon;
    const mz_status status = run_batch(b);
    if (status == MZ_ERR_INTERRUPTED) {
        drop_ready(b);
        return MZ_OK;
    }
    MZ_TRY(status);
    for (int i = 0; i < b->n_ready; i++) {
        if (b->entries[i].error == NULL) {
            finish_values(b, b->entries[i].forecast, horizon);
            finish_values(b, b->entries[i].quantiles,
                          b->quantiles != NULL ? b->quantiles->n * horizon : 0);
            MZ_TRY(b->baselines ? run_baselines(b, &b->entries[i]) : MZ_OK);
        }
    }
    return MZ_OK;
}
