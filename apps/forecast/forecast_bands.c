/* Bands of a batch: the quantiles that the model answers, or, of a model of points, how far the
 * forecasts of the series' own past were off, from the pass that forecasts them. */
#include <math.h>

#include "apps/cli.h"
#include "apps/forecast/forecast_batch_internal.h"
#include "apps/zoo/conformal.h"
#include "apps/zoo/native_quantiles.h"

static mz_status take(mz_context *ctx, int64_t n, const char *what, double **out) {
    void *memory = NULL;
    MZ_TRY(mz_calloc(ctx, (size_t)n, sizeof(double), what, &memory));
    *out = memory;
    return MZ_OK;
}

static mz_status prepare_native(mz_forecast_batch *b, int n_items, int32_t n_levels,
                                double **memory) {
    const int64_t n = n_levels * b->options.horizon;
    MZ_TRY(take(b->ctx, n_items * n, "quantiles of the model", memory));
    for (int i = 0; i < n_items; i++) {
        b->items[i].quantiles = *memory + i * n;
    }
    return MZ_OK;
}

mz_status mz_forecast_bands_prepare(mz_forecast_batch *b, int n_items, double **memory) {
    const double *levels = NULL;
    const int32_t n_levels = mz_forecaster_levels(b->forecaster, &levels);
    const int64_t reach = mz_forecaster_reach(b->forecaster, &b->options);
    int64_t n_past = 0;
    if (n_levels > 0) {
        return prepare_native(b, n_items, n_levels, memory);
    }
    for (int i = 0; i < n_items; i++) {
        mz_forecast_item *item = &b->items[i];
        item->n_past = mz_conformal_origins(item->n_values);
        item->n_past = item->n_past < MZ_CONFORMAL_FEWEST ? 0 : item->n_past;
        n_past += item->n_past;
    }
    MZ_TRY(take(b->ctx, n_past * reach, "forecasts of the past", memory));
    double *at = *memory;
    for (int i = 0; i < n_items; i++) {
        b->items[i].past = at;
        at += b->items[i].n_past * reach;
    }
    return MZ_OK;
}

/* Forecasts of the past become absolute errors; NaN where the future was not known yet. */
static void compare_with_truth(const mz_forecast_item *item, int64_t reach) {
    for (int64_t i = 0; i < item->n_past; i++) {
        const double *truth = item->values + (item->n_values - 1 - i);
        double *row = item->past + i * reach;
        for (int64_t h = 0; h < reach; h++) {
            row[h] = h <= i ? fabs(truth[h] - row[h]) : NAN;
        }
    }
}

static mz_status set_widths(mz_forecast_batch *b, const mz_forecast_item *item,
                            mz_forecast_entry *e, double *widths) {
    const mz_forecast_quantiles *q = b->quantiles;
    const int64_t horizon = b->options.horizon;
    const int64_t reach = mz_forecaster_reach(b->forecaster, &b->options);
    if (item->n_past > 0) {
        compare_with_truth(item, reach);
        return mz_conformal_widths(b->ctx, item->past, item->n_past, reach, horizon, q->levels,
                                   q->n_levels, widths);
    }
    const int n_origins = (int)mz_conformal_origins(item->n_values);
    mz_forecast_warn(&e->warnings,
                     "bands from the series' own steps: its past allows %d forecast%s, %d are "
                     "needed",
                     n_origins, mz_cli_plural(n_origins), MZ_CONFORMAL_FEWEST);
    mz_conformal_naive_widths(item->values, item->n_values, horizon, q->levels, q->n_levels,
                              widths);
    return MZ_OK;
}

static mz_status set_conformal(mz_forecast_batch *b, const mz_forecast_item *item,
                               mz_forecast_entry *e, double *widths) {
    const mz_forecast_quantiles *q = b->quantiles;
    const int64_t horizon = b->options.horizon;
    MZ_TRY(set_widths(b, item, e, widths));
    for (int64_t k = 0; k < q->n * horizon; k++) {
        e->quantiles[k] = mz_forecast_quantile_value(q, (int)(k / horizon), e->forecast, widths,
                                                     horizon, k % horizon);
    }
    return MZ_OK;
}

static void set_native(const mz_forecast_batch *b, const mz_forecast_item *item,
                       mz_forecast_entry *e) {
    const double *levels = NULL;
    const int32_t n_levels = mz_forecaster_levels(b->forecaster, &levels);
    const int64_t horizon = b->options.horizon;
    for (int i = 0; i < b->quantiles->n; i++) {
        const mz_quantile_blend blend =
            mz_quantile_blend_of(levels, n_levels, b->quantiles->items[i].q);
        for (int64_t h = 0; h < horizon; h++) {
            e->quantiles[i * horizon + h] =
                mz_quantile_blend_value(&blend, item->quantiles + h, horizon);
        }
    }
}

mz_status mz_forecast_bands(mz_forecast_batch *b) {
    double *widths = NULL;
    const mz_forecast_item *item = b->items;
    MZ_TRY(take(b->ctx, b->quantiles->n_levels * b->options.horizon, "bands", &widths));
    mz_status status = MZ_OK;
    for (int i = 0; i < b->n_ready && status == MZ_OK; i++) {
        mz_forecast_entry *e = &b->entries[i];
        if (e->forecast == NULL) {
            continue; /* it never had an item */
        }
        if (e->error == NULL && item->quantiles != NULL) {
            set_native(b, item, e);
        } else if (e->error == NULL) {
            status = set_conformal(b, item, e, widths);
        }
        item++;
    }
    mz_free(b->ctx, widths);
    return status;
}
