#include "apps/forecast/anomaly_search.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "apps/forecast/forecast_batch_internal.h"
#include "apps/zoo/anomaly_band.h"
#include "apps/zoo/native_quantiles.h"

enum {
    MIN_PAST = 16,  /* values before the first block: with fewer a model says little */
    MAX_PAST = 128, /* even where two seasons are longer */
    MAX_ITEMS = 64  /* blocks that are forecast together */
};

/* One series while it is judged. */
typedef struct hunt {
    mz_anomaly_search *search;
    mz_forecast_options options;
    const mz_series *series; /* filled */
    const int64_t *numbers;  /* [n_values] position of each value as it was read, from 1 */
    const bool *observed;    /* [n_values] */
    int64_t first;           /* value at which the first block begins */
    int64_t n_blocks;
    double *forecasts; /* [n_blocks, horizon] */
    double *errors;    /* [n_blocks, horizon] */
    double *widths;    /* [n_blocks, horizon] */
    double *below; /* [n_blocks, horizon] unit of errors below the forecast and of the band there:
                      1, or from the forecast to the edge of the model's own band of the level */
    double *above; /* [n_blocks, horizon] the same above */
    double *quantiles; /* [items together, levels of the model, horizon]; NULL: a model of points */
} hunt;

/* ---- lengths ---- */

int64_t mz_anomaly_block_len(int64_t season) {
    if (season < 2) {
        return MZ_ANOMALY_BLOCK;
    }
    const int64_t n = (MZ_ANOMALY_BLOCK + season - 1) / season * season;
    return n < MZ_ANOMALY_LONGEST_BLOCK ? n : MZ_ANOMALY_LONGEST_BLOCK;
}

static int64_t past_of(int64_t season) {
    const int64_t n = 2 * season;
    return n < MIN_PAST ? MIN_PAST : n > MAX_PAST ? MAX_PAST : n;
}

int64_t mz_anomaly_least_values(int64_t season, int64_t horizon, double level) {
    const int64_t n_blocks = (mz_anomaly_least_errors(level) + horizon - 1) / horizon;
    return past_of(season) + n_blocks * horizon + 1;
}

/* ---- the series ---- */

/* What is known of the values before gaps are filled. */
typedef struct record {
    int64_t *numbers;
    bool *observed;
} record;

/* Notes where the values stand that are left after filling: from the first to the last observed,
 * or, under DROP, the observed ones. */
static mz_status note_values(mz_context *ctx, const mz_series *series, mz_missing policy,
                             record *out) {
    int64_t last = series->n_values;
    int64_t n = 0;
    void *memory = NULL;
    MZ_TRY(mz_calloc(ctx, (size_t)series->n_values, sizeof *out->numbers, "positions", &memory));
    out->numbers = memory;
    MZ_TRY(mz_calloc(ctx, (size_t)series->n_values, sizeof *out->observed, "positions", &memory));
    out->observed = memory;
    while (last > 0 && isnan(series->values[last - 1])) {
        last--;
    }
    for (int64_t i = 0; i < last; i++) {
        const bool is_known = !isnan(series->values[i]);
        if (is_known || (n > 0 && policy != MZ_MISSING_DROP)) {
            out->numbers[n] = i + 1;
            out->observed[n++] = is_known;
        }
    }
    return MZ_OK;
}

static mz_status keep_points(mz_context *ctx, const mz_series *series, mz_anomaly_findings *out) {
    const size_t n = (size_t)series->n_values;
    void *memory = NULL;
    out->n_points = series->n_values;
    out->form = series->form;
    MZ_TRY(mz_calloc(ctx, n, sizeof(double), "series", &memory));
    out->points = memory;
    memcpy(out->points, series->values, n * sizeof(double));
    if (series->stamps != NULL) {
        MZ_TRY(mz_calloc(ctx, n, sizeof(mz_stamp), "dates", &memory));
        out->stamps = memory;
        memcpy(out->stamps, series->stamps, n * sizeof(mz_stamp));
    }
    return series->value_name != NULL ? mz_strdup(ctx, series->value_name, &out->value_name)
                                      : MZ_OK;
}

