/* Bands of a batch: forecasts of the past of all its series, gathered into batches of their own. */
#include <float.h>
#include <math.h>

#include "apps/forecast_batch_internal.h"
#include "apps/zoo/conformal.h"

enum { MAX_PENDING_VALUES = 1 << 20 }; /* of forecasts that wait to be compared */

/* One forecast of the past. */
typedef struct origin {
    const mz_forecast_entry *entry;
    int64_t n_past;
    double *errors; /* [horizon] */
} origin;

typedef struct calibration {
    mz_forecast_batch *batch;
    mz_forecast_item items[MZ_FORECAST_BATCH];
    origin origins[MZ_FORECAST_BATCH];
    int n, max_items;
    double *forecasts; /* [max_items, horizon] */
    double *errors;    /* [n_ready, MZ_CONFORMAL_ORIGINS, horizon] */
    double *widths;    /* [n_levels, horizon] */
} calibration;

static void compare_with_truth(const calibration *c, int i) {
    const origin *o = &c->origins[i];
    const double *truth = o->entry->values + o->n_past;
    for (int64_t h = 0; h < c->batch->options.horizon; h++) {
        const bool is_known = o->n_past + h < o->entry->n_values;
        o->errors[h] = is_known ? fmin(fabs(truth[h] - c->items[i].forecast[h]), DBL_MAX) : NAN;
    }
}

/* Runs what is pending. An origin that cannot be forecast leaves no errors. */
static mz_status flush(calibration *c) {
    mz_forecast_batch *b = c->batch;
    if (c->n == 0) {
        return MZ_OK;
    }
    const mz_status status = mz_forecaster_run(b->forecaster, &b->options, c->items, c->n);
    if (status != MZ_OK && !mz_forecast_is_about_series(status)) {
        return status;
    }
    for (int i = 0; i < c->n; i++) {
        for (int64_t h = 0; status != MZ_OK && h < b->options.horizon; h++) {
            c->origins[i].errors[h] = NAN;
        }
        if (status == MZ_OK) {
            compare_with_truth(c, i);
        }
    }
    c->n = 0;
    return MZ_OK;
}

static mz_status add_origin(calibration *c, const mz_forecast_entry *e, int64_t n_past,
                            double *errors) {
    mz_forecast_batch *b = c->batch;
    const int64_t n = mz_forecaster_context_len(b->forecaster, &b->options, n_past);
    const mz_forecast_item item = {.values = e->values + (n_past - n), .n_values = n};
    c->items[c->n] = item;
    if (c->n > 0 &&
        mz_forecaster_batch_size(b->forecaster, &b->options, c->items, c->n + 1) <= c->n) {
        MZ_TRY(flush(c));
        c->items[0] = item;
    }
    c->items[c->n].forecast = c->forecasts + (int64_t)c->n * b->options.horizon;
    c->origins[c->n] = (origin){.entry = e, .n_past = n_past, .errors = errors};
    c->n++;
    return c->n == c->max_items ? flush(c) : MZ_OK;
}

static mz_status set_quantiles(calibration *c, mz_forecast_entry *e, int n_origins,
                               const double *errors) {
    const mz_forecast_batch *b = c->batch;
    const mz_forecast_quantiles *q = b->quantiles;
    const int64_t horizon = b->options.horizon;
    if (n_origins >= MZ_CONFORMAL_FEWEST) {
        MZ_TRY(mz_conformal_widths(b->ctx, errors, n_origins, horizon, q->levels, q->n_levels,
                                   c->widths));
    } else {
        mz_forecast_warn(&e->warnings,
                         "bands from the series' own steps: its past allows %d forecast%s, %d are "
                         "needed",
                         n_origins, n_origins == 1 ? "" : "s", MZ_CONFORMAL_FEWEST);
        mz_conformal_naive_widths(e->values, e->n_values, horizon, q->levels, q->n_levels,
                                  c->widths);
    }
    for (int i = 0; i < q->n; i++) {
        for (int64_t h = 0; h < horizon; h++) {
            e->quantiles[i * horizon + h] =
                mz_forecast_quantile_value(q, i, e->forecast, c->widths, horizon, h);
        }
    }
    return MZ_OK;
}

static mz_status calibrate(calibration *c) {
    mz_forecast_batch *b = c->batch;
    int64_t past[MZ_CONFORMAL_ORIGINS];
    const int64_t stride = MZ_CONFORMAL_ORIGINS * b->options.horizon;
    for (int i = 0; i < b->n_ready; i++) {
        const mz_forecast_entry *e = &b->entries[i];
        const int n =
            e->error == NULL ? mz_conformal_origins(e->n_values, b->options.horizon, past) : 0;
        for (int k = 0; n >= MZ_CONFORMAL_FEWEST && k < n; k++) {
            MZ_TRY(add_origin(c, e, past[k], c->errors + i * stride + k * b->options.horizon));
        }
    }
    MZ_TRY(flush(c));
    for (int i = 0; i < b->n_ready; i++) {
        mz_forecast_entry *e = &b->entries[i];
        if (e->error == NULL) {
            const int n = mz_conformal_origins(e->n_values, b->options.horizon, past);
            MZ_TRY(set_quantiles(c, e, n, c->errors + i * stride));
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

static mz_status open_calibration(calibration *c, mz_forecast_batch *b) {
    const int64_t horizon = b->options.horizon;
    const int64_t most = MAX_PENDING_VALUES / horizon;
    c->batch = b;
    c->max_items = (int)(most < 1 ? 1 : most < MZ_FORECAST_BATCH ? most : MZ_FORECAST_BATCH);
    MZ_TRY(take(b->ctx, c->max_items * horizon, "forecasts of the past", &c->forecasts));
    MZ_TRY(take(b->ctx, b->n_ready * MZ_CONFORMAL_ORIGINS * horizon, "errors of the past",
                &c->errors));
    return take(b->ctx, b->quantiles->n_levels * horizon, "bands", &c->widths);
}

mz_status mz_forecast_bands(mz_forecast_batch *b) {
    void *memory = NULL;
    MZ_TRY(mz_calloc(b->ctx, 1, sizeof(calibration), "bands", &memory));
    calibration *c = memory;
    mz_status status = open_calibration(c, b);
    if (status == MZ_OK) {
        status = calibrate(c);
    }
    mz_free(b->ctx, c->widths);
    mz_free(b->ctx, c->errors);
    mz_free(b->ctx, c->forecasts);
    mz_free(b->ctx, c);
    return status;
}