/* ---- forecasts of the past ---- */

/* The units of the values of a block, from the model's own quantiles. */
static void set_units(hunt *h, const mz_forecast_item *item) {
    const double *levels = NULL;
    const int32_t n_levels = mz_forecaster_levels(h->search->forecaster, &levels);
    const int64_t horizon = h->options.horizon;
    const double tail = (1 - h->search->level) / 2;
    const mz_quantile_blend lower = mz_quantile_blend_of(levels, n_levels, tail);
    const mz_quantile_blend upper = mz_quantile_blend_of(levels, n_levels, 1 - tail);
    double *below = h->below + (item->forecast - h->forecasts);
    double *above = h->above + (item->forecast - h->forecasts);
    for (int64_t i = 0; i < horizon; i++) {
        const double *values = item->quantiles + i;
        below[i] =
            fmin(item->forecast[i] - mz_quantile_blend_value(&lower, values, horizon), DBL_MAX);
        above[i] =
            fmin(mz_quantile_blend_value(&upper, values, horizon) - item->forecast[i], DBL_MAX);
    }
}

static mz_status run_items(hunt *h, mz_forecast_item *items, int64_t n) {
    mz_anomaly_search *s = h->search;
    const double *levels = NULL;
    const int64_t n_quantiles = mz_forecaster_levels(s->forecaster, &levels) * h->options.horizon;
    for (int64_t i = 0; i < n && h->quantiles != NULL; i++) {
        items[i].quantiles = h->quantiles + i * n_quantiles;
    }
    const mz_status status = mz_forecaster_run(s->forecaster, &h->options, items, n);
    for (int64_t i = 0; i < n && h->quantiles != NULL && status == MZ_OK; i++) {
        set_units(h, &items[i]);
    }
    s->n_done += n * h->options.horizon;
    if (status == MZ_OK && s->progress != NULL) {
        mz_progress_update(s->progress, s->n_done);
    }
    return status;
}

/* Every block from what lies before it, as many together as memory allows. */
static mz_status forecast_blocks(hunt *h, bool *interrupted) {
    const mz_forecaster *f = h->search->forecaster;
    const int64_t horizon = h->options.horizon;
    mz_forecast_item items[MAX_ITEMS];
    int64_t n = 0;
    for (int64_t b = 0; b < h->n_blocks && !*interrupted; b++) {
        const int64_t n_past = h->first + b * horizon;
        const int64_t n_values = mz_forecaster_context_len(f, &h->options, n_past);
        const mz_forecast_item item = {.values = h->series->values + (n_past - n_values),
                                       .n_values = n_values,
                                       .forecast = h->forecasts + b * horizon};
        items[n] = item;
        if (n > 0 && mz_forecaster_batch_size(f, &h->options, items, n + 1) <= n) {
            MZ_TRY(run_items(h, items, n));
            n = 0;
            items[0] = item;
        }
        n++;
        if (n == MAX_ITEMS || b + 1 == h->n_blocks) {
            MZ_TRY(run_items(h, items, n));
            n = 0;
        }
        *interrupted = mz_cli_interrupted();
    }
    return MZ_OK;
}

/* The value of the series that block position `i` forecasts; -1 where there is none to compare. */
static int64_t value_of(const hunt *h, int64_t i) {
    const int64_t at = h->first + i;
    return at < h->series->n_values && h->observed[at] ? at : -1;
}

/* An error in units; where the unit is 0 every error is beyond measure. */
static double in_units(double error, double unit) {
    return error == 0 ? 0 : fmin(error / unit, DBL_MAX);
}

static void compare_with_values(hunt *h) {
    for (int64_t i = 0; i < h->n_blocks * h->options.horizon; i++) {
        const int64_t at = value_of(h, i);
        const double error = at >= 0 ? h->series->values[at] - h->forecasts[i] : (double)NAN;
        h->errors[i] =
            at >= 0 ? in_units(fmin(fabs(error), DBL_MAX), error < 0 ? h->below[i] : h->above[i])
                    : (double)NAN;
    }
}

/* ---- findings ---- */

static bool is_outside(const hunt *h, int64_t i) {
    return h->errors[i] > h->widths[i]; /* false where one of them is NaN */
}

static double within_range(double value) {
    return fmax(-DBL_MAX, fmin(DBL_MAX, value));
}

static mz_status collect(const hunt *h, mz_anomaly_findings *out) {
    const int64_t n = h->n_blocks * h->options.horizon;
    int64_t n_outside = 0;
    void *memory = NULL;
    for (int64_t i = 0; i < n; i++) {
        out->n_judged += !isnan(h->errors[i]) && !isnan(h->widths[i]);
        n_outside += is_outside(h, i);
    }
    MZ_TRY(mz_calloc(h->search->ctx, (size_t)n_outside, sizeof(mz_anomaly), "anomalies", &memory));
    out->anomalies = memory;
    for (int64_t i = 0; i < n; i++) {
        if (is_outside(h, i)) {
            const int64_t at = value_of(h, i);
            out->anomalies[out->n_anomalies++] =
                (mz_anomaly){.index = at,
                             .number = h->numbers[at],
                             .value = h->series->values[at],
                             .expected = h->forecasts[i],
                             .lower = within_range(h->forecasts[i] - h->widths[i] * h->below[i]),
                             .upper = within_range(h->forecasts[i] + h->widths[i] * h->above[i]),
                             .score = mz_anomaly_score(h->errors[i], h->widths[i])};
        }
    }
    return MZ_OK;
}

static mz_status take(mz_context *ctx, int64_t n, const char *what, double **out) {
    void *memory = NULL;
    MZ_TRY(mz_calloc(ctx, (size_t)n, sizeof(double), what, &memory));
    *out = memory;
    return MZ_OK;
}

static mz_status judge_blocks(hunt *h, mz_anomaly_findings *out, bool *interrupted) {
    mz_context *ctx = h->search->ctx;
    const int64_t n = h->n_blocks * h->options.horizon;
    const double *levels = NULL;
    const int32_t n_levels = mz_forecaster_levels(h->search->forecaster, &levels);
    MZ_TRY(take(ctx, n, "forecasts of the past", &h->forecasts));
    MZ_TRY(take(ctx, n, "errors of the past", &h->errors));
    MZ_TRY(take(ctx, n, "bands", &h->widths));
    MZ_TRY(take(ctx, n, "bands", &h->below));
    MZ_TRY(take(ctx, n, "bands", &h->above));
    for (int64_t i = 0; i < n; i++) {
        h->below[i] = 1;
        h->above[i] = 1;
    }
    if (n_levels > 0) {
        const int64_t n_together = h->n_blocks < MAX_ITEMS ? h->n_blocks : MAX_ITEMS;
        MZ_TRY(take(ctx, n_together * n_levels * h->options.horizon, "quantiles of the model",
                    &h->quantiles));
    }
    MZ_TRY(forecast_blocks(h, interrupted));
    if (*interrupted) {
        return MZ_OK;
    }
    compare_with_values(h);
    MZ_TRY(mz_anomaly_widths(ctx, h->errors, h->n_blocks, h->options.horizon, h->search->level,
                             h->widths));
    return collect(h, out);
}

/* The options for a series of this season. */
static mz_forecast_options options_of(const mz_anomaly_search *s, int64_t season) {
    mz_forecast_options o = s->options;
    o.horizon = o.horizon > 0 ? o.horizon : mz_anomaly_block_len(season);
    if (o.context_len == 0) {
        const int64_t trained = mz_forecaster_context_len(s->forecaster, &o, MZ_ANOMALY_CONTEXT);
        o.context_len = trained;
    }
    return o;
}

static mz_status check_length(const hunt *h, int64_t season) {
    const int64_t least = mz_anomaly_least_values(season, h->options.horizon, h->search->level);
    mz_error *err = &h->search->ctx->error;
    if (h->series->n_values == 0) {
        return mz_fail(err, MZ_ERR_ARG, "no value is observed");
    }
    if (h->series->n_values < least) {
        return mz_fail(err, MZ_ERR_ARG,
                       "%lld value%s, at least %lld are needed at level %.10g in blocks of %lld",
                       (long long)h->series->n_values, mz_cli_plural(h->series->n_values),
                       (long long)least, h->search->level * 100, (long long)h->options.horizon);
    }
    return MZ_OK;
}

static mz_status judge(mz_anomaly_search *s, mz_series *series, const record *r, int64_t season,
                       mz_anomaly_findings *out, bool *interrupted) {
    mz_gap_report gaps = {0};
    hunt h = {.search = s,
              .options = options_of(s, season),
              .series = series,
              .numbers = r->numbers,
              .observed = r->observed};
    out->horizon = h.options.horizon;
    MZ_TRY(mz_series_fill(s->ctx, series, s->missing, season, &gaps));
    MZ_TRY(check_length(&h, season));
    if (gaps.n_inner > 0) {
        mz_forecast_warn(&out->warnings, "%lld missing value%s %s: not judged",
                         (long long)gaps.n_inner, mz_cli_plural(gaps.n_inner),
                         s->missing == MZ_MISSING_DROP ? "dropped" : "filled");
    }
    MZ_TRY(keep_points(s->ctx, series, out));
    h.first = past_of(season);
    h.n_blocks = (series->n_values - h.first + h.options.horizon - 1) / h.options.horizon;
    const mz_status status = judge_blocks(&h, out, interrupted);
    mz_free(s->ctx, h.quantiles);
    mz_free(s->ctx, h.above);
    mz_free(s->ctx, h.below);
    mz_free(s->ctx, h.widths);
    mz_free(s->ctx, h.errors);
    mz_free(s->ctx, h.forecasts);
    return status;
}

mz_status mz_anomaly_search_run(mz_anomaly_search *s, mz_series *series, mz_anomaly_findings *out,
                                bool *interrupted) {
    const int64_t n_before = s->n_done;
    int64_t season = 1;
    record r = {0};
    *out = (mz_anomaly_findings){.n_values = series->n_values};
    MZ_TRY(mz_strdup(s->ctx, series->id, &out->id));
    if (series->error != NULL) {
        return mz_strdup(s->ctx, series->error, &out->error);
    }
    for (int i = 0; i < series->n_notes; i++) {
        mz_forecast_warn(&out->warnings, "%s", series->notes[i]);
    }
    mz_status status = mz_series_season(s->ctx, series, s->season, &season);
    if (status == MZ_OK) {
        status = note_values(s->ctx, series, s->missing, &r);
    }
    if (status == MZ_OK) {
        status = judge(s, series, &r, season, out, interrupted);
    }
    mz_free(s->ctx, r.observed);
    mz_free(s->ctx, r.numbers);
    s->n_done = n_before + out->n_values;
    if (mz_forecast_is_about_series(status)) {
        return mz_strdup(s->ctx, mz_forecast_error_text(&s->ctx->error, out->id), &out->error);
    }
    return status;
}

void mz_anomaly_findings_close(mz_context *ctx, mz_anomaly_findings *f) {
    mz_free(ctx, f->id);
    mz_free(ctx, f->error);
    mz_free(ctx, f->value_name);
    mz_free(ctx, f->points);
    mz_free(ctx, f->stamps);
    mz_free(ctx, f->anomalies);
    *f = (mz_anomaly_findings){0};
}
